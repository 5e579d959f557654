"""Idempotency-Keys in a table of their own, because they live longer than the results of their jobs."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "once_names",
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("endpoint_id", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("request_hash", sa.Text, nullable=False),
        sa.Column("job_id", sa.Text, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("key_id", "endpoint_id", "name", name="pk_once_names"),
    )
    op.create_index("once_names_by_time", "once_names", ["created_ms"])
    op.execute(
        "INSERT INTO once_names (key_id, endpoint_id, name, request_hash, job_id, created_ms) "
        "SELECT key_id, endpoint_id, once_name, once_hash, id, created_ms FROM jobs WHERE once_name IS NOT NULL"
    )
    op.drop_index("jobs_once", "jobs")
    op.drop_column("jobs", "once_name")
    op.drop_column("jobs", "once_hash")
