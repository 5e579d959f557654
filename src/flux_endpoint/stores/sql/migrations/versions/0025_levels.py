"""The speed level of each charged job: estimates compare jobs at the same one."""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("ledger", sa.Column("acceleration", sa.Text))
