"""SQLite keeps JSON as text: in a column declared JSON a bare number of more than 64 bits became another one.

What it has made of such numbers stays. One that became infinite, which no answer can show, is taken for no result.
"""

import json

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_COLUMNS = {
    "jobs": ["input", "output", "s3_config", "progress"],
    "chunks": ["output"],
    "batch_requests": ["input", "s3_config"],
    "api_keys": ["endpoint_ids"],
    "worker_tokens": ["endpoint_ids"],
    "workers": ["endpoint_ids"],
    "webhook_deliveries": ["job"],
}


def upgrade() -> None:
    connection = op.get_bind()
    if connection.dialect.name != "sqlite":
        return
    connection.execute(sa.text("UPDATE jobs SET output = NULL WHERE abs(output) = 9e999 AND typeof(output) = 'real'"))
    connection.execute(sa.text("DELETE FROM chunks WHERE abs(output) = 9e999 AND typeof(output) = 'real'"))
    # SQLite itself would write them with 15 digits.
    fractions = {
        table: connection.execute(sa.text(f"SELECT seq, output FROM {table} WHERE typeof(output) = 'real'")).all()
        for table in ("jobs", "chunks")
    }
    for table, columns in _COLUMNS.items():
        with op.batch_alter_table(table) as batch:
            for column in columns:
                batch.alter_column(column, existing_type=sa.JSON(), type_=sa.Text())
    for table, rows in fractions.items():
        update = sa.text(f"UPDATE {table} SET output = :output WHERE seq = :seq")
        for seq, number in rows:
            connection.execute(update, {"seq": seq, "output": json.dumps(number)})
