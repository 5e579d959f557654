"""How long each charged job took and how much work it was: what estimates are made from."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("ledger", sa.Column("execution_ms", sa.BigInteger))
    op.add_column("ledger", sa.Column("work", sa.Double))
    op.create_index("ledger_by_endpoint", "ledger", ["endpoint_id", "seq"])
