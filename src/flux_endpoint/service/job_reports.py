"""What a worker reports of a job that it holds: what it has got so far, and the end."""

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from flux_endpoint.core.endpoint import EndpointSpec
from flux_endpoint.core.errors import InvalidRequest, LeaseLost, UnknownJob
from flux_endpoint.core.job import POSTED, Completed, Failed, Outcome
from flux_endpoint.core.picture_work import steps_drawn
from flux_endpoint.core.progress import PREVIEW, read_progress, without_preview
from flux_endpoint.core.raw_json import BIG_CHARS, RawJson
from flux_endpoint.service.pictures import Pictures
from flux_endpoint.service.worker_registry import WorkerRegistry
from flux_endpoint.stores.jobs.protocol import ClaimStore

logger = logging.getLogger(__name__)


class JobReports:
    """Takes reports. Whoever names a job must hold it.

    Args:
        store: the queue.
        pictures: where pictures go.
        catalog: the endpoints served here, by id.
        registry: the workers.
    """

    def __init__(
        self,
        store: ClaimStore,
        pictures: Pictures,
        catalog: Mapping[str, EndpointSpec],
        registry: WorkerRegistry,
    ) -> None:
        self._store = store
        self._pictures = pictures
        self._catalog = catalog
        self._drawing = frozenset(endpoint_id for endpoint_id, spec in catalog.items() if spec.makes_pictures)
        self._registry = registry

    async def send_chunk(self, worker_id: str, job_id: str, token: int | None, chunk: Any) -> None:
        """Pass something on to the client of a running job before its end.

        Raises:
            InvalidRequest: it is None.
            LeaseLost: the job is not held by this worker and token.
            UnknownJob: no such job.
        """
        if chunk is None:
            raise InvalidRequest("Invalid request: a stream chunk must have an 'output'")
        self._registry.hear(worker_id)
        progress = read_progress(chunk)
        if progress is not None and PREVIEW in progress:
            # Chunks wait until somebody reads them: pictures must not pile up.
            chunk = without_preview(chunk)
        await self._store.append_chunk(job_id, worker_id, token, chunk, progress)

    async def deliver(
        self,
        endpoint_ids: Collection[str],
        worker_id: str,
        job_id: str,
        token: int | None,
        files: Sequence[bytes],
        said: Mapping[str, Any],
    ) -> None:
        """Take the pictures that end a job; see `Pictures.deliver`.

        Args:
            endpoint_ids: endpoints the worker serves; the job is of one of them.
            worker_id: who reports.
            job_id: the claimed job.
            token: see `ClaimStore.finish`.
            files: all of them, in order.
            said: of the pictures, for the client.

        Raises:
            LeaseLost: the job is not held by this worker and token.
            InvalidRequest: the bytes are no picture of a known format, or the job has another number of them.
            UnknownJob: no such job.
        """
        worker = self._registry.get(worker_id)
        # Handed out here, as a rule: then it need not be looked up to know where its picture goes.
        job = (worker.jobs.pop(job_id, None) if worker else None) or await self._store.get(job_id, endpoint_ids)
        makes_pictures = job.endpoint_id in self._drawing
        fields = job.fields if makes_pictures else {}
        await self._pictures.deliver(job, fields, worker_id, token, files, said)
        if worker and makes_pictures:
            worker.steps += steps_drawn(fields) * fields.get("num_images", 1)

    async def done(
        self, endpoint_ids: Collection[str], worker_id: str, job_id: str, token: int | None, outcome: Outcome
    ) -> None:
        """Take a worker's report of the end of a job.

        Args:
            endpoint_ids: endpoints the worker serves; the job is of one of them.
            worker_id: who reports.
            job_id: the claimed job.
            token: see `ClaimStore.finish`.
            outcome: as the worker sees it; whether what it returned is a result, the endpoint says.

        Raises:
            LeaseLost: the job is not held by this worker and token.
            UnknownJob: no such job.
        """
        worker = self._registry.hear(worker_id)
        # Whatever becomes of this report: of another one for the same job no more is believed than is stored.
        job = (worker.jobs.pop(job_id, None) if worker else None) or await self._store.get(job_id, endpoint_ids)
        if isinstance(outcome, Completed):
            outcome = self._catalog[job.endpoint_id].conclude(job, outcome.output)
        await self._store.finish(job_id, worker_id, token, outcome)

    async def note_progress(self, worker_id: str, job_id: str, token: int | None, output: Any) -> None:
        """Take what a job has got so far, None for nothing but a sign of life.

        Raises:
            InvalidRequest: it is too big.
        """
        self._registry.hear(worker_id)
        if isinstance(output, RawJson):
            raise InvalidRequest(f"Invalid request: progress must have at most {BIG_CHARS // 2**10} KiB")
        news = {} if output is None else {**(read_progress(output) or {}), POSTED: output}
        try:
            await self._store.set_progress(job_id, worker_id, token, news)
        except (LeaseLost, UnknownJob) as error:
            # Runpod's SDK sends progress from a thread of its own: it may come after the end.
            logger.debug("job %s: progress came too late: %s", job_id, error)

    async def fail(self, worker_id: str, job_id: str, token: int | None, reason: str) -> None:
        """End a job whose worker sent something as its result that cannot be used.

        Raises:
            LeaseLost: the job is not held by this worker and token.
            UnknownJob: no such job.
        """
        await self._store.finish(job_id, worker_id, token, Failed(reason))
        if worker := self._registry.get(worker_id):
            worker.jobs.pop(job_id, None)
