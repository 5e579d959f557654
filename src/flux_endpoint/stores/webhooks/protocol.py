"""What the rest of the project asks of the place where webhooks wait and their log is kept."""

from collections.abc import Sequence
from typing import Protocol

from flux_endpoint.core.webhook import Attempt, Delivery, DeliveryRecord, PausedReceiver, Turn, WebhookSecret


class WebhookStore(Protocol):
    """Webhooks to send. `JobStore` writes one in the same transaction as each end of a job that has a webhook.

    Every method may raise `StoreUnavailable`: the database did not answer, and nothing changed.
    """

    async def claim_due(self, gateway: str, free: int, per_host: int, lease_ms: int) -> Sequence[Delivery]:
        """Hand deliveries that are due to one gateway, the longest overdue first, to each key and host its share.

        None is ever held by two gateways. One that is not reported within `lease_ms` is handed out again. A receiver
        that has been failing gets one at a time until it has taken one. There may be more until it returns nothing.

        Args:
            gateway: who sends them, see `release_due`.
            free: at most so many; a key gets more only while all gateways together send fewer for it than this
                (`core.shares`).
            per_host: so many may be on their way to one host, from all gateways together.
            lease_ms: longer than an attempt can take.
        """
        ...

    async def wait_for_due(self, free: int, per_host: int, timeout_s: float) -> None:
        """Return when `claim_due` may find something, or after `timeout_s` seconds."""
        ...

    async def report(self, delivery: Delivery, attempt: Attempt) -> Turn | None:
        """Write down how an attempt went, and what that means for its receiver.

        One that fails too often in a row is paused: what waits for it is due after the pause, and of that only one
        until it has taken one. Each pause is longer; after `core.webhook.PATIENCE_MS` what waits is given up.

        Returns:
            What changed for the receiver; None, and nothing written, when the claim was lost meanwhile.
        """
        ...

    async def paused_receivers(self, key_id: str | None = None) -> list[PausedReceiver]:
        """Who is paused, the longest failing first, at most 200.

        Args:
            key_id: only those of one API key.
        """
        ...

    async def release_due(self, gateway: str) -> int:
        """Let what a gateway has claimed and not reported be sent now: it has ended. Returns how many."""
        ...

    async def deliveries(self, *, limit: int, job_id: str | None = None, failed: bool = False) -> list[DeliveryRecord]:
        """The log, newest first.

        Args:
            limit: at most so many.
            job_id: only those of one job.
            failed: only those that were given up or refused.
        """
        ...

    async def replay(self, delivery_id: str) -> None:
        """Send a delivery that is over once more, under the same id, with as many attempts as the first time.

        Raises:
            NotFound: there is none of that id.
            Conflict: it is on its way anyhow, or what was sent is no longer kept.
        """
        ...

    async def replay_failed(self) -> int:
        """Send everything once more that was given up or refused. Returns how many."""
        ...

    async def webhook_secret(self, key_id: str) -> WebhookSecret:
        """What signs the webhooks of an API key; made if there is none yet.

        Raises:
            NotFound: there is no such key.
        """
        ...

    async def rotate_webhook_secret(self, key_id: str) -> WebhookSecret:
        """Draw another secret; the one before goes on signing for `core.webhook.ROTATION_MS`.

        Raises:
            NotFound: there is no such key.
        """
        ...
