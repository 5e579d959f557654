"""How long workers took to start, for the page of usage."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "cold_starts",
        sa.Column("worker_id", sa.Text, nullable=False),
        sa.Column("duration_ms", sa.BigInteger, nullable=False),
        sa.Column("endpoint_id", sa.Text, nullable=False),
        sa.Column("ready_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("worker_id", "duration_ms", "endpoint_id", name="pk_cold_starts"),
    )
    op.create_index("cold_starts_by_time", "cold_starts", ["ready_ms"])
