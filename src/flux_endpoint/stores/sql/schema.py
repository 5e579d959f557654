"""The tables. Money is whole hundred-millionths of a dollar, times are milliseconds since 1970-01-01 UTC."""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    Index,
    Integer,
    Table,
    UniqueConstraint,
    and_,
    literal_column,
)

from flux_endpoint.core.job import FIRST_DIALECT
from flux_endpoint.stores.sql.columns import JSON_VALUE, SEQUENCE, Text, metadata

jobs: Final = Table(
    "jobs",
    metadata,
    # Order of arrival among jobs created in the same millisecond.
    Column("seq", SEQUENCE, primary_key=True),
    Column("id", Text, nullable=False),
    Column("endpoint_id", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("input", JSON_VALUE, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("cost_units", BigInteger, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("queued_ms", BigInteger, nullable=False),
    Column("started_ms", BigInteger),
    Column("finished_ms", BigInteger),
    Column("worker_id", Text),
    Column("drawn_by", Text),  # the worker that handed in the picture, when somebody else holds the job since
    Column("claim_token", BigInteger, nullable=False),
    Column("retries", Integer, nullable=False),
    Column("output", JSON_VALUE),
    Column("error", Text),
    # Until when `worker_id` holds the job. On a CANCELLED or TIMED_OUT job: its worker has not been told to stop.
    Column("lease_expires_ms", BigInteger),
    Column("execution_timeout_ms", BigInteger, nullable=False, server_default="600000"),
    # Only where the client named one.
    Column("ttl_ms", BigInteger),
    Column("low_priority", Integer, nullable=False, server_default="0"),
    Column("webhook", Text),
    Column("bucket", JSON_VALUE),
    Column("retention_ms", BigInteger),
    # Nobody can read the job from then on. 0: it is over, and what the client sent and got has been erased.
    Column("expires_ms", BigInteger),
    Column("progress", JSON_VALUE),
    Column("batch_id", Text),
    # Scheme, host, port and prefix that the client asked.
    Column("origin", Text),
    Column("dialect", Text, nullable=False, server_default=FIRST_DIALECT),
    # What of the request is not heeded: a list of sentences, or null.
    Column("warnings", JSON_VALUE),
    # The span of its request, where somebody traces.
    Column("traceparent", Text),
    UniqueConstraint("id"),
)

# Serves the claim (oldest first on an endpoint) and the counts. Ordered by submission, not by `queued_ms`: a job that
# lost its worker does not go to the back.
Index("jobs_by_place", jobs.c.endpoint_id, jobs.c.status, jobs.c.created_ms, jobs.c.seq)
# The partial indexes stay as small as the work in flight, however many finished jobs are kept.
_leased = jobs.c.lease_expires_ms.is_not(None)
# Serves the stops of one worker, and the sweep, which reads all of it.
Index("jobs_leased", jobs.c.worker_id, jobs.c.lease_expires_ms, sqlite_where=_leased, postgresql_where=_leased)
# To ask for them; every lease is in the range. PostgreSQL without statistics takes what is not null for nearly all rows
# and would read the table; what is in a range it takes for few.
is_leased: Final = and_(
    _leased,
    jobs.c.lease_expires_ms >= literal_column("0"),
    jobs.c.lease_expires_ms < literal_column(str(2**62)),
)
_ended = jobs.c.finished_ms.is_not(None)
# Serves the deletion of old jobs, and holds all that usage is told from.
Index(
    "jobs_by_end",
    jobs.c.finished_ms,
    jobs.c.endpoint_id,
    jobs.c.status,
    jobs.c.started_ms,
    jobs.c.queued_ms,
    jobs.c.retries,
    jobs.c.key_id,
    sqlite_where=_ended,
    postgresql_where=_ended,
)
# Serves what a key sees that sees its own jobs only: counts, listings, the purge.
Index("jobs_of_key", jobs.c.key_id, jobs.c.endpoint_id, jobs.c.status, jobs.c.created_ms, jobs.c.seq)
# Requests that were refused at the door: they have a record, but never were jobs. Without a parameter, because a
# database takes a partial index only for a question with the same words.
is_refused: Final = and_(jobs.c.status == literal_column("'FAILED'"), jobs.c.started_ms.is_(None))
Index(
    "jobs_refused",
    jobs.c.endpoint_id,
    # The same in every row. SQLite takes the index that has most of what a question names.
    jobs.c.status,
    jobs.c.started_ms,
    jobs.c.key_id,
    sqlite_where=is_refused,
    postgresql_where=is_refused,
)
# Waiting jobs that are not of low priority: what starts a worker, and what a busy one takes. They may stand behind very
# many that are.
is_pressing: Final = and_(jobs.c.status == literal_column("'IN_QUEUE'"), jobs.c.low_priority == literal_column("0"))
Index(
    "jobs_pressing",
    jobs.c.endpoint_id,
    # The same in every row, as in `jobs_refused`.
    jobs.c.status,
    jobs.c.low_priority,
    jobs.c.created_ms,
    jobs.c.seq,
    sqlite_where=is_pressing,
    postgresql_where=is_pressing,
)
# What a key has promised to pay.
_unfinished = jobs.c.finished_ms.is_(None)
Index("jobs_promised", jobs.c.key_id, jobs.c.cost_units, sqlite_where=_unfinished, postgresql_where=_unfinished)
_retried = jobs.c.retries > 0
Index("jobs_retried", jobs.c.endpoint_id, jobs.c.retries, sqlite_where=_retried, postgresql_where=_retried)

_expiring = jobs.c.expires_ms > 0
Index("jobs_by_expiry", jobs.c.expires_ms, sqlite_where=_expiring, postgresql_where=_expiring)
_batched = jobs.c.batch_id.is_not(None)
Index("jobs_by_batch", jobs.c.batch_id, jobs.c.status, sqlite_where=_batched, postgresql_where=_batched)
# Serves the listing of recent jobs. Not in the very order of claims: PostgreSQL would take it for them, as long as it
# has no statistics, and pass over every job that has ended.
Index("jobs_by_arrival", jobs.c.endpoint_id, jobs.c.created_ms)

# What a job has sent its client, until the job is erased.
chunks: Final = Table(
    "chunks",
    metadata,
    # Readers remember how far they have come: no number is used twice.
    Column("seq", SEQUENCE, primary_key=True),
    Column("job_id", Text, nullable=False),
    Column("output", JSON_VALUE, nullable=False),
    sqlite_autoincrement=True,
)
Index("chunks_by_job", chunks.c.job_id, chunks.c.seq)

# How far each API key has read.
chunk_readers: Final = Table(
    "chunk_readers",
    metadata,
    Column("job_id", Text, primary_key=True),
    Column("key_id", Text, primary_key=True),
    # The last chunk that it was handed; 0 before the first.
    Column("seq", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

# Idempotency-Keys of clients. They outlive the results of their jobs, and may outlive the jobs' records.
idempotency_keys: Final = Table(
    "once_names",
    metadata,
    Column("key_id", Text, primary_key=True),
    Column("endpoint_id", Text, primary_key=True),
    Column("name_hash", Text, primary_key=True),
    # Of the body that came with it.
    Column("request_hash", Text, nullable=False),
    Column("job_id", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
)
Index("once_names_by_time", idempotency_keys.c.created_ms)

batches: Final = Table(
    "batches",
    metadata,
    Column("seq", SEQUENCE, primary_key=True),
    Column("id", Text, nullable=False),
    Column("endpoint_id", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("name", Text),
    Column("webhook", Text),
    # Who made it. NULL: a draft from before 0012.
    Column("key_id", Text),
    UniqueConstraint("id"),
)
Index("batches_by_arrival", batches.c.endpoint_id, batches.c.created_ms, batches.c.seq)

# Requests of drafts only: a batch that is finalized turns them into jobs.
batch_requests: Final = Table(
    "batch_requests",
    metadata,
    Column("seq", SEQUENCE, primary_key=True),
    Column("id", Text, nullable=False),
    Column("batch_id", Text, nullable=False),
    Column("input", JSON_VALUE, nullable=False),
    Column("cost_units", BigInteger, nullable=False),
    Column("execution_timeout_ms", BigInteger, nullable=False),
    Column("ttl_ms", BigInteger),
    Column("low_priority", Integer, nullable=False),
    Column("webhook", Text),
    Column("bucket", JSON_VALUE),
    Column("warnings", JSON_VALUE),
    UniqueConstraint("id"),
)
Index("batch_requests_by_batch", batch_requests.c.batch_id, batch_requests.c.seq)

api_keys: Final = Table(
    "api_keys",
    metadata,
    Column("seq", SEQUENCE, primary_key=True),
    Column("id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("secret_hash", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("revoked_ms", BigInteger),
    Column("is_read_only", Integer, nullable=False, server_default="0"),
    # A list of ids; null opens all endpoints.
    Column("endpoint_ids", JSON_VALUE),
    Column("units_per_month", BigInteger),
    Column("requests_per_minute", Integer),
    # See `ApiKey`.
    Column("made_for", Text),
    Column("chosen_model", Text),
    UniqueConstraint("id"),
    UniqueConstraint("secret_hash"),
)

# No foreign key to `jobs`: entries outlive the job's record. None to `api_keys`: a gateway may run without keys.
ledger: Final = Table(
    "ledger",
    metadata,
    Column("seq", SEQUENCE, primary_key=True),
    Column("job_id", Text, nullable=False),
    Column("endpoint_id", Text, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("amount_units", BigInteger, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    # How long the last attempt took, and the megapixel steps of the job; null on entries from before 0005.
    Column("execution_ms", BigInteger),
    Column("work", Double),
    # The speed level asked for; null on entries from before there were any.
    Column("acceleration", Text),
    # The last line of defence against charging twice.
    UniqueConstraint("job_id"),
)
Index("ledger_by_key", ledger.c.key_id, ledger.c.seq)
Index("ledger_by_endpoint", ledger.c.endpoint_id, ledger.c.seq)

# Sums of the ledger, kept with each charge: a bill over years reads thousands of rows instead of millions, and a budget
# at most 744 for each endpoint; 16 times as many on PostgreSQL.
charges_by_hour: Final = Table(
    "charges_by_hour",
    metadata,
    # The hour first, and in SQLite no other order on the disk: the bill of all keys reads neighbours. Up to 15 ms past
    # its start: connections that charge one key at the same time have a row each, and need not wait for each other.
    Column("hour_ms", BigInteger, primary_key=True),
    Column("key_id", Text, primary_key=True),
    Column("endpoint_id", Text, primary_key=True),
    Column("charges", BigInteger, nullable=False),
    Column("amount_units", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
Index("charges_by_key", charges_by_hour.c.key_id, charges_by_hour.c.hour_ms)

worker_tokens: Final = Table(
    "worker_tokens",
    metadata,
    Column("seq", SEQUENCE, primary_key=True),
    Column("id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("secret_hash", Text, nullable=False),
    # A JSON list; NULL is good for all endpoints.
    Column("endpoint_ids", JSON_VALUE),
    Column("created_ms", BigInteger, nullable=False),
    Column("revoked_ms", BigInteger),
    UniqueConstraint("id"),
    UniqueConstraint("secret_hash"),
)

# What all gateways on one database know of the workers. Its token is the part of the id before a colon.
workers: Final = Table(
    "workers",
    metadata,
    Column("id", Text, primary_key=True),
    Column("endpoint_ids", JSON_VALUE, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("since_ms", BigInteger, nullable=False),
    Column("seen_ms", BigInteger, nullable=False),
    Column("asked_ms", BigInteger, nullable=False, server_default="0"),
    Column("fingerprint", Text),
    Column("step_us", BigInteger),
)

# How long processes took from their start to their first free slot: a row for each endpoint that one serves. A worker
# that says it again, because the answer was lost, says the same number; whoever starts anew under one name, another.
cold_starts: Final = Table(
    "cold_starts",
    metadata,
    Column("worker_id", Text, primary_key=True),
    Column("duration_ms", BigInteger, primary_key=True),
    Column("endpoint_id", Text, primary_key=True),
    # When the gateway was told.
    Column("ready_ms", BigInteger, nullable=False),
)
Index("cold_starts_by_time", cold_starts.c.ready_ms)

# One row: when a gateway last read the clock, and how far that was set while gateways ran. See `stores/timekeeping/`.
timekeeping: Final = Table(
    "timekeeping",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("read_ms", BigInteger, nullable=False),
    Column("moved_ms", BigInteger, nullable=False),
)

# Pictures that are being saved and that no job names yet. The end of a job that names one deletes its row in the same
# transaction; what stays when the claim is over is an orphan. A picture without a row is some job's, erased or not.
pending_pictures: Final = Table(
    "pending_pictures",
    metadata,
    Column("key", Text, primary_key=True),
    Column("job_id", Text, nullable=False),
    Column("claim_token", BigInteger, nullable=False),
    Column("reserved_ms", BigInteger, nullable=False),
    # Of the pictures of one job: 0 for the first.
    Column("number", Integer, nullable=False, server_default="0"),
    # One of each number for one attempt.
    UniqueConstraint("job_id", "claim_token", "number"),
)
Index("pending_pictures_by_time", pending_pictures.c.reserved_ms)

# What gateways tell each other of the requests they let in: see `stores/rates/`. Unlogged on PostgreSQL, and without a
# key: rows are only added, summed and thrown away.
admissions: Final = Table(
    "admissions",
    metadata,
    Column("counter", Text, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("gateway", Text, nullable=False),
    Column("requests", Integer, nullable=False),
)
Index("admissions_by_counter", admissions.c.counter, admissions.c.at_ms)
Index("admissions_by_time", admissions.c.at_ms)

# How many workers each server keeps whose workers come and go, and is to keep: see `stores/fleets/`.
pools: Final = Table(
    "pools",
    metadata,
    Column("name", Text, primary_key=True),
    Column("min_workers", Integer, nullable=False),
    Column("max_workers", Integer, nullable=False),
    Column("kept", Integer, nullable=False),
    Column("busy", Integer, nullable=False),
    Column("running", Integer, nullable=False),
    # NULL until whoever decides has seen the server.
    Column("wanted", Integer),
    Column("seen_ms", BigInteger, nullable=False),
)
