"""The index of ended jobs holds the figures that usage is told from, so that 100,000 rows need not be read."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    where = sa.text("finished_ms IS NOT NULL")
    op.drop_index("jobs_by_end", "jobs")
    op.create_index(
        "jobs_by_end",
        "jobs",
        ["finished_ms", "endpoint_id", "status", "started_ms", "queued_ms", "retries"],
        sqlite_where=where,
        postgresql_where=where,
    )
