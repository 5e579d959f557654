"""A job keeps the wire format by which it came: its webhook is told in it."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("dialect", sa.Text, nullable=False, server_default="runpod"))
