"""Indexes of the jobs of one key and of refused requests; batches know who made them."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("jobs_of_key", "jobs", ["key_id", "endpoint_id", "status", "created_ms", "seq"])
    refused = sa.text("status = 'FAILED' AND started_ms IS NULL")
    op.create_index(
        "jobs_refused",
        "jobs",
        ["endpoint_id", "status", "started_ms", "key_id"],
        sqlite_where=refused,
        postgresql_where=refused,
    )
    ended = sa.text("finished_ms IS NOT NULL")
    op.drop_index("jobs_by_end", "jobs")
    op.create_index(
        "jobs_by_end",
        "jobs",
        ["finished_ms", "endpoint_id", "status", "started_ms", "queued_ms", "retries", "key_id"],
        sqlite_where=ended,
        postgresql_where=ended,
    )
    op.add_column("batches", sa.Column("key_id", sa.Text))
    # Of drafts nobody knows it: owners see them. All others have jobs.
    op.execute("UPDATE batches SET key_id = (SELECT min(key_id) FROM jobs WHERE jobs.batch_id = batches.id)")
