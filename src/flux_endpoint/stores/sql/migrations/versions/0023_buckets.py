"""Buckets of clients are kept in the product's own words; before, in those of one wire format."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

_NAMES = {
    "endpointUrl": "endpoint_url",
    "bucketName": "name",
    "accessId": "access_id",
    "accessSecret": "access_secret",
    "objectPath": "path",
    "region": "region",
}
_FIELDS = {"field": "s3Config", "url_field": "s3Config.endpointUrl"}


def upgrade() -> None:
    for name in ("jobs", "batch_requests"):
        op.execute(f"ALTER TABLE {name} RENAME COLUMN s3_config TO bucket")
        table = sa.table(
            name, sa.column("seq", sa.BigInteger), sa.column("bucket", sa.JSON().with_variant(sa.Text, "sqlite"))
        )
        connection = op.get_bind()
        for row in connection.execute(sa.select(table).where(table.c.bucket.is_not(None))).all():
            is_text = isinstance(row.bucket, str)
            before = json.loads(row.bucket) if is_text else row.bucket
            if before is None:
                continue
            after = {_NAMES[key]: value for key, value in before.items() if key in _NAMES} | _FIELDS
            kept = json.dumps(after, separators=(",", ":")) if is_text else after
            connection.execute(sa.update(table).where(table.c.seq == row.seq).values(bucket=kept))
