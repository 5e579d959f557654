"""Jobs as clients ask for them, in the shapes of the Runpod contract."""

import uuid
from typing import Final

from starlette.responses import Response

from flux_endpoint.api.admission import REPEAT_HEADER
from flux_endpoint.api.dialects.runpod import answers
from flux_endpoint.api.dialects.runpod.submissions import read_submission
from flux_endpoint.api.http import WholeNumber, json_reply, unless_client_leaves
from flux_endpoint.api.operations import Call
from flux_endpoint.core.errors import InvalidRequest
from flux_endpoint.core.job import READ_TTL_MS, Job
from flux_endpoint.core.submission import Receipt, Submission
from flux_endpoint.service.endpoint import Endpoint, check_idempotency_key

DIALECT: Final = "runpod"
# Ids end in a cluster.
_CLUSTER_SUFFIX: Final = "u1"
# Contract section 1.2.
WAIT_MS: Final = WholeNumber("wait", 1_000, 300_000, "How long the call is held at most, milliseconds.")
TTL_MS: Final = WholeNumber("ttl", *READ_TTL_MS, "Let the job vanish this many milliseconds from now.")
POSITION: Final = WholeNumber(
    "position", 0, 10**12 - 1, "Only what came after it: 0, and then the `position` of the answer before."
)
# How long /runsync holds by default.
WAIT_MS_DEFAULT: Final = 90_000
# Shorter than the 10 s after which Runpod's Python client gives up reading.
STREAM_WAIT_MS_DEFAULT: Final = 8_000


async def runsync(call: Call, endpoint: Endpoint) -> Response:
    """Queue a job and hold the request until it is done, or `wait` is over: then poll `/status/{id}`."""
    wait_s = WAIT_MS.read(call, WAIT_MS_DEFAULT) / 1_000
    receipt = receipt_of(call, sync=True)
    with endpoint.ending(receipt.job_id, wait_s) as end_of:
        job, is_refused = await _submit(call, endpoint, receipt)
        if is_refused:
            return json_reply(answers.refused_body(job), 400)
        # That of an earlier request may have ended long ago.
        waiting = end_of(job) if job.id == receipt.job_id else endpoint.wait(job.id, wait_s)
        job = await unless_client_leaves(call, waiting)
    if not job.status.is_terminal:
        return json_reply(answers.waiting_body(job))
    return json_reply(answers.job_body(endpoint.spec, job, call.origin))


async def run(call: Call, endpoint: Endpoint) -> Response:
    """Queue a job and answer its id at once; read it with `/status/{id}`."""
    job, is_refused = await _submit(call, endpoint, receipt_of(call, sync=False))
    return json_reply(answers.refused_body(job), 400) if is_refused else json_reply(answers.accepted_body(job))


async def status(call: Call, endpoint: Endpoint, job_id: str) -> Response:
    """Where a job stands, its place in the queue or its progress, and its picture when it is done."""
    ttl_ms = TTL_MS.read(call)
    if ttl_ms is None:
        return await _job_reply(call, endpoint, await endpoint.status(job_id))
    endpoint.key.require_writing("/status?ttl=")
    return await _job_reply(call, endpoint, await endpoint.let_vanish(job_id, ttl_ms))


async def status_sync(call: Call, endpoint: Endpoint, job_id: str) -> Response:
    """Like `/status/{id}`, held until the job is done.

    Official clients ask again without a pause, so a job that still runs is answered only when `wait` is over.
    """
    wait_s = WAIT_MS.read(call, WAIT_MS_DEFAULT) / 1_000
    return await _job_reply(call, endpoint, await unless_client_leaves(call, endpoint.wait(job_id, wait_s)))


async def stream(call: Call, endpoint: Endpoint, job_id: str) -> Response:
    """What a job has sent since this API key asked last, held until there is something or the job is done.

    The FLUX endpoints send `{"step", "total", "percent", "eta_ms"}` while they draw; the last of these also has
    `preview`, a small picture as a `data:` URL, when there is one. Each key is handed each chunk once. With `position`
    the caller says from where on, and nothing is remembered. A job that lost its worker and starts again sends
    everything again.
    """
    wait_s, position = WAIT_MS.read(call, STREAM_WAIT_MS_DEFAULT) / 1_000, POSITION.read(call)
    if position is None:
        job, chunks = await unless_client_leaves(call, endpoint.stream(job_id, wait_s))
    else:
        news = endpoint.stream_after(job_id, position, wait_s)
        job, chunks, position = await unless_client_leaves(call, news)
    return json_reply(answers.stream_body(job, chunks, position))


async def cancel(call: Call, endpoint: Endpoint, job_id: str) -> Response:
    """Take a job out of the queue, or stop it within one step. A finished job stays as it is. Costs nothing."""
    return json_reply(answers.accepted_body(await endpoint.cancel(job_id)))


async def retry(call: Call, endpoint: Endpoint, job_id: str) -> Response:
    """Queue a FAILED or TIMED_OUT job again, under its id and with its seed."""
    job = await endpoint.retry(job_id)
    call.made_id = job.id
    return json_reply(answers.accepted_body(job))


async def purge_queue(call: Call, endpoint: Endpoint) -> Response:
    """Cancel every job that waits on this endpoint, or the key's own if it opens some endpoints; running ones go on."""
    return json_reply(answers.purge_body(await endpoint.purge()))


async def submission_in(call: Call, endpoint: Endpoint) -> Submission:
    """What a call with the body of `/run` asks for.

    Raises:
        InvalidRequest: the body is wrong; the text names the field and its limit. Or something in it would not be
            heeded, and the client wants to be told instead.
        UnsupportedEncoding: see `Call.read_body`.
    """
    data = await call.read_body()
    may_repeat = REPEAT_HEADER in call.headers
    asked = await call.services.bodies.read(data, read_submission, endpoint.spec, endpoint.outbound, may_repeat)
    if asked.warnings:
        call.tell(asked.warnings)
    return asked


def receipt_of(call: Call, *, sync: bool) -> Receipt:
    """What is known of a job before its body is read; `sync` for one whose request is held.

    Raises:
        InvalidRequest: what the call has as its Idempotency-Key cannot be one.
    """
    text = call.headers.get(REPEAT_HEADER)
    key = None if text is None else check_idempotency_key(text)
    return Receipt(new_job_id(sync=sync), DIALECT, sync, call.origin, key, call.traceparent)


def new_job_id(*, sync: bool) -> str:
    """A job id: `sync-<uuid4>-u1` for `/runsync`, `<uuid4>-u1` for `/run`; clients treat it as opaque."""
    return f"{'sync-' if sync else ''}{uuid.uuid4()}-{_CLUSTER_SUFFIX}"


async def _submit(call: Call, endpoint: Endpoint, receipt: Receipt) -> tuple[Job, bool]:
    """The job that a call asks for, and whether it was refused."""
    try:
        job, is_refused = await endpoint.submit(await submission_in(call, endpoint), receipt), False
    except InvalidRequest as error:
        job, is_refused = await endpoint.refuse(str(error), receipt), True
    call.made_id = job.id
    return job, is_refused


async def _job_reply(call: Call, endpoint: Endpoint, job: Job) -> Response:
    view = await call.services.job_views.view(job)
    return json_reply(answers.job_body(endpoint.spec, job, call.origin, view.queue_position, view.notice))
