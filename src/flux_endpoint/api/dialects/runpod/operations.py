"""The operations of Runpod's wire format, and what this server adds to it under the same paths."""

from typing import Any, Final

from flux_endpoint.api import schemas
from flux_endpoint.api.admission import KeyHolders, Workers
from flux_endpoint.api.dialects.runpod import (
    activity,
    batches,
    billing,
    estimate,
    events,
    finish,
    gpu,
    graphql,
    health,
    job_schemas,
    jobs,
    requests,
    serverless,
    workers,
)
from flux_endpoint.api.operations import Body, Handler, Route
from flux_endpoint.api.schemas import JsonObject
from flux_endpoint.core.account import Operation

_Answers = dict[int | str, JsonObject]

# Contract section 1.9.
_RUN_BODY: Final = Body(10 * 2**20, job_schemas.submission_schema)
_RUNSYNC_BODY: Final = Body(20 * 2**20, job_schemas.submission_schema)
_BATCH_LIMIT_BYTES: Final = 10 * 2**20
# A name and an address.
_CHANGE_LIMIT_BYTES: Final = 2**16
_REPORT_BODY: Final = Body(20 * 2**20, {})
_CHUNK_BODY: Final = Body(2**20, {})

_BUDGET: Final = schemas.json_response(
    "The job is beyond the API key's monthly budget; it was not queued.", schemas.ERROR_SCHEMA
)
_SUBMIT_ANSWERS: Final[_Answers] = schemas.ERRORS | {
    200: schemas.json_response("The job.", job_schemas.JOB_SCHEMA),
    400: schemas.json_response(
        "The input is wrong: a FAILED job whose error names the field and its limit.",
        {"anyOf": [job_schemas.JOB_SCHEMA, schemas.ERROR_SCHEMA]},
    ),
    402: _BUDGET,
    409: schemas.json_response("The Idempotency-Key came with another request body before.", schemas.ERROR_SCHEMA),
    410: schemas.json_response(
        "The Idempotency-Key came with this body before, and the result of its job has been erased.",
        job_schemas.JOB_SCHEMA,
    ),
}
_JOB_ANSWERS: Final[_Answers] = schemas.ERRORS | {200: schemas.json_response("The job.", job_schemas.JOB_SCHEMA)}
_BAD_QUERY: Final[_Answers] = {
    400: schemas.json_response("A number in the query is out of range.", schemas.ERROR_SCHEMA)
}
_READ_ANSWERS: Final[_Answers] = _JOB_ANSWERS | _BAD_QUERY
_RETRY_ANSWERS: Final[_Answers] = _JOB_ANSWERS | {
    402: _BUDGET,
    409: schemas.json_response("The job is in a state that cannot be retried.", schemas.ERROR_SCHEMA),
}
_PURGE_ANSWERS: Final[_Answers] = schemas.ERRORS | {200: schemas.json_response("How many.", job_schemas.PURGE_SCHEMA)}
_STREAM_ANSWERS: Final[_Answers] = (
    schemas.ERRORS | _BAD_QUERY | {200: schemas.json_response("The news.", job_schemas.STREAM_SCHEMA)}
)

_FOLLOW_UPS: Final = tuple(f"runpod_{name}" for name in ("status", "status_sync", "stream", "cancel", "retry"))
# One official client posts where others get.
_GET_OR_POST: Final = "GET POST"


def _of_jobs(
    name: str, methods: str, path: str, operation: Operation, handler: Handler, summary: str, **others: Any
) -> Route:
    """An operation of one endpoint."""
    return Route(
        name=name,
        methods=methods,
        path=f"/v2/{{endpoint_id}}{path}",
        access=others.pop("access", None) or KeyHolders(operation),
        handler=handler,
        summary=summary,
        tag=others.pop("tag", "jobs"),
        **others,
    )


def _of_batches(
    name: str, methods: str, path: str, operation: Operation, handler: Handler, summary: str, **others: Any
) -> Route:
    """An operation of batches."""
    return _of_jobs(
        f"batches_{name}",
        methods,
        f"/batch{path}",
        operation,
        handler,
        summary,
        tag="batches",
        made_header="X-Batch-Id",
        **others,
    )


def _of_workers(
    methods: str, path: str, handler: Handler, body: Body | None = None, *, is_polled: bool = False
) -> Route:
    """An operation of the worker protocol; `endpoint_ids` is one id, or several joined by commas."""
    return Route(
        name=f"workers_{handler.__name__}",
        methods=methods,
        path=f"/v2/{{endpoint_ids}}{path}",
        access=Workers(),
        handler=handler,
        body=body,
        is_described=False,
        is_polled=is_polled,
    )


def _of_billing(name: str, path: str, handler: Handler, summary: str, *amounts: str) -> Route:
    """An operation about money; its clients expect the errors of Runpod's second API."""
    return Route(
        name=f"billing_{name}",
        methods="GET",
        path=f"/v2/billing{path}",
        access=KeyHolders(Operation.BILLING, has_endpoint=False),
        handler=handler,
        summary=summary,
        tag="billing",
        parameters=billing.PARAMETERS,
        answers=billing.replies(*amounts),
        words_of_errors=billing.problem_document,
    )


_WORKER_ROUTES: Final = (
    _of_workers("GET", "/job-take/{worker_id}", workers.job_take, is_polled=True),
    _of_workers("GET", "/job-take-batch/{worker_id}", workers.job_take_batch, is_polled=True),
    _of_workers("GET", "/job-source/{worker_id}/{job_id}", workers.job_source),
    _of_workers("GET", "/job-lora/{worker_id}/{job_id}", workers.job_lora),
    _of_workers("POST", "/job-done/{worker_id}/{job_id}", workers.job_done, _REPORT_BODY),
    _of_workers("POST", "/job-stream/{worker_id}/{job_id}", workers.job_stream, _CHUNK_BODY),
    _of_workers("GET", "/job-stop/{worker_id}", workers.job_stop, is_polled=True),
    _of_workers("GET", "/ping/{worker_id}", workers.ping),
)
# The third part of their paths.
WORKER_OPERATIONS: Final = frozenset(route.path.split("/")[3] for route in _WORKER_ROUTES)

_JOB_ROUTES: Final = (
    _of_jobs(
        "runpod_runsync",
        "POST",
        "/runsync",
        Operation.RUNSYNC,
        jobs.runsync,
        "Make a picture and wait",
        access=KeyHolders(Operation.RUNSYNC, may_repeat=True),
        parameters=(jobs.WAIT_MS.parameter(jobs.WAIT_MS_DEFAULT), schemas.IDEMPOTENCY_PARAMETER),
        body=_RUNSYNC_BODY,
        answers=_SUBMIT_ANSWERS,
        follow_ups=_FOLLOW_UPS,
    ),
    _of_jobs(
        "runpod_run",
        "POST",
        "/run",
        Operation.RUN,
        jobs.run,
        "Queue a picture",
        access=KeyHolders(Operation.RUN, may_repeat=True),
        parameters=(schemas.IDEMPOTENCY_PARAMETER,),
        body=_RUN_BODY,
        answers=_SUBMIT_ANSWERS,
        follow_ups=_FOLLOW_UPS,
    ),
    _of_jobs(
        "runpod_status",
        _GET_OR_POST,
        "/status/{job_id}",
        Operation.STATUS,
        jobs.status,
        "Read a job",
        parameters=(jobs.TTL_MS.parameter(),),
        answers=_READ_ANSWERS,
    ),
    _of_jobs(
        "runpod_status_sync",
        _GET_OR_POST,
        "/status-sync/{job_id}",
        Operation.STATUS,
        jobs.status_sync,
        "Wait for a job",
        parameters=(jobs.WAIT_MS.parameter(jobs.WAIT_MS_DEFAULT),),
        answers=_READ_ANSWERS,
    ),
    _of_jobs(
        "runpod_stream",
        _GET_OR_POST,
        "/stream/{job_id}",
        Operation.STATUS,
        jobs.stream,
        "Follow a job",
        parameters=(jobs.WAIT_MS.parameter(jobs.STREAM_WAIT_MS_DEFAULT), jobs.POSITION.parameter()),
        answers=_STREAM_ANSWERS,
    ),
    _of_jobs(
        "runpod_cancel",
        "POST",
        "/cancel/{job_id}",
        Operation.CANCEL,
        jobs.cancel,
        "Stop a job",
        answers=_JOB_ANSWERS,
    ),
    _of_jobs(
        "runpod_retry",
        "POST",
        "/retry/{job_id}",
        Operation.RETRY,
        jobs.retry,
        "Run a failed job again",
        answers=_RETRY_ANSWERS,
    ),
    _of_jobs(
        "runpod_purge_queue",
        "POST",
        "/purge-queue",
        Operation.PURGE_QUEUE,
        jobs.purge_queue,
        "Cancel all waiting jobs",
        answers=_PURGE_ANSWERS,
    ),
    _of_jobs(
        "health_health",
        "GET",
        "/health",
        Operation.HEALTH,
        health.health,
        "Queue and workers",
        parameters=health.PARAMETERS,
        answers=health.ANSWERS,
    ),
    _of_jobs(
        "events_events",
        "GET",
        "/events/{job_id}",
        Operation.STATUS,
        events.events,
        "Follow a job, live",
        answers=events.ANSWERS,
    ),
    _of_jobs(
        "requests_requests",
        "GET",
        "/requests",
        Operation.REQUESTS,
        requests.requests,
        "List recent jobs",
        parameters=requests.PARAMETERS,
        answers=requests.ANSWERS,
    ),
    _of_jobs(
        "estimate_estimate",
        "POST",
        "/estimate",
        Operation.ESTIMATE,
        estimate.estimate,
        "Estimate cost and time",
        parameters=(schemas.IDEMPOTENCY_PARAMETER,),
        body=_RUN_BODY,
        answers=estimate.ANSWERS,
    ),
)

_BATCH_ROUTES: Final = (
    _of_batches(
        "create",
        "POST",
        "",
        Operation.BATCH,
        batches.create,
        "Start a batch",
        body=Body(_BATCH_LIMIT_BYTES, batches.submissions_schema),
        answers=batches.replies(batches.CREATED_SCHEMA, {409: "The API key has ten active batches on this endpoint."}),
    ),
    _of_batches(
        "list_batches",
        "GET",
        "",
        Operation.STATUS,
        batches.list_batches,
        "List batches",
        parameters=batches.PAGE_PARAMETERS,
        answers=batches.replies(batches.page_schema("batches", batches.BATCH_SCHEMA)),
    ),
    _of_batches(
        "get",
        "GET",
        "/{batch_id}",
        Operation.STATUS,
        batches.get,
        "Read a batch",
        answers=batches.replies(batches.BATCH_SCHEMA),
    ),
    _of_batches(
        "change",
        "PUT",
        "/{batch_id}",
        Operation.BATCH,
        batches.change,
        "Name a batch, or give it a webhook",
        body=Body(_CHANGE_LIMIT_BYTES, batches.CHANGE_SCHEMA, {"name": "autumn catalogue"}),
        answers=batches.replies(batches.BATCH_SCHEMA, {409: batches.NO_DRAFT}),
    ),
    _of_batches(
        "add",
        "POST",
        "/{batch_id}/requests",
        Operation.BATCH,
        batches.add,
        "Add requests to a batch",
        body=Body(_BATCH_LIMIT_BYTES, batches.addition_schema),
        answers=batches.replies(
            batches.ADDED_SCHEMA, {409: "The batch is no DRAFT any more, or would have too many requests."}
        ),
    ),
    _of_batches(
        "list_requests",
        "GET",
        "/{batch_id}/requests",
        Operation.STATUS,
        batches.list_requests,
        "List the requests of a batch",
        parameters=batches.PAGE_PARAMETERS,
        answers=batches.replies(batches.page_schema("requests", batches.REQUEST_SCHEMA)),
    ),
    _of_batches(
        "remove",
        "DELETE",
        "/{batch_id}/requests/{request_id}",
        Operation.BATCH,
        batches.remove,
        "Take a request out of a batch",
        answers=batches.replies(batches.DELETED_SCHEMA, {409: batches.NO_DRAFT}),
    ),
    _of_batches(
        "finalize",
        "POST",
        "/{batch_id}/finalize",
        Operation.RUN,
        batches.finalize,
        "Queue a batch",
        answers=batches.replies(
            batches.BATCH_SCHEMA,
            {
                402: "The batch is beyond the API key's monthly budget; nothing was queued.",
                409: "The batch is neither DRAFT nor FINALIZED, or has no requests.",
            },
        ),
    ),
    _of_batches(
        "cancel",
        "POST",
        "/{batch_id}/cancel",
        Operation.CANCEL,
        batches.cancel,
        "Cancel a batch",
        answers=batches.replies(batches.BATCH_SCHEMA),
    ),
)

_SERVER_ROUTES: Final = (
    _of_billing(
        "billing_endpoints",
        "/endpoints",
        billing.billing_endpoints,
        "Billing history of the endpoints",
        "totalAmount",
    ),
    _of_billing("billing", "", billing.billing, "Billing history", "endpointAmount", "totalAmount"),
    Route(
        name="usage_usage",
        methods="GET",
        path="/v2/usage",
        access=KeyHolders(Operation.USAGE, has_endpoint=False, endpoint_named=activity.endpoint_named),
        handler=activity.usage,
        summary="How the server is doing",
        tag="usage",
        parameters=activity.PARAMETERS,
        answers=activity.ANSWERS,
    ),
    gpu.ROUTE,
    *serverless.ROUTES,
    graphql.ROUTE,
)

ROUTES: Final = (*_WORKER_ROUTES, *_JOB_ROUTES, finish.ROUTE, *_BATCH_ROUTES, *_SERVER_ROUTES)
