"""Idempotency-Keys in a table of their own, because they live longer than the results of their jobs."""

import hashlib

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    names = op.create_table(
        "once_names",
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("endpoint_id", sa.Text, nullable=False),
        sa.Column("name_hash", sa.Text, nullable=False),
        sa.Column("request_hash", sa.Text, nullable=False),
        sa.Column("job_id", sa.Text, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("key_id", "endpoint_id", "name_hash", name="pk_once_names"),
    )
    op.create_index("once_names_by_time", "once_names", ["created_ms"])
    known = op.get_bind().execute(
        sa.text(
            "SELECT key_id, endpoint_id, once_name, once_hash, id, created_ms FROM jobs WHERE once_name IS NOT NULL"
        )
    )
    rows = [
        {
            "key_id": row.key_id,
            "endpoint_id": row.endpoint_id,
            "name_hash": hashlib.sha256(row.once_name.encode()).hexdigest(),
            "request_hash": row.once_hash,
            "job_id": row.id,
            "created_ms": row.created_ms,
        }
        for row in known
    ]
    op.bulk_insert(names, rows)
    op.drop_index("jobs_once", "jobs")
    op.drop_column("jobs", "once_name")
    op.drop_column("jobs", "once_hash")
