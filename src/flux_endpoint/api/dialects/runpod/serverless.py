"""Endpoints, their workers and their bills as Runpod's second API tells them, for the tools that manage endpoints.

Nothing can be changed this way: what a server serves, and with how many workers, is its operator's.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Final

from starlette.responses import Response

from flux_endpoint.api import schemas
from flux_endpoint.api.admission import KeyHolders
from flux_endpoint.api.dialects.runpod import billing
from flux_endpoint.api.http import json_reply
from flux_endpoint.api.operations import Call, Handler, Route
from flux_endpoint.api.schemas import JsonObject
from flux_endpoint.core.account import ApiKey, Operation
from flux_endpoint.core.endpoint import EndpointSpec
from flux_endpoint.core.job import Policy
from flux_endpoint.core.periods import as_text
from flux_endpoint.service.endpoint import Endpoint
from flux_endpoint.service.worker_registry import WorkerCounts, WorkerView, count_workers

# By the names of the second API: the operations of an endpoint, and what follows its address.
_REQUEST_URLS: Final = {
    "run": "run",
    "runSync": "runsync",
    "status": "status/{job_id}",
    "stream": "stream/{job_id}",
    "cancel": "cancel/{job_id}",
    "retry": "retry/{job_id}",
    "purgeQueue": "purge-queue",
    "health": "health",
}
# Of what a server costs there is one thing here: the price of a picture, whatever drew it and for how long.
_NO_AMOUNTS: Final = ("gpuAmount", "cpuAmount", "diskAmount")
_AMOUNTS: Final = ("totalAmount", "feeAmount")


async def endpoints(call: Call, key: ApiKey) -> Response:
    """The endpoints of this server that the key opens.

    `workers` are those there are now. What only Runpod's cloud has (data centers, volumes) is empty or absent.
    """
    opened = key.limits.endpoint_ids
    specs = [spec for spec in call.services.endpoints.specs if opened is None or spec.endpoint_id in opened]
    return json_reply({"endpoints": [await _endpoint(call, spec) for spec in specs]})


async def endpoint(call: Call, endpoint: Endpoint) -> Response:
    """One of them."""
    return json_reply(await _endpoint(call, endpoint.spec))


async def workers(call: Call, endpoint: Endpoint) -> Response:
    """The workers of an endpoint, what each does, and how many do what."""
    views = await call.services.workforce.workers(endpoint.id)
    return json_reply({"workers": [_worker(view) for view in views], "summary": _summary(count_workers(views))})


async def bill(call: Call, key: ApiKey) -> Response:
    """What completed jobs were charged, by endpoint: the money of `/v2/billing/endpoints`, and no other.

    A key for some endpoints only sees what it was charged itself; any other key sees the charges of the whole server.
    """
    wanted = billing.range_in(call)
    endpoint_id = call.query_params.get("serverlessId")
    charges = [
        charge
        for charge in await call.services.billing.bill_of_endpoints(key, wanted)
        if endpoint_id in (None, charge.endpoint_id)
    ]
    records = [
        {"startTime": as_text(charge.start), "endTime": as_text(charge.end)}
        | _amounts(charge.amount_usd)
        | {"serverlessId": charge.endpoint_id}
        for charge in charges
    ]
    query = billing.query_body(wanted) | ({} if endpoint_id is None else {"serverlessId": endpoint_id})
    metadata = {
        "query": query,
        "recordCount": len(records),
        "uniqueServerlessCount": len({charge.endpoint_id for charge in charges}),
        "totals": _amounts(sum((charge.amount_usd for charge in charges), Decimal(0))),
    }
    return json_reply({"records": records, "metadata": metadata})


async def _endpoint(call: Call, spec: EndpointSpec) -> JsonObject:
    views = await call.services.workforce.workers(spec.endpoint_id)
    here = f"{call.origin}/v2/{spec.endpoint_id}"
    return {
        "id": spec.endpoint_id,
        "name": spec.display_name,
        "type": "QUEUE",
        "requestUrls": {name: f"{here}/{path}" for name, path in _REQUEST_URLS.items()},
        # Nobody but the operator sets limits.
        "workers": {"min": len(views), "max": len(views)},
        "dataCenterIds": [],
        "networkVolumes": [],
        "timeout": Policy().execution_timeout_ms,
        "flashboot": "OFF",
    }


def _worker(view: WorkerView) -> JsonObject:
    # There is one configuration.
    body = {"id": view.id, "status": view.condition.value.upper(), "isStale": False}
    return body | ({"reason": view.reason} if view.reason else {})


def _summary(counts: WorkerCounts) -> JsonObject:
    states = {
        "running": counts.running,
        "idle": counts.idle,
        "initializing": counts.initializing,
        "throttled": counts.throttled,
        "unhealthy": counts.unhealthy,
    }
    return states | {"total": sum(states.values())}


def _amounts(usd: Decimal) -> JsonObject:
    return dict.fromkeys(_AMOUNTS, float(usd)) | dict.fromkeys(_NO_AMOUNTS, 0.0)


_TEXT: Final[JsonObject] = {"type": "string"}
_COUNT: Final[JsonObject] = {"type": "integer", "minimum": 0}


_ENDPOINT: Final = schemas.object_schema(
    {
        "id": _TEXT,
        "name": _TEXT,
        "type": {"const": "QUEUE"},
        "requestUrls": schemas.object_schema(dict.fromkeys(_REQUEST_URLS, _TEXT)),
        "workers": schemas.object_schema({"min": _COUNT, "max": _COUNT}) | {"description": "How many there are now."},
        "dataCenterIds": {"type": "array", "items": _TEXT},
        "networkVolumes": {"type": "array", "items": _TEXT},
        "timeout": _COUNT
        | {"description": "Milliseconds that one attempt may run, where the job's policy names none."},
        "flashboot": {"const": "OFF"},
    }
)
_WORKER: Final = schemas.object_schema(
    {
        "id": _TEXT,
        "status": {"enum": ["RUNNING", "IDLE", "INITIALIZING", "THROTTLED", "UNHEALTHY"]},
        "isStale": {"type": "boolean"},
        "reason": _TEXT | {"description": "Why it does what it does."},
    },
    "reason",
)
_WORKERS: Final = schemas.object_schema(
    {
        "workers": {"type": "array", "items": _WORKER},
        "summary": schemas.object_schema(
            dict.fromkeys(("running", "idle", "initializing", "throttled", "unhealthy", "total"), _COUNT)
        ),
    }
)
_PARAMETERS: Final = (
    *billing.PARAMETERS,
    {"name": "serverlessId", "in": "query", "required": False, "schema": _TEXT, "description": "Only this endpoint."},
)


def _route(name: str, path: str, handler: Handler, summary: str, answer: JsonObject, *, of_one: bool) -> Route:
    return Route(
        name=f"serverless_{name}",
        methods="GET",
        path=f"/v2/serverless{path}",
        access=KeyHolders(Operation.HEALTH, has_endpoint=of_one),
        handler=handler,
        summary=summary,
        tag="endpoints",
        answers=billing.PROBLEMS | {200: schemas.json_response("What there is.", answer)},
        words_of_errors=billing.problem_document,
    )


ROUTES: Final[Sequence[Route]] = (
    _route(
        "endpoints",
        "",
        endpoints,
        "The endpoints",
        schemas.object_schema({"endpoints": {"type": "array", "items": _ENDPOINT}}),
        of_one=False,
    ),
    _route("endpoint", "/{endpoint_id}", endpoint, "One endpoint", _ENDPOINT, of_one=True),
    _route("workers", "/{endpoint_id}/workers", workers, "The workers of an endpoint", _WORKERS, of_one=True),
    Route(
        name="billing_serverless",
        methods="GET",
        path="/v2/billing/serverless",
        access=KeyHolders(Operation.BILLING, has_endpoint=False),
        handler=bill,
        summary="Billing history by endpoint",
        tag="billing",
        parameters=_PARAMETERS,
        answers=billing.replies(*_AMOUNTS, *_NO_AMOUNTS, of_endpoints=True),
        words_of_errors=billing.problem_document,
    ),
)
