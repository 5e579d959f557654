"""What the tools do: pictures that a repeated call does not draw again. Knows nothing of the protocol's SDK."""

import contextlib
import hashlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

import anyio

from flux_endpoint.api.dialects.inputs import inputs_in, submission_of
from flux_endpoint.api.dialects.models import endpoint_of, job_of, new_job_id
from flux_endpoint.api.dialects.runpod.submissions import fingerprint
from flux_endpoint.api.operations import Call
from flux_endpoint.api.schemas import JsonObject
from flux_endpoint.core.account import ApiKey, Operation
from flux_endpoint.core.errors import Conflict, InvalidParameter, ResultErased
from flux_endpoint.core.image_formats import JPEG
from flux_endpoint.core.input_kinds import FloatRange
from flux_endpoint.core.job import Job, JobStatus
from flux_endpoint.core.progress import read_progress
from flux_endpoint.core.submission import Receipt, Submission
from flux_endpoint.service.endpoint import Endpoint

DIALECT: Final = "mcp"
# Seconds. A picture that takes longer is asked for by `status`: the SDK for JavaScript gives up after 60.
WAIT_S: Final = FloatRange(minimum=0.0, maximum=50.0, default=50.0)
_WAIT: Final = "wait_seconds"
# What is none of FLUX's.
_OWN: Final = ("model", _WAIT)
# Of calls with the same arguments, whose jobs failed or can no longer be read, in the day in which that is remembered.
_MAX_AGAIN: Final = 100
_WITHOUT_PICTURE: Final = (JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.TIMED_OUT)

# Takes the steps that are done, how many there are, and a word about it.
Report = Callable[[float, float | None, str], Awaitable[None]]


async def generate(call: Call, key: ApiKey, arguments: Mapping[str, Any], report: Report) -> tuple[Endpoint, Job]:
    """Have a picture drawn, and wait for it a while.

    A call with the arguments of an earlier one gets the job of that, as long as its picture can be read: the agent may
    be repeating it because it gave up waiting. It draws anew what has failed.
    """
    wait_s = _wait_s(arguments)
    endpoint, submission = _asked(call, key, arguments)
    call.tell(submission.warnings)
    with _counted(call, key, endpoint, Operation.RUNSYNC, may_repeat=True):
        job = await _job_for(call, endpoint, submission)
        return endpoint, await _followed(call, job, report, wait_s)


async def status(
    call: Call, key: ApiKey, job_id: str, arguments: Mapping[str, Any], report: Report
) -> tuple[Endpoint, Job]:
    """Where a job stands, once it is done or a while is over."""
    wait_s = _wait_s(arguments)
    endpoint, job = await job_of(call.services.endpoints, key, job_id, DIALECT)
    return endpoint, await _followed(call, job, report, wait_s)


async def cancel(call: Call, key: ApiKey, job_id: str) -> tuple[Endpoint, Job]:
    """Stop a job; a finished one stays as it is."""
    endpoint, _ = await job_of(call.services.endpoints, key, job_id, DIALECT)
    key.require(endpoint.id, Operation.CANCEL)
    with _counted(call, key, endpoint, Operation.CANCEL):
        return endpoint, await endpoint.cancel(job_id)


async def estimate(call: Call, key: ApiKey, arguments: Mapping[str, Any]) -> JsonObject:
    """What `generate` with the same arguments would cost, and how long it would take."""
    endpoint, submission = _asked(call, key, arguments)
    [submission] = await endpoint.settled([submission], keeps=False)
    services = call.services
    workers = await services.workforce.counts(endpoint.id)
    expected = await services.estimates.estimate(endpoint.id, submission.input, workers.ready)
    times = {"seconds_to_draw": expected.execution_ms, "seconds_in_queue": expected.queue_ms}
    body: JsonObject = {"cost_usd": float(submission.cost_usd), "jobs_ahead": expected.jobs_ahead}
    body |= {name: ms / 1_000 for name, ms in times.items() if ms is not None}
    return body | ({"warnings": list(submission.warnings)} if submission.warnings else {})


def _wait_s(arguments: Mapping[str, Any]) -> float:
    return WAIT_S.read(
        _WAIT, {_WAIT: WAIT_S.default} | {name: value for name, value in arguments.items() if value is not None}
    )


def _asked(call: Call, key: ApiKey, arguments: Mapping[str, Any]) -> tuple[Endpoint, Submission]:
    model = arguments.get("model")
    if model is not None and not isinstance(model, str):
        raise InvalidParameter("model", "must be a string")
    endpoint = endpoint_of(call.services.endpoints, key, model)
    asked = {name: value for name, value in arguments.items() if value is not None and name not in _OWN}
    submission = submission_of(endpoint.spec, inputs_in(asked, JPEG))
    return endpoint, replace(submission, fingerprint=fingerprint(asked))


async def _job_for(call: Call, endpoint: Endpoint, submission: Submission) -> Job:
    """The job of an earlier call with the same arguments, or a new one."""
    name = submission.fingerprint
    for _ in range(_MAX_AGAIN):
        receipt = Receipt(new_job_id(endpoint.spec), DIALECT, False, call.origin, f"{DIALECT}-{name}")
        try:
            job = await endpoint.submit(submission, receipt)
        except ResultErased as error:
            before = error.job_id
        else:
            if job.id == receipt.job_id or job.status not in _WITHOUT_PICTURE:
                return job
            before = job.id
        # The next one after that, in all gateways the same.
        name = hashlib.sha256(f"{name} {before}".encode()).hexdigest()
    raise Conflict("this picture has been asked for too often today: ask for it with another seed")


async def _followed(call: Call, job: Job, report: Report, wait_s: float) -> Job:
    """The job at its end, or as it stands when the time to wait is over; tells of each step."""
    told = -1
    with anyio.move_on_after(wait_s):
        async with contextlib.aclosing(_views(call, job)) as views:
            async for job in views:
                progress = read_progress(job.progress)
                step, total = (progress["step"], progress["total"]) if progress else (0, None)
                # Clients take only what grows; a job that lost its worker begins again.
                if not job.status.is_terminal and step > told:
                    told = step
                    await report(step, total, "drawing" if progress else "waiting for a worker")
    return job


async def _views(call: Call, job: Job) -> AsyncGenerator[Job]:
    async for view in call.services.job_views.follow(job):
        if view is not None:
            yield view.job


@contextlib.contextmanager
def _counted(
    call: Call, key: ApiKey, endpoint: Endpoint, operation: Operation, *, may_repeat: bool = False
) -> Iterator[None]:
    """Let the call count against the limits of what it does, beside those of looking, while the block runs."""
    leave = call.services.accounts.enter(key, endpoint.id, operation, may_repeat=may_repeat)
    try:
        yield
    finally:
        leave()
