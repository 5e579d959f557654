"""Webhooks in the SQL database: an outbox, its log, and the secrets that sign."""

import json
import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, Final

from flux_endpoint.core import ids
from flux_endpoint.core.clock import Clock
from flux_endpoint.core.errors import Conflict, NotFound
from flux_endpoint.core.job import FIRST_DIALECT, JobStatus
from flux_endpoint.core.outbound import host_of, origin_of, without_secrets
from flux_endpoint.core.raw_json import RawJson
from flux_endpoint.core.shares import Receiver, Shares
from flux_endpoint.core.webhook import (
    ROTATION_MS,
    Attempt,
    Delivery,
    DeliveryRecord,
    DeliveryState,
    PausedReceiver,
    Turn,
    WebhookSecret,
)
from flux_endpoint.stores.jobs.records import to_job
from flux_endpoint.stores.sql import channels
from flux_endpoint.stores.sql.database import Connection, Database, Row, Transaction
from flux_endpoint.stores.sql.schema import jobs
from flux_endpoint.stores.webhooks import statements as sql
from flux_endpoint.stores.webhooks.receivers import first_due_ms, note_attempt, paused_receivers

# Of what is due, in one go.
_LOOK_AT: Final = 64
# Not for the receiver, or of no use to it.
_LEFT_OUT: Final = {"bucket", "progress", "lease_expires_ms"}
# Where a snapshot keeps columns that stay text.
_BIG: Final = "big"
_COLUMNS: Final = tuple(column.name for column in jobs.columns)


def add_delivery(transaction: Transaction, row: Row) -> None:
    """Note that the end of a job has to be told.

    Args:
        transaction: the one that ended it.
        row: the job afterwards, with a webhook.
    """
    origin = origin_of(row.webhook)
    values = {
        "id": ids.new_webhook_id(),
        "job_id": row.id,
        "key_id": row.key_id,
        "status": row.status,
        "job": _snapshot(row),
        "url": row.webhook,
        "shown_url": without_secrets(row.webhook),
        "origin": origin,
        "host": host_of(row.webhook),
        "created_ms": row.finished_ms,
        "state": DeliveryState.WAITING.value,
        "due_ms": first_due_ms(transaction.connection, row.key_id, origin, row.finished_ms),
        "attempts": 0,
        "claim_token": 0,
    }
    transaction.connection.execute(sql.ADD, values)
    transaction.news[channels.webhook_due()] = None


def _snapshot(row: Row) -> dict[str, Any]:
    columns = {name: getattr(row, name) for name in _COLUMNS if name not in _LEFT_OUT}
    # As a text in the text: so it is read again without being taken apart.
    big = {name: value.text for name, value in columns.items() if isinstance(value, RawJson)}
    return {name: value for name, value in columns.items() if name not in big} | ({_BIG: big} if big else {})


def _columns_in(snapshot: Any) -> dict[str, Any]:
    columns: dict[str, Any] = json.loads(snapshot.text) if isinstance(snapshot, RawJson) else dict(snapshot)
    return columns | {name: RawJson(text) for name, text in columns.pop(_BIG, {}).items()}


class SqlWebhooks:
    """Implements `WebhookStore`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def claim_due(self, gateway: str, free: int, per_host: int, lease_ms: int) -> Sequence[Delivery]:
        """See `WebhookStore.claim_due`."""
        now_ms = self._clock.now_ms()

        def claim_due(transaction: Transaction) -> list[Delivery]:
            connection = transaction.connection
            if connection.dialect.name == "postgresql":
                connection.execute(sql.ONE_AT_A_TIME)
            shares = _shares(connection, free, per_host, now_ms)
            values = {"holder": gateway, "now_ms": now_ms, "until_ms": now_ms + lease_ms}
            rows = _claim(connection, shares, values)
            secrets = _secrets_of(connection, {row.key_id for row in rows}, now_ms) if rows else {}
            return [_to_delivery(row, secrets[row.key_id]) for row in sorted(rows, key=lambda row: row.seq)]

        # Asked first: most calls find nothing, and need not queue for the writer.
        next_due_ms = await self._next_due_ms(free, per_host)
        if next_due_ms is None or next_due_ms > now_ms:
            return []
        return await self._database.write(claim_due, is_heavy=True)

    async def wait_for_due(self, free: int, per_host: int, timeout_s: float) -> None:
        """See `WebhookStore.wait_for_due`."""
        with self._database.signals.listen(channels.webhook_due(), timeout_s=timeout_s) as listener:
            while True:
                next_due_ms = await self._next_due_ms(free, per_host)
                left_ms = math.inf if next_due_ms is None else next_due_ms - self._clock.now_ms()
                listener.hurry(left_ms / 1_000)
                if left_ms <= 0 or not await listener.sleep():
                    return

    async def _next_due_ms(self, free: int, per_host: int) -> int | None:
        now_ms = self._clock.now_ms()

        def next_due_ms(connection: Connection) -> int | None:
            due_ms: int | None = connection.scalar(sql.NEXT_DUE, _full(_shares(connection, free, per_host, now_ms)))
            return due_ms

        return await self._database.read(next_due_ms, is_heavy=True) if free > 0 else None

    async def report(self, delivery: Delivery, attempt: Attempt) -> Turn | None:
        """See `WebhookStore.report`; what has arrived is erased at once when its job can no longer be read."""
        now_ms = self._clock.now_ms()
        values = {
            "delivery": delivery.id,
            "token": delivery.claim_token,
            "new_state": attempt.state.value,
            "until_ms": attempt.due_ms,
            "end_ms": None if attempt.state is DeliveryState.WAITING else now_ms,
            "new_code": attempt.code,
            "problem": attempt.error,
        }

        def report(transaction: Transaction) -> Turn | None:
            connection = transaction.connection
            told = connection.execute(sql.REPORT, values).first
            if told is None:
                return None
            job = {"job": told.job_id, "now_ms": now_ms}
            is_over = attempt.state is DeliveryState.DELIVERED
            if is_over and not connection.scalar(sql.IS_JOB_READABLE, job):
                erase_delivered(connection, [told.job_id])
            return note_attempt(transaction, told.key_id, told.origin, attempt, now_ms)

        # A delivery carries its job, and SQLite writes all of a row that changes.
        return await self._database.write(report, is_heavy=True)

    async def release_due(self, gateway: str) -> int:
        """See `WebhookStore.release_due`."""
        values = {"holder": gateway, "now_ms": self._clock.now_ms()}
        return await self._database.write(
            lambda transaction: transaction.connection.execute(sql.RELEASE, values).rowcount, is_heavy=True
        )

    async def deliveries(self, *, limit: int, job_id: str | None = None, failed: bool = False) -> list[DeliveryRecord]:
        """See `WebhookStore.deliveries`."""
        values: dict[str, Any] = {"max_deliveries": limit}
        if job_id is None:
            query = sql.LOG_FAILED if failed else sql.LOG
        else:
            query = sql.LOG_FAILED_OF_JOB if failed else sql.LOG_OF_JOB
            values["job"] = job_id
        rows = await self._database.read(lambda connection: connection.execute(query, values), is_heavy=True)
        return [_to_record(row) for row in rows]

    async def paused_receivers(self, key_id: str | None = None) -> list[PausedReceiver]:
        """See `WebhookStore.paused_receivers`."""
        return await self._database.read(lambda connection: paused_receivers(connection, key_id), is_heavy=True)

    async def replay(self, delivery_id: str) -> None:
        """See `WebhookStore.replay`."""
        values = {"delivery": delivery_id, "now_ms": self._clock.now_ms()}

        def replay(transaction: Transaction) -> None:
            if transaction.connection.execute(sql.REPLAY, values).rowcount:
                transaction.news[channels.webhook_due()] = None
                return
            row = transaction.connection.execute(sql.GET, values).first
            if row is None:
                raise NotFound(f"there is no webhook delivery with the id '{delivery_id}'; see webhooks list")
            if row.state == DeliveryState.WAITING:
                raise Conflict(f"the webhook delivery {delivery_id} is on its way anyhow")
            raise Conflict(f"what the webhook delivery {delivery_id} sent was erased together with its job")

        await self._database.write(replay, is_heavy=True)

    async def replay_failed(self) -> int:
        """See `WebhookStore.replay_failed`."""
        values = {"now_ms": self._clock.now_ms()}

        def replay_failed(transaction: Transaction) -> int:
            transaction.news[channels.webhook_due()] = None
            return transaction.connection.execute(sql.REPLAY_FAILED, values).rowcount

        return await self._database.write(replay_failed, is_heavy=True)

    async def webhook_secret(self, key_id: str) -> WebhookSecret:
        """See `WebhookStore.webhook_secret`."""
        return await self._database.write(lambda transaction: self._known_secret(transaction, key_id))

    async def rotate_webhook_secret(self, key_id: str) -> WebhookSecret:
        """See `WebhookStore.rotate_webhook_secret`."""
        key = key_id
        values = {"key": key, "drawn": ids.new_webhook_secret(), "until_ms": self._clock.now_ms() + ROTATION_MS}

        def rotate_webhook_secret(transaction: Transaction) -> WebhookSecret:
            # There must be one to rotate.
            self._known_secret(transaction, key)
            transaction.connection.execute(sql.ROTATE_SECRET, values)
            return self._known_secret(transaction, key)

        return await self._database.write(rotate_webhook_secret)

    def _known_secret(self, transaction: Transaction, key_id: str) -> WebhookSecret:
        if not transaction.connection.scalar(sql.HAS_KEY, {"key": key_id}):
            raise NotFound(f"there is no API key with the id '{key_id}'; see flux-endpoint keys list")
        return _secrets_of(transaction.connection, {key_id}, self._clock.now_ms())[key_id]


def add_secret(connection: Connection, key_id: str) -> None:
    """Draw the secret that signs the webhooks of a key, unless it has one."""
    connection.execute(sql.ADD_SECRET, {"key": key_id, "drawn": ids.new_webhook_secret()})


def erase_delivered(connection: Connection, job_ids: Sequence[str]) -> None:
    """Erase what was sent about jobs and has arrived; who was told when stays in the log."""
    connection.execute(sql.ERASE_DELIVERED, {"job_ids": job_ids})


def _shares(connection: Connection, free: int, per_host: int, now_ms: int) -> Shares:
    """Who holds what, on all gateways, beside so many free places on one."""
    shares = Shares(free, per_host)
    for row in connection.execute(sql.HELD, {"now_ms": now_ms}):
        shares.count(_receiver(row), row.places, is_on_probation=row.is_on_probation)
    return shares


def _full(shares: Shares) -> dict[str, Any]:
    return {
        "full_keys": list(shares.full_keys),
        "full_hosts": list(shares.full_hosts),
        "full_pairs": list(shares.full_pairs),
        "on_probation": list(shares.on_probation),
    }


def _claim(connection: Connection, shares: Shares, values: dict[str, Any]) -> Sequence[Row]:
    """Claim of what is longest overdue what its receivers may have. Whoever was refused is passed over next time."""
    limits = _full(shares) | {"now_ms": values["now_ms"], "max_deliveries": _LOOK_AT}
    due = connection.execute(sql.CANDIDATES, limits)
    taken = [row.seq for row in due if shares.take(_receiver(row), is_on_probation=row.is_on_probation)]
    return connection.execute(sql.CLAIM, values | {"seqs": taken})


def _receiver(row: Row) -> Receiver:
    return Receiver(row.key_id, row.host, row.origin)


def _secrets_of(connection: Connection, key_ids: set[str], now_ms: int) -> dict[str, WebhookSecret]:
    """The secrets of keys, drawn where there are none yet."""
    keys = {"keys": sorted(key_ids)}
    rows = connection.execute(sql.GET_SECRETS, keys)
    if len(rows) < len(key_ids):
        for key_id in sorted(key_ids - {row.key_id for row in rows}):
            add_secret(connection, key_id)
        rows = connection.execute(sql.GET_SECRETS, keys)
    return {row.key_id: _to_secret(row, now_ms) for row in rows}


def _to_secret(row: Row, now_ms: int) -> WebhookSecret:
    if row.previous is None or row.previous_until_ms <= now_ms:
        return WebhookSecret(row.secret)
    return WebhookSecret(row.secret, row.previous, row.previous_until_ms)


def _to_delivery(row: Row, secret: WebhookSecret) -> Delivery:
    # A snapshot taken before an upgrade lacks the columns that came with it.
    snapshot = SimpleNamespace(**(dict.fromkeys(_COLUMNS) | {"dialect": FIRST_DIALECT} | _columns_in(row.job)))
    return Delivery(
        id=row.id,
        job=to_job(snapshot),
        url=row.url,
        secrets=[secret.secret] if secret.previous is None else [secret.secret, secret.previous],
        attempts=row.attempts,
        claim_token=row.claim_token,
    )


def _to_record(row: Row) -> DeliveryRecord:
    return DeliveryRecord(
        id=row.id,
        job_id=row.job_id,
        status=JobStatus(row.status),
        shown_url=row.shown_url,
        created_ms=row.created_ms,
        state=DeliveryState(row.state),
        attempts=row.attempts,
        code=row.code,
        error=row.error,
        can_replay=bool(row.can_replay),
    )
