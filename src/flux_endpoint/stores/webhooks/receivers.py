"""Receivers of webhooks that keep failing: left alone for a while, tried with one message, left alone for longer."""

from typing import Any

from flux_endpoint.core.webhook import PATIENCE_MS, Attempt, DeliveryState, PausedReceiver, Turn, pause_ms
from flux_endpoint.stores.sql import channels
from flux_endpoint.stores.sql.database import Connection, Transaction
from flux_endpoint.stores.webhooks import statements as sql

# Nobody reads more, in a terminal or on a page.
_MAX_SHOWN = 200


def first_due_ms(connection: Connection, key_id: str, origin: str, now_ms: int) -> int:
    """When something new may be sent to a receiver: now, or after its pause."""
    receiver = connection.execute(sql.GET_RECEIVER, {"key": key_id, "place": origin}).first
    return now_ms if receiver is None else max(now_ms, receiver.paused_until_ms or 0)


def note_attempt(transaction: Transaction, key_id: str, origin: str, attempt: Attempt, now_ms: int) -> Turn:
    """Note how a receiver took what was sent; call it after the delivery's own row was written.

    Returns:
        What that changed for the receiver; NONE while it goes on as before.
    """
    values = {"key": key_id, "place": origin, "now_ms": now_ms}
    match attempt.state:
        case DeliveryState.DELIVERED:
            return _note_success(transaction, values)
        case DeliveryState.REFUSED:
            # Nobody was asked.
            return Turn.NONE
        case _:
            return _note_failure(transaction.connection, values, attempt.error or "")


def paused_receivers(connection: Connection, key_id: str | None) -> list[PausedReceiver]:
    """See `WebhookStore.paused_receivers`."""
    values: dict[str, Any] = {"max_receivers": _MAX_SHOWN}
    query = sql.PAUSED
    if key_id is not None:
        query = sql.PAUSED_OF_KEY
        values["key"] = key_id
    return [
        PausedReceiver(
            key_id=row.key_id,
            key_name=row.key_name,
            origin=row.origin,
            failures=row.failures,
            since_ms=row.since_ms,
            until_ms=row.paused_until_ms,
            error=row.error,
            waiting=row.waiting,
        )
        for row in connection.execute(query, values)
    ]


def _note_success(transaction: Transaction, values: dict[str, Any]) -> Turn:
    if transaction.connection.scalar(sql.FORGIVE, values) is None:
        return Turn.NONE
    transaction.connection.execute(sql.RESUME, values)
    transaction.news[channels.webhook_due()] = None
    return Turn.BACK


def _note_failure(connection: Connection, values: dict[str, Any], problem: str) -> Turn:
    connection.execute(sql.ADD_RECEIVER, values)
    receiver = connection.execute(sql.LOCK_RECEIVER, values).first
    now_ms, until_ms = values["now_ms"], receiver.paused_until_ms
    was_paused = until_ms is not None
    # What was on its way when the pause began says nothing new.
    if until_ms is None or until_ms <= now_ms:
        failures = receiver.failures + 1
        length_ms = pause_ms(failures)
        until_ms = now_ms + length_ms if length_ms else None
        news = {"new_failures": failures, "until_ms": until_ms, "problem": problem}
        connection.execute(sql.NOTE_FAILURE, values | news)
    if until_ms is None:
        return Turn.NONE
    if now_ms - receiver.since_ms >= PATIENCE_MS:
        hours = (now_ms - receiver.since_ms) // 3_600_000
        connection.execute(sql.GIVE_UP, values | {"problem": f"given up after {hours} hours of failures: {problem}"})
    else:
        connection.execute(sql.POSTPONE, values | {"until_ms": until_ms})
    return Turn.NONE if was_paused else Turn.PAUSED
