"""Tells the ends of jobs to the URLs that clients named, from an outbox that survives restarts."""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final

from flux_endpoint.core.clock import Clock
from flux_endpoint.core.errors import FluxEndpointError, OutboundFailed, OutboundRefused
from flux_endpoint.core.job import Job
from flux_endpoint.core.outbound import origin_of, without_secrets
from flux_endpoint.core.raw_json import write_json
from flux_endpoint.core.webhook import (
    FAILURES_TO_PAUSE,
    Attempt,
    Delivery,
    DeliveryState,
    Turn,
    signature_header,
)
from flux_endpoint.outbound.protocol import Sender
from flux_endpoint.stores.webhooks.protocol import WebhookStore

logger = logging.getLogger(__name__)

# Contract section 2: two more attempts, ten seconds apart, unless the receiver answers 200.
MAX_ATTEMPTS: Final = 3
SPACING_MS: Final = 10_000
DELIVERED_CODE: Final = 200
# Not documented by Runpod; what its local server grants.
ATTEMPT_TIMEOUT_S: Final = 10.0
# An attempt and its report take less; after it, whoever claimed the delivery is taken for dead.
LEASE_MS: Final = 20_000
MAX_AT_ONCE: Final = 64
# One host may have so many at a time, from all gateways together; those of one key get half of them at most.
MAX_PER_HOST: Final = 16
# Signals wake earlier; this only bounds the wait.
_LONGEST_WAIT_S: Final = 60.0
_PAUSE_S: Final = 1.0
# Of the shutdown, for what is on its way; the rest is sent after the next start.
_GRACE_S: Final = 0.5


class Deliverer:
    """Sends what is in the outbox for as long as the gateway runs.

    Args:
        outbox: what has to be sent.
        sender: the way out.
        render: the body that tells the end of a job.
        clock: stamps the messages.
        gateway: name of this gateway, the same after a restart and like no other's.
    """

    def __init__(
        self,
        outbox: WebhookStore,
        sender: Sender,
        render: Callable[[Job], Mapping[str, Any]],
        clock: Clock,
        gateway: str,
    ) -> None:
        self._outbox = outbox
        self._sender = sender
        self._render = render
        self._clock = clock
        self._gateway = gateway
        self._sending: set[asyncio.Task[None]] = set()
        self._freed = asyncio.Event()
        # How attempts ended, for the metrics.
        self.outcomes: Counter[DeliveryState] = Counter(dict.fromkeys(DeliveryState, 0))

    async def run(self) -> None:
        """Send until cancelled. What a killed predecessor had begun is sent again first, under the same ids."""
        try:
            await self._release()
            while True:
                try:
                    await self._send_or_wait()
                except FluxEndpointError as error:
                    # That the database does not answer has been logged.
                    logger.debug("webhooks wait: %s", error)
                    await asyncio.sleep(_PAUSE_S)
        finally:
            await self._stop()

    @property
    def under_way(self) -> int:
        """How many messages are on their way."""
        return len(self._sending)

    async def _send_or_wait(self) -> None:
        # First, so that no end of a sending is missed.
        self._freed.clear()
        if self.under_way >= MAX_AT_ONCE:
            await self._freed.wait()
        elif not await self._start_due():
            due = self._outbox.wait_for_due(self._free, MAX_PER_HOST, _LONGEST_WAIT_S)
            await _first_of(due, self._freed.wait())

    @property
    def _free(self) -> int:
        return MAX_AT_ONCE - self.under_way

    async def _start_due(self) -> int:
        batch = await self._outbox.claim_due(self._gateway, self._free, MAX_PER_HOST, LEASE_MS)
        for delivery in batch:
            task = asyncio.create_task(self._deliver(delivery))
            self._sending.add(task)
            task.add_done_callback(self._forget)
        return len(batch)

    def _forget(self, task: "asyncio.Task[None]") -> None:
        self._sending.discard(task)
        self._freed.set()

    async def _deliver(self, delivery: Delivery) -> None:
        try:
            attempt = await self._attempt(delivery)
        except Exception:
            logger.exception("webhook %s of job %s", delivery.id, delivery.job.id)
            attempt = self._next(delivery, None, "internal error: the server's log has the details")
        _log(delivery, attempt)
        self.outcomes[attempt.state] += 1
        try:
            turn = await self._outbox.report(delivery, attempt)
        except FluxEndpointError as error:
            logger.error("webhook %s will be sent again, because this could not be noted: %s", delivery.id, error)
            return
        _log_turn(turn, delivery, attempt)

    def _seal(self, delivery: Delivery, now_s: int) -> tuple[dict[str, str], bytes]:
        # Escaped to ASCII, as the answers of the API are: a third-party worker's text may hold what UTF-8 cannot.
        body = write_json(self._render(delivery.job)).encode()
        headers = {
            "Content-Type": "application/json",
            "webhook-id": delivery.id,
            "webhook-timestamp": str(now_s),
            "webhook-signature": signature_header(delivery.secrets, delivery.id, now_s, body),
        }
        return headers, body

    async def _attempt(self, delivery: Delivery) -> Attempt:
        # To sign 40 MB takes a while, in which others have their turn.
        headers, body = await asyncio.to_thread(self._seal, delivery, self._clock.now_ms() // 1_000)
        try:
            answer = await self._sender.send("POST", delivery.url, headers, body, ATTEMPT_TIMEOUT_S)
        except OutboundRefused as error:
            return Attempt(DeliveryState.REFUSED, error=str(error))
        except OutboundFailed as error:
            return self._next(delivery, None, str(error))
        if answer.status == DELIVERED_CODE:
            return Attempt(DeliveryState.DELIVERED, code=answer.status)
        is_redirect = 300 <= answer.status < 400
        problem = "redirects are not followed" if is_redirect else f"exactly {DELIVERED_CODE} counts as received"
        return self._next(delivery, answer.status, f"HTTP {answer.status}; {problem}")

    def _next(self, delivery: Delivery, code: int | None, error: str) -> Attempt:
        if delivery.attempts + 1 >= MAX_ATTEMPTS:
            return Attempt(DeliveryState.FAILED, code=code, error=error)
        return Attempt(DeliveryState.WAITING, self._clock.now_ms() + SPACING_MS, code, error)

    async def _stop(self) -> None:
        if self._sending:
            await asyncio.wait(self._sending, timeout=_GRACE_S)
        for task in list(self._sending):
            task.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)
        with contextlib.suppress(FluxEndpointError):
            await self._outbox.release_due(self._gateway)

    async def _release(self) -> None:
        try:
            await self._outbox.release_due(self._gateway)
        except FluxEndpointError as error:
            # They come back all the same, when their leases end.
            logger.warning("webhooks of the process before wait for their leases: %s", error)


def _log(delivery: Delivery, attempt: Attempt) -> None:
    place = without_secrets(delivery.url)
    if attempt.state is DeliveryState.DELIVERED:
        logger.debug("webhook %s of job %s delivered to %s", delivery.id, delivery.job.id, place)
        return
    what = "will be tried again" if attempt.state is DeliveryState.WAITING else attempt.state.value
    logger.warning("webhook %s of job %s to %s %s: %s", delivery.id, delivery.job.id, place, what, attempt.error)


def _log_turn(turn: Turn | None, delivery: Delivery, attempt: Attempt) -> None:
    place, key_id = origin_of(delivery.url), delivery.job.key_id
    if turn is Turn.PAUSED:
        logger.warning(
            "webhooks of key %s to %s are paused: %d attempts in a row failed, the last one with: %s; "
            "they are kept and tried one at a time until one is taken",
            *(key_id, place, FAILURES_TO_PAUSE, attempt.error),
        )
    elif turn is Turn.BACK:
        logger.warning("webhooks of key %s to %s go on: one was taken", key_id, place)


async def _first_of(*coroutines: Coroutine[Any, Any, object]) -> None:
    """Return when the first of them is done; the others are cancelled."""
    tasks = [asyncio.ensure_future(one) for one in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
