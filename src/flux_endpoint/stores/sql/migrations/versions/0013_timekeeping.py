"""What the gateways on one database agree on about its clock."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "timekeeping",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("read_ms", sa.BigInteger, nullable=False),
        sa.Column("moved_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_timekeeping"),
    )
    op.execute("INSERT INTO timekeeping (id, read_ms, moved_ms) VALUES (1, 0, 0)")
