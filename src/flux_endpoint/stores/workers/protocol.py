"""What the rest of the project asks of the place where workers and their tokens are known."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from flux_endpoint.core.worker import WorkerRecord, WorkerToken


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
                empty fingerprint always leaves the one that was told before, and so does a `step_us` of None.

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

    async def forget_worker(self, worker_id: str) -> None:
        """Delete one worker, if anybody has noted it."""
        ...

    async def forget_workers(self, id_prefix: str, seen_before_ms: int) -> None:
        """Delete the workers whose id starts so and that were not seen since a time."""
        ...
