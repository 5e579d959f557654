"""Chunks: what a running job sends its client before the end."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "chunks",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False),
        sa.Column("job_id", sa.Text, nullable=False),
        sa.Column("output", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_chunks"),
    )
    op.create_index("chunks_by_job", "chunks", ["job_id", "seq"])
