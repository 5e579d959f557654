"""What gateways tell each other of the requests they let in."""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Lost in a crash, and cheap to write: nobody needs it for longer than a minute.
    is_postgres = op.get_bind().dialect.name == "postgresql"
    op.create_table(
        "admissions",
        sa.Column("counter", sa.Text, nullable=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.Column("gateway", sa.Text, nullable=False),
        sa.Column("requests", sa.Integer, nullable=False),
        prefixes=["UNLOGGED"] if is_postgres else [],
    )
    op.create_index("admissions_by_counter", "admissions", ["counter", "at_ms"])
    op.create_index("admissions_by_time", "admissions", ["at_ms"])
