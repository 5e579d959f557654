"""Receivers of webhooks that keep failing, and what fair shares among receivers are counted by."""

import sqlalchemy as sa
from alembic import op

from flux_endpoint.core.outbound import host_of

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("webhook_deliveries", sa.Column("host", sa.Text, nullable=False, server_default=sa.text("''")))
    deliveries = sa.table("webhook_deliveries", sa.column("origin"), sa.column("host"))
    op.create_index("webhook_deliveries_origin", "webhook_deliveries", ["origin"])
    for origin in op.get_bind().scalars(sa.select(deliveries.c.origin).distinct()).all():
        op.execute(sa.update(deliveries).where(deliveries.c.origin == origin).values(host=host_of(origin)))
    op.drop_index("webhook_deliveries_origin", "webhook_deliveries")
    op.drop_index("webhook_deliveries_due", "webhook_deliveries")
    receiver = ["key_id", "host", "origin"]
    _create_partial_index("webhook_deliveries_due", ["due_ms", "seq", *receiver], "due_ms IS NOT NULL")
    _create_partial_index("webhook_deliveries_by_receiver", ["key_id", "origin", "due_ms"], "due_ms IS NOT NULL")
    _create_partial_index("webhook_deliveries_held", ["due_ms", *receiver], "gateway IS NOT NULL")
    op.create_table(
        "webhook_receivers",
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("origin", sa.Text, nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("since_ms", sa.BigInteger, nullable=False),
        sa.Column("seen_ms", sa.BigInteger, nullable=False),
        sa.Column("paused_until_ms", sa.BigInteger),
        sa.Column("error", sa.Text),
        sa.PrimaryKeyConstraint("key_id", "origin", name="pk_webhook_receivers"),
    )


def _create_partial_index(name: str, columns: list[str], where: str) -> None:
    op.create_index(name, "webhook_deliveries", columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))
