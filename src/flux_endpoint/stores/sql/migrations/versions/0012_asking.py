"""When a worker last asked for a job: one that only pings is not idle."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("workers", sa.Column("asked_ms", sa.BigInteger, nullable=False, server_default="0"))
