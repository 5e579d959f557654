"""A job keeps what of its request is not heeded, for whoever reads its output."""

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("jobs", "batch_requests"):
        op.add_column(name, sa.Column("warnings", sa.JSON().with_variant(sa.Text, "sqlite")))
