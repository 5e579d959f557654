"""Each API key reads a job's chunks for itself: they stay until the job is erased."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "chunk_readers",
        sa.Column("job_id", sa.Text, nullable=False),
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("job_id", "key_id", name="pk_chunk_readers"),
        sqlite_with_rowid=False,
    )
    if op.get_bind().dialect.name == "sqlite":
        # Numbers of rows that were deleted are not used again; PostgreSQL never does.
        with op.batch_alter_table("chunks", recreate="always", table_kwargs={"sqlite_autoincrement": True}):
            pass
