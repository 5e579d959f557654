"""Carries pictures to the buckets of clients while no worker waits for it."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from flux_endpoint.core.bucket import Bucket
from flux_endpoint.core.errors import BucketFailed, FluxEndpointError, LeaseLost, StoreUnavailable, UnknownJob
from flux_endpoint.core.image_formats import ImageFormat
from flux_endpoint.core.job import Completed, Failed, Job, Outcome, Returned
from flux_endpoint.core.outbound import origin_of
from flux_endpoint.service.buckets import Buckets
from flux_endpoint.service.slots import Slots
from flux_endpoint.stores.jobs.protocol import ClaimStore

logger = logging.getLogger(__name__)

_MIB: Final = 2**20
# What may wait in memory: in all, and of one API key, whose buckets may never answer.
_MAX_BYTES: Final = 256 * _MIB
_MAX_BYTES_PER_KEY: Final = 64 * _MIB
# How many go out at once: in all, to one host, and of one API key, which so cannot take a host away from the others.
_MAX_AT_ONCE: Final = 64
_MAX_PER_HOST: Final = 32
_MAX_PER_KEY: Final = 8
_RENEWALS_PER_LEASE: Final = 3
# Of the shutdown, for what is on its way; the rest goes back to the queue.
_GRACE_S: Final = 0.5
_PAUSE_S: Final = 1.0
_LONGEST_WAIT_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class _Upload:
    """The pictures of a job, which they end."""

    job: Job
    image_format: ImageFormat
    files: Sequence[bytes]
    said: Mapping[str, Any]

    @property
    def size(self) -> int:
        return sum(map(len, self.files))


class Uploads:
    """The uploads of one gateway. It holds each job in its worker's place, as one more worker of the store would.

    So nothing is lost or done twice when it dies: the lease of the job ends, and it is drawn again as after the loss of
    any worker. Cancelling and the limits of its policy stop an upload as they stop a step.

    Args:
        store: where the jobs are.
        buckets: where the pictures go.
        holder: the worker id under which the jobs are held; like no other's, and the same after a restart.
        lease_s: how long a job stays held unless renewed.
        sleep: waits between two renewals or tries; tests hand in their own.
    """

    def __init__(
        self,
        store: ClaimStore,
        buckets: Buckets,
        holder: str,
        lease_s: float,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._buckets = buckets
        self._holder = holder
        self._lease_s = lease_s
        self._sleep = sleep
        self._slots = Slots(_MAX_AT_ONCE)
        self._uploads: dict[str, _Upload] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        # Set while there is any upload: nobody else has to be told to stop.
        self._has_any = asyncio.Event()
        self._is_closing = False

    async def take(
        self,
        job: Job,
        worker_id: str,
        token: int | None,
        image_format: ImageFormat,
        files: Sequence[bytes],
        said: Mapping[str, Any],
    ) -> None:
        """Take the pictures of a job for the bucket that the job names; on return its worker is free.

        Raises:
            LeaseLost: the job is not held by this worker and token.
            UnknownJob: no such job.
            StoreUnavailable: the database did not answer, or this gateway is about to end.
        """
        if self._is_closing:
            raise StoreUnavailable("the gateway is about to end")
        held = await self._store.hand_over(job.id, worker_id, token, self._holder, self._lease_s)
        if held is None:
            # Taken before; only the answer was lost.
            return
        if self._is_closing:
            await self._store.finish(held.id, self._holder, held.claim_token, Returned())
            return
        upload = _Upload(held, image_format, files, said)
        if (reason := self._why_no_room(held.key_id, upload.size)) is not None:
            logger.warning("job %s: %s", held.id, reason)
            await self._end(held, Failed(f"{_bucket_of(held).field}: {reason}"))
            return
        self._uploads[held.id] = upload
        self._has_any.set()
        task = self._tasks[held.id] = asyncio.create_task(self._carry(upload))
        task.add_done_callback(lambda _: self._forget(held.id, task))

    async def run(self) -> None:
        """Keep the leases, and stop what must not go on, until cancelled. At the end nothing is held any more."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._keep_leases())
                tasks.create_task(self._listen_for_stops())
        finally:
            await self._stop()

    @property
    def under_way(self) -> int:
        """How many jobs wait for the end of their upload."""
        return len(self._tasks)

    def _why_no_room(self, key_id: str, size: int) -> str | None:
        waiting = self._uploads.values()
        if size + sum(upload.size for upload in waiting if upload.job.key_id == key_id) > _MAX_BYTES_PER_KEY:
            return f"{_MAX_BYTES_PER_KEY // _MIB} MiB of pictures of this API key wait for their buckets already"
        if size + sum(upload.size for upload in waiting) > _MAX_BYTES:
            return "too many pictures wait for the buckets of other clients; try again"
        return None

    async def _carry(self, upload: _Upload) -> None:
        job = upload.job
        bucket = _bucket_of(job)
        try:
            host = origin_of(bucket.endpoint_url)
            limits: dict[Hashable, int] = {("key", job.key_id): _MAX_PER_KEY, ("host", host): _MAX_PER_HOST}
            async with self._slots.hold(limits):
                urls = [
                    await self._buckets.put(bucket, _name_of(job, number), upload.image_format, data)
                    for number, data in enumerate(upload.files, start=1)
                ]
        except BucketFailed as error:
            outcome: Outcome = Failed(str(error))
        except Exception:
            logger.exception("job %s: its picture could not be carried to its client's bucket", job.id)
            outcome = Failed(f"{bucket.field}: the picture could not be stored: internal error, see the server's log")
        else:
            links = {"image_url": urls[0]} if len(urls) == 1 else {"image_url": urls[0], "images": urls}
            outcome = Completed({**links, **upload.said})
        await self._end(job, outcome)

    async def _end(self, job: Job, outcome: Outcome) -> None:
        """Report as a worker does, for as long as the lease is kept."""
        while True:
            try:
                await self._store.finish(job.id, self._holder, job.claim_token, outcome)
            except StoreUnavailable as error:
                logger.warning("job %s: its end cannot be noted yet: %s", job.id, error)
                await self._sleep(_PAUSE_S)
            except (LeaseLost, UnknownJob) as error:
                logger.warning("job %s is no longer held here: %s", job.id, error)
                return
            else:
                return

    def _forget(self, job_id: str, task: "asyncio.Task[None]") -> None:
        # The job may have been drawn again and be here a second time.
        if self._tasks.get(job_id) is task:
            del self._tasks[job_id], self._uploads[job_id]
        if not self._uploads:
            self._has_any.clear()

    def _cancel(self, job_id: str) -> None:
        if (task := self._tasks.get(job_id)) is not None:
            logger.info("job %s has ended before its upload", job_id)
            task.cancel()

    async def _keep_leases(self) -> None:
        while True:
            await self._sleep(self._lease_s / _RENEWALS_PER_LEASE)
            with _logged("leases of uploads could not be renewed"):
                for job_id in await self._store.renew(self._holder, list(self._tasks), self._lease_s):
                    self._cancel(job_id)

    async def _listen_for_stops(self) -> None:
        while True:
            await self._has_any.wait()
            with _logged("uploads cannot be told to stop"):
                for job_id in await self._store.wait_for_stops(self._holder, _LONGEST_WAIT_S):
                    self._cancel(job_id)
                continue
            await self._sleep(_PAUSE_S)

    async def _stop(self) -> None:
        """A moment for what is on its way; what is not done then is drawn again after the restart, unblamed."""
        self._is_closing = True
        if self._tasks:
            await asyncio.wait(list(self._tasks.values()), timeout=_GRACE_S)
        unfinished = {job_id: upload.job for job_id, upload in self._uploads.items()}
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for job in unfinished.values():
            with contextlib.suppress(FluxEndpointError):
                await self._store.finish(job.id, self._holder, job.claim_token, Returned())
                logger.info("job %s goes back to the queue: its upload was not done", job.id)


@contextlib.contextmanager
def _logged(what: str) -> Iterator[None]:
    try:
        yield
    except FluxEndpointError as error:
        logger.warning("%s: %s", what, error)


def _name_of(job: Job, number: int) -> str:
    """Of an object in the bucket; the first picture has the job's own."""
    return job.id if number == 1 else f"{job.id}-{number}"


def _bucket_of(job: Job) -> Bucket:
    assert job.bucket is not None
    return job.bucket
