"""What the server did, in figures, for the page at `/usage` and for programs that watch it."""

from dataclasses import asdict
from typing import Any, Final

from starlette.responses import Response

from flux_endpoint.api import schemas
from flux_endpoint.api.dialects.runpod.requests import REQUEST_SCHEMA, STATUS_PARAMETER, request_line, statuses_in
from flux_endpoint.api.http import json_reply
from flux_endpoint.api.operations import Call
from flux_endpoint.api.schemas import JsonObject
from flux_endpoint.core.account import ApiKey
from flux_endpoint.core.activity import Percentiles
from flux_endpoint.core.errors import InvalidRequest
from flux_endpoint.core.job import JobStatus
from flux_endpoint.core.webhook import PausedReceiver
from flux_endpoint.service.activity import ActivityRange, ActivityReport
from flux_endpoint.service.worker_registry import WorkerCounts

_OUTCOMES: Final = {
    JobStatus.COMPLETED: "completed",
    JobStatus.FAILED: "failed",
    JobStatus.CANCELLED: "cancelled",
    JobStatus.TIMED_OUT: "timedOut",
}
_COUNT: Final[JsonObject] = {"type": "integer", "minimum": 0}
_MS: Final[JsonObject] = _COUNT | {"description": "Milliseconds."}
_TIME: Final[JsonObject] = _COUNT | {"description": "Milliseconds since 1970-01-01 UTC."}
_STRING: Final[JsonObject] = {"type": "string"}


def _array(items: JsonObject, description: str) -> JsonObject:
    return {"type": "array", "items": items, "description": description}


_counts = dict.fromkeys(_OUTCOMES.values(), _COUNT)
_percentiles = schemas.object_schema(dict.fromkeys(("p70", "p90", "p98"), _MS))
_JOB_SCHEMA: Final = REQUEST_SCHEMA | {
    "required": [*REQUEST_SCHEMA["required"], "endpointId"],
    "properties": REQUEST_SCHEMA["properties"] | {"endpointId": _STRING},
}
_SCHEMA: Final = schemas.object_schema(
    {
        "range": {"type": "string", "enum": list(ActivityRange)},
        "startTime": _TIME,
        "endTime": _TIME,
        "bucketSize": _MS,
        "endpoints": _array(_STRING, "Ids of the endpoints that the figures are of."),
        "requests": schemas.object_schema(
            _counts | {"retried": _COUNT | {"description": "How often lost workers sent these jobs back to the queue."}}
        )
        | {"description": "Jobs that ended in the range; requests refused with 400 are none."},
        "buckets": _array(
            schemas.object_schema({"startTime": _TIME} | _counts), "The same by time, oldest first, without gaps."
        ),
        "executionTime": _percentiles
        | {"description": "Of jobs completed in the range, by nearest rank; absent if none."},
        "delayTime": _percentiles | {"description": "Of the same jobs: how long they waited."},
        "coldStarts": _COUNT
        | {"description": "Workers that started in the range and told how long it took: ours do, Runpod's SDK cannot."},
        "coldStartTime": _percentiles
        | {"description": "Of these: from the start of the process to its first free slot; absent if none."},
        "queue": schemas.object_schema({"inQueue": _COUNT, "inProgress": _COUNT}) | {"description": "Now."},
        "workers": schemas.object_schema(dict.fromkeys(WorkerCounts.__dataclass_fields__, _COUNT))
        | {"description": "Now; each worker once, however many endpoints it serves. `ready` are idle or running."},
        "spend": _array(
            schemas.object_schema(
                {
                    "day": {"type": "string", "format": "date"},
                    "keyId": _STRING,
                    "keyName": _STRING | {"description": "Empty for a key that is not known."},
                    "jobs": _COUNT,
                    "cost": {"type": "number", "description": "US dollars."},
                }
            ),
            "What keys were charged, by whole days (UTC), oldest first.",
        ),
        "webhooks": schemas.object_schema(
            {
                "paused": _array(
                    schemas.object_schema(
                        {
                            "receiver": _STRING | {"description": "Scheme, host and port."},
                            "keyId": _STRING,
                            "keyName": _STRING | {"description": "Empty for a key that is not known."},
                            "failures": _COUNT | {"description": "In a row."},
                            "waiting": _COUNT | {"description": "Webhooks that are kept for it."},
                            "since": _TIME,
                            "until": _TIME | {"description": "When the next one is tried; past while it is."},
                            "error": _STRING | {"description": "Of the last attempt."},
                        }
                    ),
                    "Receivers that failed so often in a row that they get nothing for a while, the longest failing "
                    "first.",
                )
            }
        )
        | {"description": "Now, whatever the range and the endpoint."},
        "jobs": _array(_JOB_SCHEMA, "The newest 20, newest first, whenever they were made."),
    },
    "executionTime",
    "delayTime",
    "coldStartTime",
)
ANSWERS: Final = schemas.ERRORS | {
    200: schemas.json_response("The figures.", _SCHEMA),
    400: schemas.json_response("The range is none of those.", schemas.ERROR_SCHEMA),
}
PARAMETERS: Final = (
    schemas.query_parameter(
        "range",
        {"type": "string", "enum": list(ActivityRange), "default": ActivityRange.DAY.value},
        "How far back, in whole buckets: 60 of a minute, 48 of half an hour, 56 of three hours or 30 of a day.",
    ),
    schemas.query_parameter("endpoint", _STRING, "Only this endpoint; without it, all that the key opens."),
    STATUS_PARAMETER | {"description": "Of `jobs`, only those in these states, joined by commas."},
)


def endpoint_named(call: Call) -> str | None:
    """The only endpoint to tell of; None for all."""
    return call.query_params.get("endpoint")


async def usage(call: Call, key: ApiKey) -> Response:
    """Jobs by outcome and over time, percentiles of times and cold starts, queue, workers, spend by day, latest jobs.

    Receivers of webhooks that are paused are named too. A key for some endpoints sees its own jobs, charges and
    webhooks on these; any other key sees the whole server.
    """
    wanted = _range(call)
    report = await call.services.activity.report(key, endpoint_named(call), wanted, statuses_in(call))
    return json_reply(_body(report, wanted))


def _range(call: Call) -> ActivityRange:
    try:
        return ActivityRange(call.query_params.get("range", ActivityRange.DAY))
    except ValueError:
        raise InvalidRequest(f"range is invalid; must be one of {', '.join(ActivityRange)}") from None


def _body(report: ActivityReport, wanted: ActivityRange) -> JsonObject:
    buckets = {
        start_ms: {"startTime": start_ms} | dict.fromkeys(_OUTCOMES.values(), 0)
        for start_ms in range(report.start_ms, report.end_ms, wanted.bucket_ms)
    }
    for part in report.activity.outcomes:
        buckets[part.start_ms][_OUTCOMES[part.status]] = part.jobs
    totals = {name: sum(bucket[name] for bucket in buckets.values()) for name in _OUTCOMES.values()}
    body: dict[str, Any] = {
        "range": wanted.value,
        "startTime": report.start_ms,
        "endTime": report.end_ms,
        "bucketSize": wanted.bucket_ms,
        "endpoints": list(report.endpoint_ids),
        "requests": totals | {"retried": report.activity.retries},
        "buckets": list(buckets.values()),
        "coldStarts": report.activity.cold_starts,
        "queue": {"inQueue": report.activity.in_queue, "inProgress": report.activity.in_progress},
        "workers": asdict(report.workers),
        "spend": [
            {
                "day": spend.day,
                "keyId": spend.key_id,
                "keyName": spend.key_name,
                "jobs": spend.jobs,
                "cost": float(spend.amount_usd),
            }
            for spend in report.spend
        ],
        "webhooks": {"paused": [_paused(receiver) for receiver in report.paused]},
        "jobs": [request_line(job) | {"endpointId": job.endpoint_id} for job in report.jobs],
    }
    times = {
        "executionTime": report.activity.execution,
        "delayTime": report.activity.delay,
        "coldStartTime": report.activity.cold_start,
    }
    return body | {name: _times(found) for name, found in times.items() if found is not None}


def _paused(receiver: PausedReceiver) -> JsonObject:
    return {
        "receiver": receiver.origin,
        "keyId": receiver.key_id,
        "keyName": receiver.key_name,
        "failures": receiver.failures,
        "waiting": receiver.waiting,
        "since": receiver.since_ms,
        "until": receiver.until_ms,
        "error": receiver.error,
    }


def _times(found: Percentiles) -> JsonObject:
    return {"p70": found.p70_ms, "p90": found.p90_ms, "p98": found.p98_ms}
