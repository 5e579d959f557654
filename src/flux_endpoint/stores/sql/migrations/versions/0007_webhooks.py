"""The outbox and log of webhooks, and the secrets that sign them."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "webhook_deliveries",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("job_id", sa.Text, nullable=False),
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("job", sa.JSON),
        sa.Column("url", sa.Text),
        sa.Column("shown_url", sa.Text, nullable=False),
        sa.Column("origin", sa.Text, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("due_ms", sa.BigInteger),
        sa.Column("ended_ms", sa.BigInteger),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("claim_token", sa.BigInteger, nullable=False),
        sa.Column("gateway", sa.Text),
        sa.Column("code", sa.Integer),
        sa.Column("error", sa.Text),
        sa.PrimaryKeyConstraint("seq", name="pk_webhook_deliveries"),
        sa.UniqueConstraint("id", name="uq_webhook_deliveries_id"),
    )
    _create_partial_index("webhook_deliveries_due", ["due_ms", "seq"], "due_ms IS NOT NULL")
    _create_partial_index("webhook_deliveries_by_end", ["ended_ms"], "ended_ms IS NOT NULL")
    op.create_index("webhook_deliveries_by_job", "webhook_deliveries", ["job_id"])
    op.create_table(
        "webhook_secrets",
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("secret", sa.Text, nullable=False),
        sa.Column("previous", sa.Text),
        sa.Column("previous_until_ms", sa.BigInteger),
        sa.PrimaryKeyConstraint("key_id", name="pk_webhook_secrets"),
    )


def _create_partial_index(name: str, columns: list[str], where: str) -> None:
    op.create_index(name, "webhook_deliveries", columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))
