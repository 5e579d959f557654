"""What the rest of the project asks of the store about pictures that workers hand in."""

from collections.abc import Collection, Sequence
from typing import Protocol


class PictureStore(Protocol):
    """Whose a picture is while it is on its way. Every verb is atomic; all may raise `StoreUnavailable`.

    A picture that is kept here is reserved before its first byte is: from then on somebody knows of it. The report that
    ends its job as COMPLETED (`ClaimStore.finish`) makes it that job's; what is never named so is an orphan.
    """

    async def reserve_pictures(
        self, job_id: str, worker_id: str, token: int | None, keys: Sequence[str]
    ) -> Sequence[str] | None:
        """Choose the keys of a claim's pictures. A claim has one for each: asked again, the first answer stands.

        Args:
            job_id: the running job.
            worker_id: who has drawn it.
            token: see `ClaimStore.finish`.
            keys: new ones, in the order of the pictures.

        Returns:
            The keys to save them under; None when this worker's pictures for this claim were taken before.

        Raises:
            LeaseLost: the job is not held by this worker and token.
            UnknownJob: no such job.
        """
        ...

    async def orphaned_pictures(self, reserved_before_ms: int, limit: int) -> Sequence[str]:
        """Keys reserved before a time for claims that are over, and named by no job; the oldest first."""
        ...

    async def forget_pictures(self, keys: Collection[str]) -> None:
        """Forget reservations, because what they are for has been deleted."""
        ...
