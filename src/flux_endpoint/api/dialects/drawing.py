"""What dialects have in common that hold a request until its pictures are drawn."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from anyio import CancelScope

from flux_endpoint.api.dialects.models import new_job_id
from flux_endpoint.api.http import unless_client_leaves
from flux_endpoint.api.operations import Call
from flux_endpoint.core.errors import InvalidParameter
from flux_endpoint.core.image_formats import is_image_key
from flux_endpoint.core.job import Job
from flux_endpoint.core.submission import Receipt, Submission
from flux_endpoint.service.endpoint import Endpoint

TOO_LATE: Final = "the picture was not ready in time, or the server is about to stop; its job was cancelled"


async def submit(
    call: Call,
    endpoint: Endpoint,
    dialect: str,
    submissions: Iterable[Submission],
    *,
    is_held: bool,
    before_each: Callable[[Receipt], object] = lambda receipt: None,
) -> list[Job]:
    """Queue the jobs of one request: all of them or none.

    Args:
        call: who asks.
        endpoint: what draws.
        dialect: see `Job`.
        submissions: one for each job.
        is_held: see `Receipt`.
        before_each: called with the receipt of a job before that is queued.

    Raises:
        InvalidRequest: something of it would not be heeded, and the client wants to be told instead.
    """
    jobs: list[Job] = []
    asked = list(submissions)
    call.tell(dict.fromkeys(warning for submission in asked for warning in submission.warnings))
    asked = await endpoint.settled(asked)
    try:
        for submission in asked:
            receipt = Receipt(
                new_job_id(endpoint.spec), dialect, is_held, origin=call.origin, traceparent=call.traceparent
            )
            before_each(receipt)
            jobs.append(await endpoint.submit(submission, receipt))
    except BaseException:
        await cancel(endpoint, jobs)
        raise
    call.made_id = jobs[0].id
    return jobs


async def drawn(
    call: Call, endpoint: Endpoint, dialect: str, submissions: Iterable[Submission], longest_s: float
) -> list[Job]:
    """Queue the jobs of one request, and answer them at their end.

    Those that still run when the time is over, or the client leaves, are cancelled.

    Raises:
        InvalidRequest: see `submit`.
    """
    with ExitStack() as waits:
        ends = []

        def wait_for(receipt: Receipt) -> None:
            ends.append(waits.enter_context(endpoint.ending(receipt.job_id, longest_s)))

        jobs = await submit(call, endpoint, dialect, submissions, is_held=True, before_each=wait_for)
        try:
            waiting = _together(end_of(job) for end_of, job in zip(ends, jobs, strict=True))
            ended = await unless_client_leaves(call, waiting)
        except BaseException:
            await cancel(endpoint, jobs)
            raise
    if not all(job.status.is_terminal for job in ended):
        await cancel(endpoint, jobs)
    return ended


@contextmanager
def naming(names: Mapping[str, str]) -> Iterator[None]:
    """Have errors name fields as a dialect's clients send them.

    Args:
        names: how they do, by the names of the inputs.
    """
    try:
        yield
    except InvalidParameter as error:
        raise InvalidParameter(names.get(error.field, error.field), error.problem) from None


async def cancel(endpoint: Endpoint, jobs: Sequence[Job]) -> None:
    """Stop what still runs for a client that has no use for it, also while its own request is being cancelled."""
    with CancelScope(shield=True):
        for job in jobs:
            await endpoint.cancel(job.id)


async def bytes_of(call: Call, shown: Mapping[str, Any]) -> bytes | None:
    """The file of a picture; None where a worker of somebody else's keeps it elsewhere.

    Args:
        call: who asks.
        shown: what the endpoint presents of its job, with the picture's key for a link.
    """
    where = str(shown["image_url"])
    if not is_image_key(where):
        return None
    return await call.services.images.read_whole(where)


def link_to(call: Call, shown: Mapping[str, Any]) -> str:
    """Where a picture can be fetched; else as `bytes_of`."""
    where = str(shown["image_url"])
    return f"{call.origin}/images/{where}" if is_image_key(where) else where


def problem_of(job: Job) -> str:
    """Why a job has no picture."""
    return job.error or f"the job was {job.status.value.replace('_', ' ').lower()}"


async def _together(waits: Iterable[Awaitable[Job]]) -> list[Job]:
    return await asyncio.gather(*waits)
