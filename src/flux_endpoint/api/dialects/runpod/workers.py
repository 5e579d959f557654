"""The worker protocol: Runpod's own (contract section 5), whose `job-done` may also be the picture itself."""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute

from flux_endpoint.api.http import json_reply, read_body, secret_of, unless_client_leaves
from flux_endpoint.api.services import services_of
from flux_endpoint.core.errors import FluxEndpointError, Forbidden, InvalidRequest
from flux_endpoint.core.job import Claim, Policy
from flux_endpoint.service.worker_tokens import worker_name
from flux_endpoint.service.workforce import Workforce

Result = TypeVar("Result")

# The largest picture, 1536 x 1536 pixels of noise as PNG, is 7 MB.
_IMAGE_LIMIT_BYTES = 32 * 2**20
_RESULT_LIMIT_BYTES = 20 * 2**20
_CHUNK_LIMIT_BYTES = 2**20
_MAX_BATCH = 100
# A worker holds as many jobs as its handler runs at once: tens, in rare cases hundreds.
_MAX_PINGED = 1_000
_MAX_REASON_CHARS = 256
_MAX_FINGERPRINT_CHARS = 1_000

# `endpoint_ids` is one id, or several joined by commas for a worker that serves them all.
router = APIRouter(prefix="/v2/{endpoint_ids}", include_in_schema=False)


@dataclass(frozen=True, slots=True)
class _Caller:
    """A worker that may do what it asks for, as far as its token goes."""

    workforce: Workforce
    id: str
    endpoint_ids: list[str]


@router.get("/job-take/{worker_id}")
async def job_take(request: Request, endpoint_ids: str, worker_id: str) -> Response:
    """The oldest waiting job, as soon as there is one; 204 when none came in time: ask again at once."""
    claims = await _take(request, endpoint_ids, worker_id, limit=1)
    return json_reply(_job_body(request, claims[0])) if claims else Response(status_code=204)


@router.get("/job-take-batch/{worker_id}")
async def job_take_batch(request: Request, endpoint_ids: str, worker_id: str) -> Response:
    """Up to `batch_size` of the oldest waiting jobs, as soon as there is one; 204 when none came in time."""
    limit = _number(request, "batch_size", 1, _MAX_BATCH) or 1
    claims = await _take(request, endpoint_ids, worker_id, limit)
    return json_reply([_job_body(request, claim) for claim in claims]) if claims else Response(status_code=204)


@router.post("/job-done/{worker_id}/{job_id}")
async def job_done(request: Request, endpoint_ids: str, worker_id: str, job_id: str) -> Response:
    """The end of a job, or what it has got so far (`"status": "IN_PROGRESS"`).

    Our own worker may send the picture's file instead, with each `warning` in the query.
    """
    caller = await _authenticate(request, endpoint_ids, worker_id)
    token = _claim_token(request)
    async with _failing_job(caller, job_id, token, "the worker's result was refused"):
        if request.headers.get("content-type", "").startswith("image/"):
            data = await read_body(request, _IMAGE_LIMIT_BYTES)
            warnings = request.query_params.getlist("warning")
            await caller.workforce.deliver(caller.endpoint_ids, caller.id, job_id, token, data, warnings)
        else:
            # Official workers send JSON under a form's content type.
            result = await _report_in(request, _RESULT_LIMIT_BYTES)
            await caller.workforce.done(caller.endpoint_ids, caller.id, job_id, token, result)
    return json_reply({})


@router.post("/job-stream/{worker_id}/{job_id}")
async def job_stream(request: Request, endpoint_ids: str, worker_id: str, job_id: str) -> Response:
    """Something for the client before the end of the job."""
    caller = await _authenticate(request, endpoint_ids, worker_id)
    token = _claim_token(request)
    async with _failing_job(caller, job_id, token, "a chunk of the worker's stream was refused"):
        result = await _report_in(request, _CHUNK_LIMIT_BYTES)
        await caller.workforce.send_chunk(caller.id, job_id, token, result)
    return json_reply({})


@router.get("/job-stop/{worker_id}")
async def job_stop(request: Request, endpoint_ids: str, worker_id: str) -> Response:
    """Jobs to stop, as soon as there are any; 204 when none came in time: ask again."""

    async def wait() -> list[str]:
        caller = await _authenticate(request, endpoint_ids, worker_id)
        return await caller.workforce.stops(caller.id, caller.endpoint_ids, services_of(request).hold_s)

    stops = await _held(request, wait())
    return json_reply({"jobsToStop": stops}) if stops else Response(status_code=204)


@router.get("/ping/{worker_id}")
async def ping(request: Request, endpoint_ids: str, worker_id: str) -> Response:
    """Renew the leases of the named jobs; the answer lists those that are no longer the worker's.

    With `status=unhealthy`, the worker says that it cannot work, and in `check` and `reason` why.
    """
    caller = await _authenticate(request, endpoint_ids, worker_id)
    query = request.query_params
    if query.get("status") == "unhealthy":
        reason = ": ".join(text for text in (query.get("check"), query.get("reason")) if text) or "no reason given"
        await caller.workforce.ping_unhealthy(caller.id, caller.endpoint_ids, reason[:_MAX_REASON_CHARS])
        return json_reply({})
    job_ids = _names_in(query.get("job_id", ""))
    if len(job_ids) > _MAX_PINGED:
        raise InvalidRequest(f"Invalid request: job_id names {len(job_ids)} jobs; a ping may name {_MAX_PINGED}")
    not_held = await caller.workforce.ping(caller.id, caller.endpoint_ids, job_ids)
    return json_reply({"jobsToStop": sorted(not_held)})


# The third part of the paths above.
OPERATIONS: Final = frozenset(route.path.split("/")[3] for route in router.routes if isinstance(route, APIRoute))


async def _take(request: Request, endpoint_ids: str, worker_id: str, limit: int) -> list[Claim]:
    services = services_of(request)

    async def take() -> list[Claim]:
        caller = await _authenticate(request, endpoint_ids, worker_id)
        # Said by our own workers with their first take.
        cold_start_ms = _number(request, "coldStart", 0, 10**9)
        if cold_start_ms is not None:
            await services.activity.note_cold_start(caller.id, caller.endpoint_ids, cold_start_ms)
        check_right = functools.partial(services.worker_tokens.authenticate, secret_of(request))
        is_free = request.query_params.get("job_in_progress") == "0"
        return await caller.workforce.take(
            caller.id,
            caller.endpoint_ids,
            services.hold_s,
            limit,
            check_right,
            _fingerprint(request),
            is_free=is_free,
        )

    return await _held(request, take())


async def _held(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """Await what may take long. A refusal takes long too: after it Runpod's SDK asks again without a pause."""

    async def refuse_slowly() -> Result:
        try:
            return await work
        except FluxEndpointError:
            await asyncio.sleep(services_of(request).hot_loop_s)
            raise

    return await unless_client_leaves(request, refuse_slowly())


async def _authenticate(request: Request, endpoint_ids: str, worker_id: str) -> _Caller:
    services = services_of(request)
    token = await services.worker_tokens.authenticate(secret_of(request))
    wanted = _names_in(endpoint_ids)
    if token.endpoint_ids is not None and not token.endpoint_ids.issuperset(wanted):
        allowed = ", ".join(sorted(token.endpoint_ids))
        raise Forbidden(f"the worker token '{token.name}' is good for these endpoints only: {allowed}")
    return _Caller(services.workforce, worker_name(token.id, worker_id), wanted)


@contextlib.asynccontextmanager
async def _failing_job(caller: _Caller, job_id: str, token: int | None, what: str) -> AsyncIterator[None]:
    """Let what is refused in the block end its job: nobody will send a better one.

    Without this the client would wait for two leases to run out, or get, and pay for, a result with a part missing.
    """
    try:
        yield
    except InvalidRequest as error:
        await caller.workforce.fail(caller.id, job_id, token, f"{what}: {error}")
        raise


def _names_in(text: str) -> list[str]:
    """The different ones of a list with commas."""
    return list(dict.fromkeys(name for name in text.split(",") if name))


def _job_body(request: Request, claim: Claim) -> dict[str, Any]:
    """What a worker gets; Runpod's SDK hands all of it to the handler, so it has Runpod's shape."""
    job = claim.job
    body: dict[str, Any] = {"id": job.id, "input": job.input}
    if request.query_params.get("claim") == "1":
        # Our own workers ask for it.
        lease_ms = services_of(request).workforce.lease_ms
        body |= {"endpointId": job.endpoint_id, "claimToken": claim.token, "leaseMs": lease_ms}
    siblings = {"webhook": job.webhook, "s3Config": job.s3_config, "policy": _policy_body(job.policy)}
    siblings["batchId"] = job.batch_id
    return body | {name: value for name, value in siblings.items() if value}


def _policy_body(policy: Policy) -> dict[str, Any]:
    """What the client asked for; empty when it asked for nothing out of the ordinary."""
    if policy == Policy():
        return {}
    body = {"executionTimeout": policy.execution_timeout_ms, "lowPriority": policy.low_priority}
    return body if policy.ttl_ms is None else body | {"ttl": policy.ttl_ms}


async def _report_in(request: Request, limit_bytes: int) -> Mapping[str, Any]:
    return await services_of(request).endpoints.bodies.report(await read_body(request, limit_bytes))


def _fingerprint(request: Request) -> str:
    """The kind of worker, told by our own with their first take; else empty."""
    text = request.query_params.get("fingerprint", "")
    if len(text) > _MAX_FINGERPRINT_CHARS or not (text.isascii() and text.isprintable()):
        problem = f"must be at most {_MAX_FINGERPRINT_CHARS} printable ASCII characters"
        raise InvalidRequest(f"Invalid request: fingerprint {problem}")
    return text


def _claim_token(request: Request) -> int | None:
    """The fencing token; absent from third-party workers, whose protocol has no place for it."""
    return _number(request, "claimToken", 0, 10**9)


def _number(request: Request, name: str, minimum: int, maximum: int) -> int | None:
    text = request.query_params.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10 and minimum <= int(text) <= maximum):
        raise InvalidRequest(f"Invalid request: {name} must be a whole number from {minimum} to {maximum}")
    return int(text)
