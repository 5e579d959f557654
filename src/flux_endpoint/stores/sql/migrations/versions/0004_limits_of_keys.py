"""Limits of API keys, and the sums that bills and budgets are read from."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for column in (
        sa.Column("is_read_only", sa.Integer, nullable=False, server_default="0"),
        sa.Column("endpoint_ids", sa.JSON),
        sa.Column("units_per_month", sa.BigInteger),
        sa.Column("requests_per_minute", sa.Integer),
    ):
        op.add_column("api_keys", column)
    unfinished = sa.text("finished_ms IS NULL")
    op.create_index(
        "jobs_promised", "jobs", ["key_id", "cost_units"], sqlite_where=unfinished, postgresql_where=unfinished
    )
    op.create_table(
        "charges_by_hour",
        sa.Column("hour_ms", sa.BigInteger, nullable=False),
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("endpoint_id", sa.Text, nullable=False),
        sa.Column("charges", sa.BigInteger, nullable=False),
        sa.Column("amount_units", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("hour_ms", "key_id", "endpoint_id", name="pk_charges_by_hour"),
        sqlite_with_rowid=False,
    )
    op.create_index("charges_by_key", "charges_by_hour", ["key_id", "hour_ms"])
    op.execute(
        "INSERT INTO charges_by_hour (hour_ms, key_id, endpoint_id, charges, amount_units) "
        "SELECT created_ms - created_ms % 3600000, key_id, endpoint_id, COUNT(*), SUM(amount_units) FROM ledger "
        "GROUP BY created_ms - created_ms % 3600000, key_id, endpoint_id"
    )
