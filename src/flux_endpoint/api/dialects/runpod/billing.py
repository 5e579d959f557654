"""What was charged, in the shape of Runpod's billing history (contract section 3.6)."""

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from fastapi import APIRouter, Request, Response

from flux_endpoint.api import schemas
from flux_endpoint.api.admission import admit
from flux_endpoint.api.http import json_reply
from flux_endpoint.api.parameters import BEARER
from flux_endpoint.api.services import Services, services_of
from flux_endpoint.core.account import Operation
from flux_endpoint.core.errors import InvalidQuery
from flux_endpoint.core.periods import Period
from flux_endpoint.service.billing import BillRange, BillRecord

# RFC 3339; a leap second is read as the second before it.
_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:)(\d\d)(\.\d+)?([Zz]|[+-]\d\d:\d\d)")
_PARAMETERS: Final = ("startTime", "endTime", "bucketSize", "lastN")

router = APIRouter(prefix="/v2/billing", tags=["billing"], dependencies=[BEARER])

_PROBLEM_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {"type": "array", "items": {"type": "string"}, "description": "All that is wrong with the query."},
    },
    "required": ["title", "status", "detail"],
}
_TIME_SCHEMA: Final = {"type": "string", "format": "date-time"}


def _problem(description: str, **more: Any) -> dict[str, Any]:
    content = {"application/problem+json": {"schema": _PROBLEM_SCHEMA}}
    return {"description": description, "content": content, **more}


def _bill_schema(*amounts: str) -> dict[str, Any]:
    usd = {name: {"type": "number", "description": "US dollars."} for name in amounts}
    period = {"startTime": _TIME_SCHEMA, "endTime": _TIME_SCHEMA}
    query = period | {"bucketSize": {"type": "string", "enum": list(Period)}}
    metadata = {
        "query": _object(query) | {"description": "What was answered: the times are snapped to whole buckets."},
        "recordCount": {"type": "integer"},
        "totals": _object(usd),
    }
    return _object({"records": {"type": "array", "items": _object(period | usd)}, "metadata": _object(metadata)})


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _responses(*amounts: str) -> dict[int | str, dict[str, Any]]:
    return {
        200: schemas.json_response("The bill.", _bill_schema(*amounts)),
        401: _problem("The API key is missing, unknown or revoked."),
        422: _problem("The query is wrong."),
        429: _problem("A rate limit is reached.", headers=schemas.too_many_response()["headers"]),
        "default": _problem("Anything else."),
    }


def _parameter(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": description}


_QUERY: Final = {
    "parameters": [
        _parameter("startTime", _TIME_SCHEMA, "Snapped down to the bucket; 30 days ago when absent."),
        _parameter("endTime", _TIME_SCHEMA, "Exclusive, snapped up to the bucket; now when absent."),
        _parameter("bucketSize", {"type": "string", "enum": list(Period), "default": "day"}, "Buckets begin in UTC."),
        _parameter(
            "lastN",
            {"type": "integer", "minimum": 1},
            "Instead of startTime and endTime: so many buckets, the last of which is the current one.",
        ),
    ]
}


@router.get(
    "/endpoints", responses=_responses("totalAmount"), openapi_extra=_QUERY, summary="Billing history of the endpoints"
)
async def billing_endpoints(request: Request) -> Response:
    """What completed jobs were charged, by hour, day, week, month or year; buckets without a charge are left out.

    A key for some endpoints only sees what it was charged itself; any other key sees the charges of the whole server.
    """
    return await _bill(request, ("totalAmount",))


@router.get("", responses=_responses("endpointAmount", "totalAmount"), openapi_extra=_QUERY, summary="Billing history")
async def billing(request: Request) -> Response:
    """The same with the one kind of cost there is here under its own name, `endpointAmount`."""
    return await _bill(request, ("endpointAmount", "totalAmount"))


async def _bill(request: Request, amounts: tuple[str, ...]) -> Response:
    services = services_of(request)
    key = await admit(request, None, Operation.BILLING)
    wanted = _range(services, request)
    return json_reply(_bill_body(await services.billing.bill(key, wanted), wanted, amounts))


def _bill_body(records: list[BillRecord], wanted: BillRange, amounts: tuple[str, ...]) -> dict[str, Any]:
    total_usd = sum((record.amount_usd for record in records), Decimal(0))
    return {
        "records": [
            {"startTime": _show(record.start), "endTime": _show(record.end)}
            | dict.fromkeys(amounts, float(record.amount_usd))
            for record in records
        ],
        "metadata": {
            "query": {
                "startTime": _show(wanted.start),
                "endTime": _show(wanted.end),
                "bucketSize": wanted.period.value,
            },
            "recordCount": len(records),
            "totals": dict.fromkeys(amounts, float(total_usd)),
        },
    }


def _range(services: Services, request: Request) -> BillRange:
    given = {name: request.query_params[name] for name in _PARAMETERS if name in request.query_params}
    problems: list[str] = []
    times = {name: _time(name, given[name], problems) for name in ("startTime", "endTime") if name in given}
    size = given.get("bucketSize", Period.DAY.value)
    if size not in list(Period):
        problems.append(f"bucketSize must be {', '.join(Period)}")
    count = given.get("lastN")
    if count is not None and not (count.isascii() and count.isdigit() and count.strip("0")):
        problems.append("lastN must be a whole number above 0")
    if count is not None and times:
        problems.append("lastN excludes startTime and endTime")
    if problems:
        raise InvalidQuery(problems)
    if count is not None:
        # More buckets than a calendar has are all of them, however many digits say so.
        return services.billing.last_periods(Period(size), int(count) if len(count) <= 18 else 10**18)
    return services.billing.range_of(Period(size), times.get("startTime"), times.get("endTime"))


def _time(name: str, text: str, problems: list[str]) -> datetime | None:
    match = _TIME.fullmatch(text)
    if match:
        day, minute, second, fraction, zone = match.groups()
        # The year 0 has no date here; the year 4, a leap year too, is as long before the first charge.
        day = day.replace("0000-", "0004-", 1) if day.startswith("0000-") else day
        second = "59" if second == "60" else second
        try:
            time = datetime.fromisoformat(f"{day}T{minute}{second}{(fraction or '')[:7]}{zone.upper()}")
            return time.astimezone(UTC)
        except OverflowError:
            return time.replace(tzinfo=UTC)
        except ValueError:
            pass
    problems.append(f"{name} must be a time such as 2026-11-22T00:00:00Z (RFC 3339; write + as %2B)")
    return None


def _show(time: datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")
