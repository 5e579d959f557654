"""An index that PostgreSQL no longer mistakes for the one that claims need."""

from alembic import op

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_index("jobs_by_arrival", "jobs")
    op.create_index("jobs_by_arrival", "jobs", ["endpoint_id", "created_ms"])
