"""First tables: jobs, API keys and the ledger of charges."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_sequence = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "jobs",
        sa.Column("seq", _sequence, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("endpoint_id", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("input", sa.JSON, nullable=False),
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("cost_units", sa.BigInteger, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("queued_ms", sa.BigInteger, nullable=False),
        sa.Column("started_ms", sa.BigInteger),
        sa.Column("finished_ms", sa.BigInteger),
        sa.Column("worker_id", sa.Text),
        sa.Column("claim_token", sa.BigInteger, nullable=False),
        sa.Column("retries", sa.Integer, nullable=False),
        sa.Column("output", sa.JSON),
        sa.Column("error", sa.Text),
        sa.Column("lease_expires_ms", sa.BigInteger),
        sa.PrimaryKeyConstraint("seq", name="pk_jobs"),
        sa.UniqueConstraint("id", name="uq_jobs_id"),
    )
    op.create_index("jobs_by_place", "jobs", ["endpoint_id", "status", "created_ms", "seq"])
    _create_partial_index("jobs_leased", ["worker_id", "lease_expires_ms"], "lease_expires_ms IS NOT NULL")
    _create_partial_index("jobs_by_end", ["finished_ms"], "finished_ms IS NOT NULL")
    _create_partial_index("jobs_retried", ["endpoint_id", "retries"], "retries > 0")
    op.create_table(
        "api_keys",
        sa.Column("seq", _sequence, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("secret_hash", sa.Text, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("revoked_ms", sa.BigInteger),
        sa.PrimaryKeyConstraint("seq", name="pk_api_keys"),
        sa.UniqueConstraint("id", name="uq_api_keys_id"),
        sa.UniqueConstraint("secret_hash", name="uq_api_keys_secret_hash"),
    )
    op.create_table(
        "ledger",
        sa.Column("seq", _sequence, nullable=False),
        sa.Column("job_id", sa.Text, nullable=False),
        sa.Column("endpoint_id", sa.Text, nullable=False),
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("amount_units", sa.BigInteger, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_ledger"),
        sa.UniqueConstraint("job_id", name="uq_ledger_job_id"),
    )
    op.create_index("ledger_by_key", "ledger", ["key_id", "seq"])


def _create_partial_index(name: str, columns: list[str], where: str) -> None:
    op.create_index(name, "jobs", columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))
