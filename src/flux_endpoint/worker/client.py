"""The gateway as a worker sees it: Runpod's worker protocol over HTTP, plus one PUT for the picture."""

import asyncio
import ipaddress
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from flux_endpoint.core.errors import InvalidRequest, LeaseLost, NotFound, Unauthenticated
from flux_endpoint.core.generation import ImageFormat

logger = logging.getLogger(__name__)

# The gateway holds `job-take` and `job-stop` for 20 s, Runpod's own for up to 90 s; the rest answers in milliseconds.
_HOLD_TIMEOUT: Final = httpx.Timeout(10, read=100)
_REPORT_TIMEOUT: Final = httpx.Timeout(10, read=30, write=60)
_PING_TIMEOUT: Final = httpx.Timeout(5)
# The first retry catches a kept-alive connection that the gateway had just closed; a restart takes seconds.
_FIRST_BACKOFF_S: Final = 0.1
_LAST_BACKOFF_S: Final = 2.0
_TOO_MANY_REQUESTS: Final = 429


@dataclass(frozen=True, slots=True)
class TakenJob:
    """A job that is this worker's until its lease ends.

    Attributes:
        input: what the endpoint accepted; for FLUX the object of `GenerationRequest.to_input`.
        claim_token: to be repeated in every report.
        lease_s: how long the claim lasts after the take and after each ping.
    """

    id: str
    endpoint_id: str
    input: Mapping[str, Any]
    claim_token: int
    lease_s: float


class Gateway:
    """One gateway, spoken to by one worker.

    Every call is repeated until the gateway gives an answer: a restart of it goes unnoticed but for the delay.

    Args:
        http: the connection; `connect` makes one.
        endpoint_ids: endpoints to take jobs of.
        worker_id: this worker's name.
        device: what it runs on, as shown by the gateway.
        sleep: waits between tries; tests hand in their own.
    """

    def __init__(
        self,
        http: httpx.AsyncClient,
        endpoint_ids: Collection[str],
        worker_id: str,
        device: str,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._http = http
        self._all = ",".join(sorted(endpoint_ids))
        self._worker_id = worker_id
        self._device = device
        self._sleep = sleep
        self._is_answering = True

    async def take(self, *, is_busy: bool) -> TakenJob | None:
        """The next job; None when there was none for as long as the gateway holds the question.

        Raises:
            Unauthenticated: the worker token is wrong.
            NotFound: the gateway does not serve these endpoints.
        """
        body = await self._ask(
            "GET",
            f"/v2/{self._all}/job-take/{self._worker_id}",
            timeout=_HOLD_TIMEOUT,
            params={"gpu": self._device, "job_in_progress": int(is_busy)},
        )
        if body is None:
            return None
        return TakenJob(
            id=body["id"],
            endpoint_id=body["endpointId"],
            input=body["input"],
            claim_token=body["claimToken"],
            lease_s=body["leaseMs"] / 1_000,
        )

    async def save_image(self, job: TakenJob, data: bytes, image_format: ImageFormat) -> str:
        """Upload a finished picture. Returns the image key to be named in the report.

        Raises:
            LeaseLost: the job is no longer this worker's.
            InvalidRequest: the gateway does not want these bytes.
        """
        body = await self._ask(
            "PUT",
            self._path_of(job, "job-image"),
            timeout=_REPORT_TIMEOUT,
            params={"claimToken": job.claim_token},
            content=data,
            headers={"Content-Type": image_format.media_type},
        )
        return str(body["imageKey"])

    async def report(self, job: TakenJob, result: Mapping[str, Any]) -> None:
        """Tell the end of a job: `{"output": …}`, `{"error": …}` or `{"returned": true}`.

        Raises:
            LeaseLost: the job is no longer this worker's.
            InvalidRequest: the gateway does not understand the result.
        """
        await self._ask(
            "POST",
            self._path_of(job, "job-done"),
            timeout=_REPORT_TIMEOUT,
            params={"claimToken": job.claim_token, "isStream": "false"},
            json=result,
        )

    async def send_progress(self, job: TakenJob, progress: Mapping[str, Any]) -> None:
        """Tell the job's client how far it is.

        Raises:
            LeaseLost: the job is no longer this worker's.
        """
        await self._ask(
            "POST",
            self._path_of(job, "job-stream"),
            timeout=_REPORT_TIMEOUT,
            params={"claimToken": job.claim_token, "isStream": "false"},
            json={"output": progress},
        )

    async def stops(self) -> list[str]:
        """Ids of jobs to stop; empty when there was none for as long as the gateway holds the question."""
        body = await self._ask("GET", f"/v2/{self._all}/job-stop/{self._worker_id}", timeout=_HOLD_TIMEOUT)
        return list(body["jobsToStop"]) if body else []

    async def ping(self, job_ids: Collection[str]) -> list[str]:
        """Renew the leases of these jobs. Returns those that are no longer this worker's."""
        params = {"job_id": ",".join(job_ids)} if job_ids else {}
        body = await self._ask("GET", f"/v2/{self._all}/ping/{self._worker_id}", timeout=_PING_TIMEOUT, params=params)
        return list(body["jobsToStop"]) if body else []

    def _path_of(self, job: TakenJob, operation: str) -> str:
        return f"/v2/{job.endpoint_id}/{operation}/{self._worker_id}/{job.id}"

    async def _ask(self, method: str, path: str, **options: Any) -> Any:
        """The JSON of a 200, None for a 204. Anything that may pass is tried again, for ever."""
        backoff_s = _FIRST_BACKOFF_S
        while True:
            try:
                response = await self._http.request(method, path, **options)
            except httpx.TransportError as error:
                problem = f"{type(error).__name__}: {error}".rstrip(": ")
            else:
                if response.status_code < 500 and response.status_code != _TOO_MANY_REQUESTS:
                    self._note_answer()
                    return _content_of(response)
                problem = f"HTTP {response.status_code}: {_reason_of(response)}"
            self._note_silence(path, problem, backoff_s)
            await self._sleep(backoff_s)
            backoff_s = min(_LAST_BACKOFF_S, 2 * backoff_s)

    def _note_silence(self, path: str, problem: str, backoff_s: float) -> None:
        # One line for one outage; not for the first retry, which is how a stale connection shows.
        operation = path.split("/")[3]
        if self._is_answering and backoff_s > _FIRST_BACKOFF_S:
            self._is_answering = False
            logger.warning("gateway does not answer %s, trying on (%s)", operation, problem)
        else:
            logger.debug("gateway does not answer %s (%s)", operation, problem)

    def _note_answer(self) -> None:
        if not self._is_answering:
            self._is_answering = True
            logger.info("gateway answers again")


def connect(base_url: str, token: str) -> httpx.AsyncClient:
    """An HTTP connection that carries the worker token."""
    return httpx.AsyncClient(
        base_url=base_url.rstrip("/"),
        # Raw, without "Bearer": as Runpod's workers send it.
        headers={"Authorization": token},
        limits=httpx.Limits(keepalive_expiry=20),
        # A proxy for the internet must not get the calls to a gateway on this machine.
        trust_env=not _is_loopback(base_url),
    )


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _content_of(response: httpx.Response) -> Any:
    match response.status_code:
        case 200:
            return response.json()
        case 204:
            return None
        case 401 | 403:
            raise Unauthenticated(f"the gateway refused the worker token ({_reason_of(response)})")
        case 404:
            raise NotFound(f"the gateway does not know this: {_reason_of(response)}")
        case 409:
            raise LeaseLost(_reason_of(response))
        case status:
            raise InvalidRequest(f"the gateway refused with HTTP {status}: {_reason_of(response)}")


def _reason_of(response: httpx.Response) -> str:
    try:
        return str(response.json()["error"])
    except (ValueError, KeyError, TypeError):
        return response.text[:200] or response.reason_phrase
