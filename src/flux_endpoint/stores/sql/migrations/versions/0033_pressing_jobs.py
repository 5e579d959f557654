"""Waiting jobs that are not of low priority have an index of their own."""

import sqlalchemy as sa
from alembic import op

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None


def upgrade() -> None:
    where = sa.text("status = 'IN_QUEUE' AND low_priority = 0")
    columns = ["endpoint_id", "status", "low_priority", "created_ms", "seq"]
    op.create_index("jobs_pressing", "jobs", columns, sqlite_where=where, postgresql_where=where)
