"""What was charged, in the shape of Runpod's billing history (contract section 3.6)."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from http import HTTPStatus
from typing import Any, Final

from starlette.responses import Response

from flux_endpoint.api import schemas
from flux_endpoint.api.http import json_reply
from flux_endpoint.api.operations import Call
from flux_endpoint.api.schemas import JsonObject
from flux_endpoint.core.account import ApiKey
from flux_endpoint.core.errors import InvalidQuery
from flux_endpoint.core.periods import Period, as_text
from flux_endpoint.service.billing import BillRange, BillRecord

# RFC 3339; a leap second is read as the second before it.
_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:)(\d\d)(\.\d+)?([Zz]|[+-]\d\d:\d\d)")
_NAMES: Final = ("startTime", "endTime", "bucketSize", "lastN")

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


def _bill_schema(*amounts: str, of_endpoints: bool = False) -> dict[str, Any]:
    usd = {name: {"type": "number", "description": "US dollars."} for name in amounts}
    period = {"startTime": _TIME_SCHEMA, "endTime": _TIME_SCHEMA}
    query = period | {"bucketSize": {"type": "string", "enum": list(Period)}}
    metadata = {
        "query": schemas.object_schema(query)
        | {"description": "What was answered: the times are snapped to whole buckets."},
        "recordCount": {"type": "integer"},
        "totals": schemas.object_schema(usd),
    }
    whose: JsonObject = {"serverlessId": {"type": "string", "description": "An endpoint."}} if of_endpoints else {}
    records = {"type": "array", "items": schemas.object_schema(period | usd | whose)}
    return schemas.object_schema({"records": records, "metadata": schemas.object_schema(metadata)})


def replies(*amounts: str, of_endpoints: bool = False) -> dict[int | str, JsonObject]:
    """The answers of an operation whose records have these amounts, each of one endpoint or of all together."""
    bill = _bill_schema(*amounts, of_endpoints=of_endpoints)
    return PROBLEMS | {200: schemas.json_response("The bill.", bill), 422: _problem("The query is wrong.")}


PROBLEMS: Final[dict[int | str, JsonObject]] = {
    401: _problem("The API key is missing, unknown or revoked."),
    429: _problem("A rate limit is reached.", headers=schemas.too_many_response()["headers"]),
    "default": _problem("Anything else."),
}


def _parameter(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": description}


# Python 3.13 gave this one another name.
_TITLES: Final = {422: "Unprocessable Entity"}


def problem_document(
    status_code: int, text: str, *, made_id: str | None, problems: Sequence[str], field: str | None
) -> tuple[object, str]:
    """An error as a problem document (RFC 9457). Implements `WordsOfErrors`."""
    title = _TITLES.get(status_code, HTTPStatus(status_code).phrase)
    problem: dict[str, object] = {"title": title, "status": status_code, "detail": text}
    return problem | ({"errors": problems} if problems else {}), "application/problem+json"


PARAMETERS: Final = (
    _parameter("startTime", _TIME_SCHEMA, "Snapped down to the bucket; 30 days ago when absent."),
    _parameter("endTime", _TIME_SCHEMA, "Exclusive, snapped up to the bucket; now when absent."),
    _parameter("bucketSize", {"type": "string", "enum": list(Period), "default": "day"}, "Buckets begin in UTC."),
    _parameter(
        "lastN",
        {"type": "integer", "minimum": 1},
        "Instead of startTime and endTime: so many buckets, the last of which is the current one.",
    ),
)


async def billing_endpoints(call: Call, key: ApiKey) -> Response:
    """What completed jobs were charged, by hour, day, week, month or year; buckets without a charge are left out.

    A key for some endpoints only sees what it was charged itself; any other key sees the charges of the whole server.
    """
    return await _bill(call, key, ("totalAmount",))


async def billing(call: Call, key: ApiKey) -> Response:
    """The same with the one kind of cost there is here under its own name, `endpointAmount`."""
    return await _bill(call, key, ("endpointAmount", "totalAmount"))


async def _bill(call: Call, key: ApiKey, amounts: tuple[str, ...]) -> Response:
    wanted = range_in(call)
    return json_reply(_bill_body(await call.services.billing.bill(key, wanted), wanted, amounts))


def _bill_body(records: list[BillRecord], wanted: BillRange, amounts: tuple[str, ...]) -> dict[str, Any]:
    total_usd = sum((record.amount_usd for record in records), Decimal(0))
    return {
        "records": [
            {"startTime": as_text(record.start), "endTime": as_text(record.end)}
            | dict.fromkeys(amounts, float(record.amount_usd))
            for record in records
        ],
        "metadata": {
            "query": query_body(wanted),
            "recordCount": len(records),
            "totals": dict.fromkeys(amounts, float(total_usd)),
        },
    }


def query_body(wanted: BillRange) -> JsonObject:
    """What was asked, its times snapped to whole buckets."""
    return {"startTime": as_text(wanted.start), "endTime": as_text(wanted.end), "bucketSize": wanted.period.value}


def range_in(call: Call) -> BillRange:
    """What a call asks the bill of.

    Raises:
        InvalidQuery: with all that is wrong.
    """
    billing = call.services.billing
    given = {name: call.query_params[name] for name in _NAMES if name in call.query_params}
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
        return billing.last_periods(Period(size), int(count) if len(count) <= 18 else 10**18)
    return billing.range_of(Period(size), times.get("startTime"), times.get("endTime"))


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
