"""Policy, webhook, bucket, retention, progress and idempotency of a job."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# What Runpod grants when nothing is said; jobs from before had no limit.
_EXECUTION_TIMEOUT_MS = "600000"


def upgrade() -> None:
    for column in (
        sa.Column("execution_timeout_ms", sa.BigInteger, nullable=False, server_default=_EXECUTION_TIMEOUT_MS),
        sa.Column("ttl_ms", sa.BigInteger),
        sa.Column("low_priority", sa.Integer, nullable=False, server_default="0"),
        sa.Column("webhook", sa.Text),
        sa.Column("s3_config", sa.JSON),
        sa.Column("retention_ms", sa.BigInteger),
        sa.Column("expires_ms", sa.BigInteger),
        sa.Column("progress", sa.JSON),
        sa.Column("once_name", sa.Text),
        sa.Column("once_hash", sa.Text),
    ):
        op.add_column("jobs", column)
    _create_partial_index("jobs_by_expiry", ["expires_ms"], "expires_ms > 0")
    _create_partial_index("jobs_once", ["key_id", "endpoint_id", "once_name"], "once_name IS NOT NULL", unique=True)
    op.create_index("jobs_by_arrival", "jobs", ["endpoint_id", "created_ms", "seq"])


def _create_partial_index(name: str, columns: list[str], where: str, *, unique: bool = False) -> None:
    op.create_index(name, "jobs", columns, unique=unique, sqlite_where=sa.text(where), postgresql_where=sa.text(where))
