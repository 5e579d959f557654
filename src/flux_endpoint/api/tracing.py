"""Lets requests be seen in traces. Only where somebody collects them: elsewhere nothing of it is called."""

import functools
import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final

from starlette.responses import Response

from flux_endpoint.api.operations import Call, Handler, Route
from flux_endpoint.core.job import Job
from flux_endpoint.core.tracing import Tracer

_HEADER: Final = "traceparent"
_NS_PER_MS: Final = 1_000_000


def traced(routes: Iterable[Route], tracer: Tracer) -> tuple[Route, ...]:
    """The same operations, those of clients seen by a tracer: what is posted, and what comes with a `traceparent`.

    The operations of workers are left as they are: most of them wait, and what becomes of a job the worker tells.
    """
    return tuple(
        replace(route, handler=_traced(route, tracer)) if route.access.needs_key else route for route in routes
    )


def note_taken(tracer: Tracer, job: Job) -> None:
    """Tell how long a job waited, and how long it takes to be handed to its worker."""
    assert job.traceparent is not None
    if job.started_ms is not None:
        attributes: dict[str, str | int] = {"flux_endpoint.job.id": job.id, "flux_endpoint.job.retries": job.retries}
        taken_ns, now_ns = job.started_ms * _NS_PER_MS, time.time_ns()
        tracer.record("queue", job.traceparent, job.queued_ms * _NS_PER_MS, taken_ns, attributes)
        # The clock of the database may be ahead of this machine's.
        tracer.record("take", job.traceparent, taken_ns, max(taken_ns, now_ns), attributes)


def _traced(route: Route, tracer: Tracer) -> Handler:
    begins = "POST" in route.methods

    @functools.wraps(route.handler)
    async def handle(call: Call, *arguments: Any) -> Response:
        parent = call.headers.get(_HEADER)
        if parent is None and not (begins and call.method == "POST"):
            return await route.handler(call, *arguments)
        attributes = {"http.request.method": call.method, "http.route": route.path}
        span = tracer.begin(f"{call.method} {route.path}", parent, attributes, is_request=True)
        call.traceparent = span.traceparent
        try:
            response = await route.handler(call, *arguments)
        except BaseException as error:
            span.end(_made(call), type(error).__name__)
            raise
        span.end(_made(call) | {"http.response.status_code": response.status_code})
        return response

    return handle


def _made(call: Call) -> dict[str, str | int]:
    return {} if call.made_id is None else {"flux_endpoint.job.id": call.made_id}
