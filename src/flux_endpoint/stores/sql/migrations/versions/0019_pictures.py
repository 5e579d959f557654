"""Whose a picture is while it is on its way."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("drawn_by", sa.Text))
    op.create_table(
        "pending_pictures",
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("job_id", sa.Text, nullable=False),
        sa.Column("claim_token", sa.BigInteger, nullable=False),
        sa.Column("reserved_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_pending_pictures"),
        sa.UniqueConstraint("job_id", "claim_token", name="uq_pending_pictures_job_id"),
    )
    op.create_index("pending_pictures_by_time", "pending_pictures", ["reserved_ms"])
