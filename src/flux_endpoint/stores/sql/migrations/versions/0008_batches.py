"""Batches: drafts of jobs, and which jobs came of which batch."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_sequence = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "batches",
        sa.Column("seq", _sequence, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("endpoint_id", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("name", sa.Text),
        sa.Column("webhook", sa.Text),
        sa.PrimaryKeyConstraint("seq", name="pk_batches"),
        sa.UniqueConstraint("id", name="uq_batches_id"),
    )
    op.create_index("batches_by_arrival", "batches", ["endpoint_id", "created_ms", "seq"])
    op.create_table(
        "batch_requests",
        sa.Column("seq", _sequence, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("batch_id", sa.Text, nullable=False),
        sa.Column("input", sa.JSON, nullable=False),
        sa.Column("cost_units", sa.BigInteger, nullable=False),
        sa.Column("execution_timeout_ms", sa.BigInteger, nullable=False),
        sa.Column("ttl_ms", sa.BigInteger),
        sa.Column("low_priority", sa.Integer, nullable=False),
        sa.Column("webhook", sa.Text),
        sa.Column("s3_config", sa.JSON),
        sa.PrimaryKeyConstraint("seq", name="pk_batch_requests"),
        sa.UniqueConstraint("id", name="uq_batch_requests_id"),
    )
    op.create_index("batch_requests_by_batch", "batch_requests", ["batch_id", "seq"])
    op.add_column("jobs", sa.Column("batch_id", sa.Text))
    where = sa.text("batch_id IS NOT NULL")
    op.create_index("jobs_by_batch", "jobs", ["batch_id", "status"], sqlite_where=where, postgresql_where=where)
