"""The table of pictures on their way; beside those of `schema.py`."""

from typing import Final

from sqlalchemy import BigInteger, Column, Index, Table, Text, UniqueConstraint

from flux_endpoint.stores.sql.columns import metadata

# Pictures that are being saved and that no job names yet. The end of a job that names one deletes its row in the same
# transaction; what stays when the claim is over is an orphan. A picture without a row is some job's, erased or not.
pending_pictures: Final = Table(
    "pending_pictures",
    metadata,
    Column("key", Text, primary_key=True),
    Column("job_id", Text, nullable=False),
    Column("claim_token", BigInteger, nullable=False),
    Column("reserved_ms", BigInteger, nullable=False),
    # One picture for one attempt.
    UniqueConstraint("job_id", "claim_token"),
)
Index("pending_pictures_by_time", pending_pictures.c.reserved_ms)
