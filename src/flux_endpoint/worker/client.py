"""The gateway as a worker sees it: Runpod's worker protocol, whose `job-done` may also be the picture itself."""

import asyncio
import contextlib
import hashlib
import json
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from flux_endpoint.core.drafts import Draft
from flux_endpoint.core.errors import InvalidRequest, LeaseLost, NotDelivered, NotFound, Unauthenticated
from flux_endpoint.core.image_formats import ImageFormat
from flux_endpoint.core.lora import Lora
from flux_endpoint.core.lora_places import told_name
from flux_endpoint.core.source_picture import SourcePicture
from flux_endpoint.files.kept_loras import KeptLoras, hash_of
from flux_endpoint.worker.connection import Connection, NoAnswer, Patience, QueryPairs, Reply

logger = logging.getLogger(__name__)

# The gateway holds `job-take` and `job-stop` for 20 s, Runpod's own for up to 90 s; the rest answers in milliseconds.
_HOLD: Final = Patience(silence_s=100)
# The upload of 7 MB at 256 kbit/s takes 220 s.
_REPORT: Final = Patience(silence_s=30, total_s=300)
# The gateway may have to fetch it again first.
_LORA: Final = Patience(silence_s=400)
_PING: Final = Patience(silence_s=5, total_s=10)
# The first retry catches a kept-alive connection that the gateway had just closed; a restart takes seconds.
_FIRST_BACKOFF_S: Final = 0.1
_LAST_BACKOFF_S: Final = 2.0
# A report is sent for about a minute in all, which covers a restart or an outage of the storage, and is then given up:
# whoever keeps at it holds a job, and a slot, for nothing. After an internal error a third try is one for luck.
_REPORT_TRIES: Final = 12
_REPORT_TRIES_AT_A_BUG: Final = 4
_LAST_REPORT_BACKOFF_S: Final = 10.0
_TOO_MANY_REQUESTS: Final = 429
_INTERNAL_ERROR: Final = 500
_OK: Final = 200


@dataclass(frozen=True, slots=True)
class TakenJob:
    """A job that is this worker's until its lease ends.

    Attributes:
        input: what the endpoint accepted; for FLUX the object of `GenerationRequest.to_input`.
        claim_token: to be repeated in every report.
        lease_s: how long the claim lasts after the take and after each ping.
        is_low: whether it is of low priority.
        traceparent: names the span that it belongs to; None where the gateway traces nothing.
    """

    id: str
    endpoint_id: str
    input: Mapping[str, Any]
    claim_token: int
    lease_s: float
    is_low: bool = False
    traceparent: str | None = None


class Gateway:
    """One gateway, spoken to by one worker.

    Every call is repeated until the gateway gives an answer: a restart of it goes unnoticed but for the delay. Only the
    report that ends a job is given up after about a minute.

    Args:
        connection: to the gateway; carries the worker token.
        endpoint_ids: endpoints to take jobs of.
        worker_id: this worker's name.
        device: what it runs on, as shown by the gateway.
        sleep: waits between tries; tests hand in their own.
        age_ms: how long ago this process started; told with the first take, which is its first free slot.
        fingerprint: of the kind of worker this is; told with the first take, too.
        memory: how its models are kept, told with pings.
        step_us: how fast it is, see `Calibration.step_us`; told with pings.
        on_unload: called when the gateway asks this worker to give its memory back.
    """

    def __init__(
        self,
        connection: Connection,
        endpoint_ids: Collection[str],
        worker_id: str,
        device: str,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        age_ms: Callable[[], int] | None = None,
        fingerprint: str = "",
        memory: Callable[[], str] = str,
        step_us: Callable[[], int | None] = lambda: None,
        on_unload: Callable[[], object] | None = None,
    ) -> None:
        self._connection = connection
        self._all = ",".join(sorted(endpoint_ids))
        self._worker_id = worker_id
        self._device = device
        self._sleep = sleep
        self._age_ms = age_ms
        self._fingerprint = fingerprint
        self._memory = memory
        self._step_us = step_us
        self._on_unload = on_unload
        self._is_answering = True
        self._one_lora = asyncio.Lock()

    async def take(self, *, is_busy: bool, at_most: int | None = None, hold_s: float | None = None) -> TakenJob | None:
        """The next job; None when there was none for as long as the gateway holds the question.

        Args:
            is_busy: whether this worker has a job already.
            at_most: of how much `picture_work` the job may be; None for any.
            hold_s: how long the gateway may hold the question at most; None for as long as it likes.

        Raises:
            Unauthenticated: the worker token is wrong.
            NotFound: the gateway does not serve these endpoints.
        """
        query = [("gpu", self._device), ("job_in_progress", str(int(is_busy))), ("claim", "1")]
        if at_most is not None:
            query.append(("atMost", str(at_most)))
        if hold_s is not None:
            query.append(("holdMs", str(int(hold_s * 1_000))))
        if self._age_ms:
            query.append(("coldStart", str(self._age_ms())))
        if self._fingerprint:
            query.append(("fingerprint", self._fingerprint))
        body = await self._ask("GET", f"/v2/{self._all}/job-take/{self._worker_id}", _HOLD, query=query)
        self._age_ms, self._fingerprint = None, ""
        if body is None:
            return None
        return TakenJob(
            id=body["id"],
            endpoint_id=body["endpointId"],
            input=body["input"],
            claim_token=body["claimToken"],
            lease_s=body["leaseMs"] / 1_000,
            is_low=body.get("policy", {}).get("lowPriority", False),
            traceparent=body.get("traceparent"),
        )

    async def fetch_source(self, job: TakenJob, picture: SourcePicture | Draft) -> bytes:
        """The file of a picture, or the latents of a draft, that a job is drawn from.

        Raises:
            LeaseLost: the job is no longer this worker's.
            NotFound: the gateway has it no longer.
            InvalidRequest: it is another file than the job says.
        """
        path, query = self._path_of(job, "job-source"), [*_claim(job), ("sha256", picture.sha256)]
        reply = await self._patiently(
            "job-source", lambda: self._connection.request("GET", path, query, None, None, _REPORT)
        )
        if reply.status != _OK:
            _content_of(reply)
        if hashlib.sha256(reply.body).hexdigest() != picture.sha256:
            raise InvalidRequest("the gateway sent another picture than the job is to be drawn from")
        return reply.body

    async def fetch_lora(self, job: TakenJob, lora: Lora, kept: KeptLoras) -> None:
        """Keep the file of a LoRA that a job is drawn with, unless it is kept already.

        Raises:
            LeaseLost: the job is no longer this worker's.
            NotFound: the gateway can no longer get it.
            InvalidRequest: it is another file than the job says.
            OSError: it cannot be kept.
        """
        path, query = self._path_of(job, "job-lora"), [*_claim(job), ("sha256", lora.sha256)]
        # Two jobs with the same LoRA wait for one file.
        async with self._one_lora:
            if kept.file(lora.sha256) is None:
                await self._save_lora(path, query, lora, kept)

    async def _save_lora(self, path: str, query: QueryPairs, lora: Lora, kept: KeptLoras) -> None:
        with kept.draft("lora.safetensors") as draft:
            reply = await self._patiently("job-lora", lambda: self._connection.save(path, query, draft, _LORA))
            if reply.status != _OK:
                _content_of(reply)
            if await asyncio.to_thread(hash_of, draft) != lora.sha256:
                raise InvalidRequest(f"the gateway sent another file than the LoRA '{told_name(lora.path)}' of the job")
            kept.keep(draft, lora.sha256)

    async def deliver(
        self, job: TakenJob, files: Sequence[bytes], image_format: ImageFormat, said: Iterable[tuple[str, str]]
    ) -> None:
        """End a job with its pictures.

        Args:
            job: the one they are of.
            files: all of them, in order; behind those of drafts their latents.
            image_format: of the files.
            said: what the result says beside them: `warning` any number of times, and `acceleration`.

        Raises:
            LeaseLost: the job is no longer this worker's.
            InvalidRequest: the gateway does not want these bytes.
            NotDelivered: the gateway did not take them for a minute.
        """
        query = [*_claim(job), *said]
        if len(files) > 1:
            query.append(("sizes", ",".join(str(len(data)) for data in files)))
        body, media_type = b"".join(files), image_format.media_type
        await self._ask("POST", self._path_of(job, "job-done"), _REPORT, query=query, body=body, media_type=media_type)

    async def report(self, job: TakenJob, result: Mapping[str, Any]) -> None:
        """Tell the end of a job that has no picture: `{"error": …}` or `{"returned": true}`.

        Raises:
            LeaseLost: the job is no longer this worker's.
            InvalidRequest: the gateway does not understand the result.
            NotDelivered: the gateway did not take it for a minute.
        """
        await self._tell(job, "job-done", result)

    async def send_progress(self, job: TakenJob, progress: Mapping[str, Any]) -> None:
        """Tell the job's client how far it is.

        Raises:
            LeaseLost: the job is no longer this worker's.
        """
        await self._tell(job, "job-stream", {"output": progress})

    async def stops(self) -> list[str]:
        """Ids of jobs to stop; empty when there was none for as long as the gateway holds the question."""
        query = [("unload", "1")] if self._on_unload else []
        body = await self._ask("GET", f"/v2/{self._all}/job-stop/{self._worker_id}", _HOLD, query=query)
        if body and body.get("unload") and self._on_unload:
            self._on_unload()
        return list(body["jobsToStop"]) if body else []

    async def ping(self, job_ids: Collection[str]) -> list[str]:
        """Renew the leases of these jobs. Returns those that are no longer this worker's."""
        query = [("job_id", ",".join(job_ids))] if job_ids else []
        if memory := self._memory():
            query.append(("memory", memory))
        if (step_us := self._step_us()) is not None:
            query.append(("stepUs", str(step_us)))
        body = await self._ask("GET", f"/v2/{self._all}/ping/{self._worker_id}", _PING, query=query)
        return list(body["jobsToStop"]) if body else []

    async def unwell(self, reason: str) -> None:
        """Tell that this worker cannot work, and why."""
        query = [("status", "unhealthy"), ("reason", reason)]
        await self._ask("GET", f"/v2/{self._all}/ping/{self._worker_id}", _PING, query=query, is_last_word=True)

    async def leaving(self) -> None:
        """Tell that this worker ends, once: if nobody hears it, the gateway will notice."""
        with contextlib.suppress(NoAnswer):
            path, query = f"/v2/{self._all}/ping/{self._worker_id}", [("status", "leaving")]
            await self._connection.request("GET", path, query, None, None, _PING)

    def _path_of(self, job: TakenJob, operation: str) -> str:
        return f"/v2/{job.endpoint_id}/{operation}/{self._worker_id}/{job.id}"

    async def _tell(self, job: TakenJob, operation: str, result: Mapping[str, Any]) -> None:
        path, body = self._path_of(job, operation), json.dumps(result).encode()
        await self._ask("POST", path, _REPORT, query=_claim(job), body=body, media_type="application/json")

    async def _ask(
        self,
        method: str,
        path: str,
        patience: Patience,
        *,
        query: QueryPairs = (),
        body: bytes | None = None,
        media_type: str | None = None,
        is_last_word: bool = False,
    ) -> Any:
        """The JSON of a 200, None for a 204."""
        reply = await self._patiently(
            path.split("/")[3],
            lambda: self._connection.request(method, path, query, body, media_type, patience),
            is_last_word=is_last_word,
        )
        return _content_of(reply)

    async def _patiently(
        self, operation: str, ask: Callable[[], Awaitable[Reply]], *, is_last_word: bool = False
    ) -> Reply:
        """The answer of the gateway. Anything that may pass is tried again, and only a report is given up.

        Whether the last word of a worker was heard is nothing to log: it ends anyway.
        """
        is_report = operation == "job-done"
        backoff_s = _FIRST_BACKOFF_S
        tries = 0
        while True:
            tries += 1
            status = None
            try:
                reply = await ask()
            except NoAnswer as error:
                problem = str(error)
            else:
                if reply.status < 500 and reply.status != _TOO_MANY_REQUESTS:
                    self._note_answer()
                    return reply
                status, problem = reply.status, f"HTTP {reply.status}: {reply.reason}"
            if is_report and tries >= (_REPORT_TRIES_AT_A_BUG if status == _INTERNAL_ERROR else _REPORT_TRIES):
                raise NotDelivered(f"the gateway did not take the result in {tries} tries ({problem})")
            if not is_last_word:
                self._note_silence(operation, problem, backoff_s)
            await self._sleep(backoff_s)
            backoff_s = min(_LAST_REPORT_BACKOFF_S if is_report else _LAST_BACKOFF_S, 2 * backoff_s)

    def _note_silence(self, operation: str, problem: str, backoff_s: float) -> None:
        # One line for one outage; not for the first retry, which is how a stale connection shows.
        if self._is_answering and backoff_s > _FIRST_BACKOFF_S:
            self._is_answering = False
            logger.warning("gateway does not answer %s, trying on (%s)", operation, problem)
        else:
            logger.debug("gateway does not answer %s (%s)", operation, problem)

    def _note_answer(self) -> None:
        if not self._is_answering:
            self._is_answering = True
            logger.info("gateway answers again")


def _claim(job: TakenJob) -> list[tuple[str, str]]:
    return [("claimToken", str(job.claim_token)), ("isStream", "false")]


def _content_of(reply: Reply) -> Any:
    match reply.status:
        case 200:
            return reply.json()
        case 204:
            return None
        case 401 | 403:
            raise Unauthenticated(f"the gateway refused the worker token ({reply.reason})")
        case 404:
            raise NotFound(f"the gateway does not know this: {reply.reason}")
        case 409:
            raise LeaseLost(reply.reason)
        case status:
            raise InvalidRequest(f"the gateway refused with HTTP {status}: {reply.reason}")
