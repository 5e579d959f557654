"""What the rest of the project asks of the place where workers and their tokens are known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class WorkerState(StrEnum):
    """What a worker last said of itself."""

    STARTING = "starting"  # it is known, but has not asked for a job yet
    READY = "ready"
    UNHEALTHY = "unhealthy"  # it said so; it gets no jobs until it says otherwise
    LOST = "lost"  # it hung up and only pings since
    LEAVING = "leaving"  # it asked to be restarted; it gets no jobs until it has been


@dataclass(frozen=True, slots=True)
class WorkerToken:
    """The right to take jobs, without its secret. Times are milliseconds since 1970-01-01 UTC.

    Attributes:
        id: starts the ids of all workers that use it, with a colon; empty for the gateway's own token.
        endpoint_ids: endpoints it is good for; None for all.
    """

    id: str
    name: str
    endpoint_ids: frozenset[str] | None
    created_ms: int
    revoked_ms: int | None = None


@dataclass(frozen=True, slots=True)
class WorkerRecord:
    """What all gateways on one database know of a worker. Times are milliseconds since 1970-01-01 UTC.

    Attributes:
        id: as `Job.worker_id`.
        endpoint_ids: endpoints it serves.
        reason: why it is in its state; empty when there is nothing to say.
        since_ms: since when it is in its state.
        seen_ms: when it was last heard of; up to some seconds old.
        asked_ms: when it last asked for a job; up to a held call and some seconds old, 0 for never.
        fingerprint: of the kind of worker it is; empty when it has not said.
    """

    id: str
    endpoint_ids: frozenset[str]
    state: WorkerState
    reason: str
    since_ms: int
    seen_ms: int
    asked_ms: int = 0
    fingerprint: str = ""


class WorkerStore(Protocol):
    """Workers and worker tokens. Every verb is atomic; all may raise `StoreUnavailable`."""

    async def add_worker_token(self, token: WorkerToken, secret_hash: str) -> None:
        """Keep a new token by the hash of its secret.

        Raises:
            ValueError: a token of that id or hash exists.
        """
        ...

    async def find_worker_token(self, secret_hash: str) -> WorkerToken | None:
        """The token with that hash, revoked or not; None when there is none."""
        ...

    async def list_worker_tokens(self) -> Sequence[WorkerToken]:
        """All tokens, oldest first."""
        ...

    async def revoke_worker_token(self, token_id: str, now_ms: int) -> bool:
        """Revoke a token; False when there is none of that id. Revoking twice keeps the first time."""
        ...

    async def get_worker(self, worker_id: str) -> WorkerRecord | None:
        """One worker; None when nobody has noted it."""
        ...

    async def note_worker(self, record: WorkerRecord, *, with_state: bool) -> WorkerRecord:
        """Write what is known of a worker; `seen_ms` and `asked_ms` never go back.

        Args:
            record: what is known.
            with_state: write its state, reason and since; without, those in the database stand, if there are any. An
                empty fingerprint always leaves the one that was told before.

        Returns:
            What the database holds now.
        """
        ...

    async def list_workers(self, seen_since_ms: int) -> Sequence[WorkerRecord]:
        """The workers that were seen since a time, by id."""
        ...

    async def count_running_jobs(self) -> Mapping[str, int]:
        """How many jobs each worker holds, by worker id; without those that hold none."""
        ...

    async def forget_workers(self, id_prefix: str, seen_before_ms: int) -> None:
        """Delete the workers whose id starts so and that were not seen since a time."""
        ...
