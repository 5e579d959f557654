"""The billing history, with a clock that stands at a known hour."""

from datetime import UTC, datetime

import pytest

from flux_endpoint.core.account import KeyLimits
from tests.api.conftest import DEV, SCHNELL, Gateway, HandWorker

pytestmark = pytest.mark.anyio

URL = "/v2/billing/endpoints"
DEV_USD, SCHNELL_USD = 0.02097152, 0.00251658


def move_to(gateway: Gateway, *date: int) -> None:
    gateway.clock.advance(ms=round(datetime(*date, tzinfo=UTC).timestamp() * 1_000) - gateway.clock.now_ms())


async def complete(gateway: Gateway, endpoint: str = DEV, headers: dict[str, str] | None = None) -> None:
    body = {"input": {"prompt": "a lake"}}
    assert (await gateway.post(f"{endpoint}/run", body, headers=headers)).status_code == 200
    worker = HandWorker(gateway.client, endpoint=endpoint)
    job = await worker.take()
    assert job is not None
    await worker.finish(job)


async def test_charges_come_by_day_with_their_sum(gateway: Gateway) -> None:
    move_to(gateway, 2031, 3, 1, 23, 30)
    await complete(gateway)
    await complete(gateway, SCHNELL)
    move_to(gateway, 2031, 3, 4, 1)
    await complete(gateway)
    reply = await gateway.get(URL)
    assert (reply.status_code, reply.headers["content-type"]) == (200, "application/json")
    assert reply.json() == {
        "records": [
            {"startTime": "2031-03-01T00:00:00Z", "endTime": "2031-03-02T00:00:00Z", "totalAmount": 0.0234881},
            {"startTime": "2031-03-04T00:00:00Z", "endTime": "2031-03-05T00:00:00Z", "totalAmount": DEV_USD},
        ],
        "metadata": {
            "query": {
                # 30 days before, snapped down; now, snapped up.
                "startTime": "2031-02-02T00:00:00Z",
                "endTime": "2031-03-05T00:00:00Z",
                "bucketSize": "day",
            },
            "recordCount": 2,
            "totals": {"totalAmount": 0.04445962},
        },
    }


@pytest.mark.parametrize(
    ("size", "starts"),
    [
        ("hour", ["2030-12-31T23:00:00Z", "2031-01-01T00:00:00Z", "2031-01-08T00:00:00Z"]),
        ("day", ["2030-12-31T00:00:00Z", "2031-01-01T00:00:00Z", "2031-01-08T00:00:00Z"]),
        # The first of January is a Wednesday.
        ("week", ["2030-12-30T00:00:00Z", "2031-01-06T00:00:00Z"]),
        ("month", ["2030-12-01T00:00:00Z", "2031-01-01T00:00:00Z"]),
        ("year", ["2030-01-01T00:00:00Z", "2031-01-01T00:00:00Z"]),
    ],
)
async def test_buckets_are_those_of_the_calendar(gateway: Gateway, size: str, starts: list[str]) -> None:
    for date in ((2030, 12, 31, 23, 59), (2031, 1, 1), (2031, 1, 8, 0, 30)):
        move_to(gateway, *date)
        await complete(gateway)
    body = (await gateway.get(f"{URL}?bucketSize={size}")).json()
    assert [record["startTime"] for record in body["records"]] == starts
    assert body["metadata"]["totals"]["totalAmount"] == pytest.approx(3 * DEV_USD)
    assert body["metadata"]["query"]["bucketSize"] == size


async def test_the_range_is_snapped_outwards_and_its_end_is_excluded(gateway: Gateway) -> None:
    for hour in (9, 10, 11, 12):
        move_to(gateway, 2031, 3, 1, hour)
        await complete(gateway)
    query = {"bucketSize": "hour", "startTime": "2031-03-01T12:30:00+02:00", "endTime": "2031-03-01t11:00:00.001z"}
    body = (await gateway.get(URL, params=query)).json()
    assert [record["startTime"][11:13] for record in body["records"]] == ["10", "11"]
    assert body["metadata"]["query"]["startTime"] == "2031-03-01T10:00:00Z"
    assert body["metadata"]["query"]["endTime"] == "2031-03-01T12:00:00Z"
    body = (await gateway.get(URL, params=query | {"endTime": "2031-03-01T11:00:00Z"})).json()
    assert [record["startTime"][11:13] for record in body["records"]] == ["10"]


async def test_the_last_buckets_end_with_the_current_one(gateway: Gateway) -> None:
    for day in (27, 28):
        move_to(gateway, 2031, 2, day, 5)
        await complete(gateway)
    query = {"lastN": "1"}
    body = (await gateway.get(URL, params=query)).json()
    assert body["metadata"]["query"]["startTime"] == "2031-02-28T00:00:00Z"
    assert body["metadata"]["query"]["endTime"] == "2031-03-01T00:00:00Z"
    assert body["metadata"]["recordCount"] == 1
    body = (await gateway.get(URL, params={"lastN": "14", "bucketSize": "month"})).json()
    assert body["metadata"]["query"]["startTime"] == "2030-01-01T00:00:00Z"
    for count in ("999999999", "9" * 400):
        body = (await gateway.get(URL, params={"lastN": count})).json()
        assert body["metadata"]["recordCount"] == 2


async def test_times_far_away_hold_all_charges(gateway: Gateway) -> None:
    await complete(gateway)
    for size in ("hour", "week", "year"):
        query = {"startTime": "0000-02-29T00:00:60Z", "endTime": "9999-12-31T23:59:59-23:59", "bucketSize": size}
        assert (await gateway.get(URL, params=query)).json()["metadata"]["recordCount"] == 1
    assert (await gateway.get(URL, params={"startTime": "0001-01-01T00:00:00+14:00"})).status_code == 200


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"startTime": "yesterday"}, ["startTime must be a time such as"]),
        ({"startTime": "2031-02-30T00:00:00Z"}, ["startTime"]),
        ({"startTime": "2031-02-01"}, ["startTime"]),
        ({"startTime": "2031-02-01T00:00:00"}, ["startTime"]),
        ({"endTime": ""}, ["endTime"]),
        ({"bucketSize": "minute"}, ["bucketSize must be hour, day, week, month, year"]),
        ({"lastN": "0"}, ["lastN must be a whole number above 0"]),
        ({"lastN": "-1"}, ["lastN"]),
        ({"lastN": "²"}, ["lastN"]),
        ({"lastN": "1", "endTime": "2031-02-01T00:00:00Z"}, ["lastN excludes startTime and endTime"]),
        ({"startTime": "2031-02-02T00:00:00Z", "endTime": "2031-02-02T00:00:00Z"}, ["endTime must be after startTime"]),
        ({"bucketSize": "x", "lastN": "y"}, ["bucketSize", "lastN"]),
    ],
)
async def test_a_wrong_query_is_a_problem_document(gateway: Gateway, query: dict[str, str], words: list[str]) -> None:
    reply = await gateway.get(URL, params=query)
    assert (reply.status_code, reply.headers["content-type"]) == (422, "application/problem+json")
    body = reply.json()
    assert list(body) == ["title", "status", "detail", "errors"]
    assert (body["title"], body["status"]) == ("Unprocessable Entity", 422)
    assert len(body["errors"]) == len(words)
    for word, text in zip(words, body["errors"], strict=True):
        assert text.startswith(word)


async def test_every_error_is_a_problem_document(gateway: Gateway) -> None:
    reply = await gateway.get(URL, headers={"Authorization": ""})
    assert (reply.status_code, reply.headers["content-type"]) == (401, "application/problem+json")
    assert reply.json() == {
        "title": "Unauthorized",
        "status": 401,
        "detail": "missing API key: send the header 'Authorization: Bearer <key>'",
    }
    reply = await gateway.post(URL)
    assert (reply.status_code, reply.headers["allow"]) == (405, "GET")
    assert reply.json()["title"] == "Method Not Allowed"
    for _ in range(100):
        reply = await gateway.get(URL)
    assert reply.status_code == 200
    reply = await gateway.get(URL)
    assert (reply.status_code, reply.headers["retry-after"]) == (429, "10")
    assert reply.headers["content-type"] == "application/problem+json"


async def test_a_key_for_some_endpoints_sees_its_own_charges_only(gateway: Gateway) -> None:
    async def total(headers: dict[str, str]) -> float:
        return (await gateway.get(URL, headers=headers)).json()["metadata"]["totals"]["totalAmount"]

    accounts = gateway.services.accounts
    only = KeyLimits(endpoint_ids=frozenset({"black-forest-labs-flux-1-schnell"}))
    _, secret = await accounts.create("shop", limits=only)
    shop = {"Authorization": secret}
    _, secret = await accounts.create("dashboard", limits=KeyLimits(is_read_only=True))
    await complete(gateway)
    await complete(gateway, SCHNELL, shop)
    assert await total(shop) == SCHNELL_USD
    assert await total({"Authorization": secret}) == pytest.approx(DEV_USD + SCHNELL_USD)


async def test_the_bill_of_everything_names_the_endpoints_share(gateway: Gateway) -> None:
    await complete(gateway)
    body = (await gateway.get("/v2/billing?lastN=1")).json()
    assert body["records"][0]["endpointAmount"] == body["records"][0]["totalAmount"] == DEV_USD
    assert body["metadata"]["totals"] == {"endpointAmount": DEV_USD, "totalAmount": DEV_USD}
