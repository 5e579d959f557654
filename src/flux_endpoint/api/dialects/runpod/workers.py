"""The worker protocol: Runpod's own (contract section 5), whose `job-done` may also be the picture itself."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from functools import partial
from itertools import accumulate
from typing import Any

from starlette.responses import FileResponse, Response

from flux_endpoint.api.admission import Worker, names_in
from flux_endpoint.api.dialects.runpod.buckets import s3_config_of
from flux_endpoint.api.dialects.runpod.reports import outcome_of, read_report
from flux_endpoint.api.http import json_reply, unless_client_leaves
from flux_endpoint.api.operations import Call
from flux_endpoint.api.tracing import note_taken
from flux_endpoint.core.acceleration import Acceleration
from flux_endpoint.core.errors import InvalidRequest
from flux_endpoint.core.image_formats import SOURCE_FORMAT
from flux_endpoint.core.job import Claim, JobStatus, Policy

# The largest picture, 1536 x 1536 pixels of noise as PNG, is 7 MB; a job has up to four, and of each draft the latents.
_IMAGE_LIMIT_BYTES = 48 * 2**20
_MAX_BATCH = 100
# A worker holds as many jobs as its handler runs at once: tens, in rare cases hundreds.
_MAX_PINGED = 1_000
_MAX_REASON_CHARS = 256
_MAX_LINE_CHARS = 1_000
_MAX_NUMBER = 10**9
# The answer to what asks for nothing.
_noted = partial(Response, b"{}", media_type="application/json")


async def job_take(call: Call, worker: Worker) -> Response:
    """The oldest waiting job, as soon as there is one; 204 when none came in time: ask again at once."""
    claims = await _take(call, worker, limit=1)
    return json_reply(_job_body(call, claims[0])) if claims else Response(status_code=204)


async def job_take_batch(call: Call, worker: Worker) -> Response:
    """Up to `batch_size` of the oldest waiting jobs, as soon as there is one; 204 when none came in time."""
    [limit] = _numbers(call, "batch_size", minimum=1, maximum=_MAX_BATCH)
    claims = await _take(call, worker, limit or 1)
    return json_reply([_job_body(call, claim) for claim in claims]) if claims else Response(status_code=204)


async def job_source(call: Call, worker: Worker, job_id: str) -> Response:
    """A picture that a job is drawn from, by the `sha256` that the job's input has of it."""
    [token], sha256 = _numbers(call, "claimToken"), _line(call, "sha256") or ""
    data = await call.services.sources.read_for(worker.endpoint_ids, worker.id, job_id, token, sha256)
    return Response(data, media_type=SOURCE_FORMAT.media_type)


async def job_lora(call: Call, worker: Worker, job_id: str) -> Response:
    """A LoRA that was fetched for a job, by the `sha256` that the job's input has of it."""
    [token], sha256 = _numbers(call, "claimToken"), _line(call, "sha256") or ""
    loras = call.services.sources.loras
    return FileResponse(await loras.file_for(worker.endpoint_ids, worker.id, job_id, token, sha256))


async def job_done(call: Call, worker: Worker, job_id: str) -> Response:
    """The end of a job, or what it has got so far (`"status": "IN_PROGRESS"`).

    Our own worker may send the picture's file instead, with each `warning` and the `acceleration` in the query; those
    of a job with several are one body, one after the other, and their `sizes` in bytes are in the query, too.
    Behind drafts come their latents.
    """
    # Third-party workers have none: their protocol has no place for it.
    [token] = _numbers(call, "claimToken")
    async with _failing_job(worker, job_id, token, "the worker's result was refused"):
        if call.headers.get("content-type", "").startswith("image/"):
            data = await call.read_body(_IMAGE_LIMIT_BYTES)
            said = _said_of_picture(call)
            files = _files_in(call, data) if "sizes" in call.query_params else [data]
            await worker.workforce.reports.deliver(worker.endpoint_ids, worker.id, job_id, token, files, said)
        else:
            # Official workers send JSON under a form's content type.
            await _take_report(worker, job_id, token, await _report_in(call))
    return _noted()


async def job_stream(call: Call, worker: Worker, job_id: str) -> Response:
    """Something for the client before the end of the job."""
    # Third-party workers have none: their protocol has no place for it.
    [token] = _numbers(call, "claimToken")
    async with _failing_job(worker, job_id, token, "a chunk of the worker's stream was refused"):
        report = await _report_in(call)
        await worker.workforce.reports.send_chunk(worker.id, job_id, token, report.get("output"))
    return _noted()


async def job_stop(call: Call, worker: Worker) -> Response:
    """Jobs to stop, as soon as there are any; 204 when none came in time: ask again.

    Our own workers say `unload=1`: they may be told to give their memory back, too.
    """
    can_unload = call.query_params.get("unload") == "1"
    waiting = worker.workforce.stops(worker.id, worker.endpoint_ids, call.services.hold_s, can_unload)
    stops = await unless_client_leaves(call, waiting)
    body: dict[str, Any] = {"jobsToStop": stops} if stops else {}
    if can_unload and worker.workforce.memory.is_to_unload(worker.id):
        body = {"jobsToStop": stops, "unload": True}
    return json_reply(body) if body else Response(status_code=204)


async def ping(call: Call, worker: Worker) -> Response:
    """Renew the leases of the named jobs; the answer lists those that are no longer the worker's.

    Our own workers add how they keep their models, and how fast they are.

    With `status=unhealthy`, the worker says that it cannot work, and in `check` and `reason` why. With
    `status=leaving`, our own say that they end, so that nobody takes them for dead.
    """
    query = call.query_params
    if query.get("status") == "leaving":
        await worker.workforce.part(worker.id)
        return _noted()
    if query.get("status") == "unhealthy":
        reason = ": ".join(text for text in (query.get("check"), query.get("reason")) if text) or "no reason given"
        await worker.workforce.ping_unhealthy(worker.id, worker.endpoint_ids, reason[:_MAX_REASON_CHARS])
        return _noted()
    job_ids = names_in(query.get("job_id", ""))
    if len(job_ids) > _MAX_PINGED:
        raise InvalidRequest(f"Invalid request: job_id names {len(job_ids)} jobs; a ping may name {_MAX_PINGED}")
    not_held = await worker.workforce.ping(worker.id, worker.endpoint_ids, job_ids)
    memory = _line(call, "memory")
    if memory is not None:
        worker.workforce.memory.note(worker.id, memory)
    [step_us] = _numbers(call, "stepUs", minimum=1)
    if step_us is not None:
        await worker.workforce.note_step(worker.id, step_us)
    return json_reply({"jobsToStop": sorted(not_held)})


async def _take(call: Call, worker: Worker, limit: int) -> list[Claim]:
    services = call.services
    # Said by our own workers: with their first take how long they took to start; while they draw, for what they have
    # room, and for how long that holds.
    cold_start_ms, at_most, hold_ms = _numbers(call, "coldStart", "atMost", "holdMs")
    if cold_start_ms is not None:
        await services.activity.note_cold_start(worker.id, worker.endpoint_ids, cold_start_ms)
    taking = services.workforce.take(
        worker.id,
        worker.endpoint_ids,
        services.hold_s if hold_ms is None else min(services.hold_s, hold_ms / 1_000),
        limit,
        worker.check_right,
        (_line(call, "fingerprint") or "") if "fingerprint" in call.query_params else "",
        is_free=call.query_params.get("job_in_progress") == "0",
        at_most=at_most,
    )
    return await unless_client_leaves(call, taking)


@contextlib.asynccontextmanager
async def _failing_job(worker: Worker, job_id: str, token: int | None, what: str) -> AsyncIterator[None]:
    """Let what is refused in the block end its job: nobody will send a better one.

    Without this the client would wait for two leases to run out, or get, and pay for, a result with a part missing.
    """
    try:
        yield
    except InvalidRequest as error:
        await worker.workforce.reports.fail(worker.id, job_id, token, f"{what}: {error}")
        raise


def _job_body(call: Call, claim: Claim) -> dict[str, Any]:
    """What a worker gets; Runpod's SDK hands all of it to the handler, so it has Runpod's shape."""
    job = claim.job
    body: dict[str, Any] = {"id": job.id, "input": job.input}
    if call.query_params.get("claim") == "1":
        # Our own workers ask for it.
        lease_ms = call.services.workforce.lease_ms
        body |= {"endpointId": job.endpoint_id, "claimToken": claim.token, "leaseMs": lease_ms}
        if job.traceparent is not None:
            body["traceparent"] = job.traceparent
    if job.traceparent is not None and call.services.tracer is not None:
        note_taken(call.services.tracer, job)
    if job.policy != Policy():
        body["policy"] = _policy_body(job.policy)
    bucket = None if job.bucket is None else s3_config_of(job.bucket)
    siblings = {"webhook": job.webhook, "s3Config": bucket, "batchId": job.batch_id}
    return body | {name: value for name, value in siblings.items() if value}


def _policy_body(policy: Policy) -> dict[str, Any]:
    body = {"executionTimeout": policy.execution_timeout_ms, "lowPriority": policy.low_priority}
    return body if policy.ttl_ms is None else body | {"ttl": policy.ttl_ms}


async def _report_in(call: Call) -> Mapping[str, Any]:
    data = await call.read_body()
    return await call.services.bodies.read(data, read_report)


async def _take_report(worker: Worker, job_id: str, token: int | None, report: Mapping[str, Any]) -> None:
    workforce = worker.workforce
    if report.get("status") == JobStatus.IN_PROGRESS.value:
        await workforce.reports.note_progress(worker.id, job_id, token, report.get("output"))
        return
    try:
        await workforce.reports.done(worker.endpoint_ids, worker.id, job_id, token, outcome_of(job_id, report))
    finally:
        if report.get("stopPod") is True:
            await workforce.let_leave(worker.id, worker.endpoint_ids)


def _said_of_picture(call: Call) -> dict[str, Any]:
    """What our own worker says of a picture, as it goes into the output."""
    said: dict[str, Any] = {}
    if warnings := call.query_params.getlist("warning"):
        said["warnings"] = warnings
    if (level := call.query_params.get("acceleration")) is not None:
        if level not in list(Acceleration):
            raise InvalidRequest("Invalid request: acceleration is none of the levels")
        said["acceleration"] = level
    return said


def _files_in(call: Call, data: bytes) -> list[bytes]:
    """The pictures of a body that holds several."""
    sizes = [int(size) if size.isascii() and size.isdigit() else 0 for size in call.query_params["sizes"].split(",")]
    if not all(sizes) or sum(sizes) != len(data):
        raise InvalidRequest(f"Invalid request: sizes must be those of the files in the body, {len(data)} bytes in all")
    ends = list(accumulate(sizes))
    return [data[end - size : end] for size, end in zip(sizes, ends, strict=True)]


def _line(call: Call, name: str) -> str | None:
    """What our own workers tell of themselves; None when they do not."""
    text = call.query_params.get(name)
    if text is not None and (len(text) > _MAX_LINE_CHARS or not (text.isascii() and text.isprintable())):
        problem = f"must be at most {_MAX_LINE_CHARS} printable ASCII characters"
        raise InvalidRequest(f"Invalid request: {name} {problem}")
    return text


def _numbers(call: Call, *names: str, minimum: int = 0, maximum: int = _MAX_NUMBER) -> list[int | None]:
    """Whole numbers that the query has; None for each that it has not."""
    texts = [call.query_params.get(name) for name in names]
    for name, text in zip(names, texts, strict=True):
        if text is None:
            continue
        if not (text.isascii() and text.isdigit() and len(text) < 10 and minimum <= int(text) <= maximum):
            raise InvalidRequest(f"Invalid request: {name} must be a whole number from {minimum} to {maximum}")
    return [None if text is None else int(text) for text in texts]
