"""The tables of webhooks; see `schema.py`."""

from typing import Final

from sqlalchemy import BigInteger, Column, Index, Integer, Table, UniqueConstraint, text

from flux_endpoint.stores.sql.columns import JSON_VALUE, SEQUENCE, Text, metadata

# Ends of jobs that somebody has to be told, and the log of how that went.
webhook_deliveries: Final = Table(
    "webhook_deliveries",
    metadata,
    Column("seq", SEQUENCE, primary_key=True),
    Column("id", Text, nullable=False),
    Column("job_id", Text, nullable=False),
    Column("key_id", Text, nullable=False),
    # Of the job at its end.
    Column("status", Text, nullable=False),
    # A snapshot of its row: the job may be erased or retried before it is told. NULL: erased.
    Column("job", JSON_VALUE),
    Column("url", Text),
    # Without what is secret in it.
    Column("shown_url", Text, nullable=False),
    # Scheme, host and port.
    Column("origin", Text, nullable=False),
    # In one spelling.
    Column("host", Text, nullable=False, server_default=text("''")),
    Column("created_ms", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    # When to send it next; while it is being sent: when it is taken for lost. NULL: it is over.
    Column("due_ms", BigInteger),
    Column("ended_ms", BigInteger),
    Column("attempts", Integer, nullable=False),
    Column("claim_token", BigInteger, nullable=False),
    # Which gateway is sending it right now.
    Column("gateway", Text),
    Column("code", Integer),
    Column("error", Text),
    UniqueConstraint("id"),
)
_row = webhook_deliveries.c
_is_due = _row.due_ms.is_not(None)
# Holds all that decides who is next, so that a claim passes over a receiver's thousands without reading them.
Index(
    "webhook_deliveries_due",
    _row.due_ms,
    _row.seq,
    _row.key_id,
    _row.host,
    _row.origin,
    sqlite_where=_is_due,
    postgresql_where=_is_due,
)
Index(
    "webhook_deliveries_by_receiver",
    _row.key_id,
    _row.origin,
    _row.due_ms,
    sqlite_where=_is_due,
    postgresql_where=_is_due,
)
# Serves the count of what is on its way.
_is_held = _row.gateway.is_not(None)
Index(
    "webhook_deliveries_held",
    _row.due_ms,
    _row.key_id,
    _row.host,
    _row.origin,
    sqlite_where=_is_held,
    postgresql_where=_is_held,
)
_is_told = _row.ended_ms.is_not(None)
Index(
    "webhook_deliveries_by_end",
    _row.ended_ms,
    sqlite_where=_is_told,
    postgresql_where=_is_told,
)
Index("webhook_deliveries_by_job", _row.job_id)

# Receivers that have failed since they last took a message: a row for each key that sends there.
webhook_receivers: Final = Table(
    "webhook_receivers",
    metadata,
    Column("key_id", Text, primary_key=True),
    Column("origin", Text, primary_key=True),
    Column("failures", Integer, nullable=False),
    # The first and the latest of them.
    Column("since_ms", BigInteger, nullable=False),
    Column("seen_ms", BigInteger, nullable=False),
    # From the first pause on; in the past, the next attempt decides.
    Column("paused_until_ms", BigInteger),
    Column("error", Text),
)

# In the clear, because signing needs them. No foreign key: one for the key of a job that outlived it may be made.
webhook_secrets: Final = Table(
    "webhook_secrets",
    metadata,
    Column("key_id", Text, primary_key=True),
    Column("secret", Text, nullable=False),
    Column("previous", Text),
    Column("previous_until_ms", BigInteger),
)
