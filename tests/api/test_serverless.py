"""Endpoints, workers and bills in the shapes of Runpod's second API, and the catalogue by GraphQL."""

import json
from typing import Any

import pytest

from tests.api.asking import headers_of
from tests.api.conftest import DEV, PUBLIC_URL, SCHNELL, Gateway, HandWorker

pytestmark = pytest.mark.anyio

DEV_ID = DEV.removeprefix("/v2/")
SCHNELL_ID = SCHNELL.removeprefix("/v2/")
CATALOGUE = """
query {
  allAiApiPublicConfigs {
    id aiApiId modelName displayName description metadata isLive createdAt updatedAt
  }
}
"""


async def complete(gateway: Gateway, endpoint: str = DEV, headers: dict[str, str] | None = None) -> None:
    assert (await gateway.post(f"{endpoint}/run", {"input": {"prompt": "a lake"}}, headers=headers)).is_success
    worker = HandWorker(gateway.client, endpoint=endpoint)
    job = await worker.take()
    assert job is not None
    await worker.finish(job)


async def test_endpoints_are_told_with_links_that_work(gateway: Gateway, worker: HandWorker) -> None:
    assert await worker.take() is None
    listed = (await gateway.get("/v2/serverless")).json()["endpoints"]
    assert [endpoint["id"] for endpoint in listed] == [DEV_ID, SCHNELL_ID, "echo"]
    dev = listed[0]
    assert (await gateway.get(f"/v2/serverless/{DEV_ID}")).json() == dev
    assert (dev["name"], dev["type"], dev["workers"]) == ("Flux Dev", "QUEUE", {"min": 1, "max": 1})
    urls = dev["requestUrls"]
    assert all(url.startswith(f"{PUBLIC_URL}{DEV}/") for url in urls.values())
    job = (await gateway.post(urls["run"], {"input": {"prompt": "a lake"}})).json()
    assert (await gateway.get(urls["status"].format(job_id=job["id"]))).json()["status"] == "IN_QUEUE"
    assert (await gateway.get(urls["health"])).json()["jobs"]["inQueue"] == 1


async def test_workers_are_told_one_by_one_and_counted(gateway: Gateway) -> None:
    empty = (await gateway.get(f"/v2/serverless/{DEV_ID}/workers")).json()
    assert empty["workers"] == []
    assert set(empty["summary"].values()) == {0}
    await gateway.submit()
    for name in ("one", "two"):
        await HandWorker(gateway.client, name).take()
    told = (await gateway.get(f"/v2/serverless/{DEV_ID}/workers")).json()
    assert sorted(worker["status"] for worker in told["workers"]) == ["IDLE", "RUNNING"]
    summary = {"running": 1, "idle": 1, "initializing": 0, "throttled": 0, "unhealthy": 0, "total": 2}
    assert told["summary"] == summary


async def test_a_key_sees_the_endpoints_it_opens(gateway: Gateway) -> None:
    headers = await headers_of(gateway, endpoint_ids=frozenset({SCHNELL_ID}))
    listed = (await gateway.get("/v2/serverless", headers=headers)).json()["endpoints"]
    assert [endpoint["id"] for endpoint in listed] == [SCHNELL_ID]
    for path in ("", "/workers"):
        reply = await gateway.get(f"/v2/serverless/{DEV_ID}{path}", headers=headers)
        assert (reply.status_code, reply.headers["content-type"]) == (403, "application/problem+json")
    reply = await gateway.get("/v2/serverless/nothing")
    assert (reply.status_code, reply.json()["title"]) == (404, "Not Found")
    assert (await gateway.get("/v2/serverless", headers={"Authorization": ""})).status_code == 401
    assert (await gateway.client.delete(f"/v2/serverless/{DEV_ID}")).status_code == 405


async def test_the_bill_is_told_by_endpoint_and_adds_up(gateway: Gateway) -> None:
    guest = await headers_of(gateway, endpoint_ids=frozenset({DEV_ID}))
    for endpoint, headers in ((DEV, None), (DEV, guest), (SCHNELL, None)):
        await complete(gateway, endpoint, headers)
    bill = (await gateway.get("/v2/billing/serverless?lastN=1")).json()
    assert [(one["serverlessId"], one["totalAmount"]) for one in bill["records"]] == [
        (DEV_ID, 0.04194304),
        (SCHNELL_ID, 0.00251658),
    ]
    metadata = bill["metadata"]
    assert (metadata["recordCount"], metadata["uniqueServerlessCount"]) == (2, 2)
    amounts = {"totalAmount": 0.04445962, "feeAmount": 0.04445962, "gpuAmount": 0, "cpuAmount": 0, "diskAmount": 0}
    assert metadata["totals"] == amounts
    whole = (await gateway.get("/v2/billing/endpoints?lastN=1")).json()
    assert whole["metadata"]["totals"] == {"totalAmount": 0.04445962}
    one = (await gateway.get(f"/v2/billing/serverless?lastN=1&serverlessId={SCHNELL_ID}")).json()
    assert [record["serverlessId"] for record in one["records"]] == [SCHNELL_ID]
    assert one["metadata"]["query"]["serverlessId"] == SCHNELL_ID
    own = (await gateway.get("/v2/billing/serverless?lastN=1", headers=guest)).json()
    assert own["metadata"]["totals"]["totalAmount"] == 0.02097152
    wrong = await gateway.get("/v2/billing/serverless?lastN=0")
    assert (wrong.status_code, wrong.json()["errors"]) == (422, ["lastN must be a whole number above 0"])


async def ask(gateway: Gateway, query: str) -> Any:
    reply = await gateway.post("/graphql", {"query": query}, headers={"Authorization": ""})
    assert reply.status_code == 200, reply.text
    return reply.json()


async def test_the_catalogue_is_asked_by_graphql_without_a_key(gateway: Gateway) -> None:
    configs = (await ask(gateway, CATALOGUE))["data"]["allAiApiPublicConfigs"]
    assert [config["aiApiId"] for config in configs] == [DEV_ID, SCHNELL_ID]
    assert (configs[0]["displayName"], configs[0]["isLive"], configs[0]["createdAt"]) == ("Flux Dev", True, None)
    metadata = json.loads(configs[0]["metadata"])
    assert (metadata["source"], metadata["priceString"]) == ("image", "$0.02 per megapixel")
    named = await ask(gateway, "{ models: allAiApiPublicConfigs { name: displayName } }")
    assert named == {"data": {"models": [{"name": "Flux Dev"}, {"name": "Flux Schnell"}]}}


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("{ myself { id } }", "Cannot query field 'myself'"),
        ("{ allAiApiPublicConfigs { secret } }", "Cannot query field 'secret'"),
        ("mutation { allAiApiPublicConfigs { id } }", "mutation"),
        ("{", "Syntax Error"),
        ("", "Syntax Error"),
        ("{ allAiApiPublicConfigs { " + "id " * 300 + "} }", "token"),
        ("{" * 199, "Syntax Error"),
    ],
)
async def test_other_questions_are_errors_of_graphql(gateway: Gateway, query: str, problem: str) -> None:
    answer = await ask(gateway, query)
    assert "data" not in answer
    assert problem in answer["errors"][0]["message"]


async def test_what_is_no_question_is_refused(gateway: Gateway) -> None:
    for body in (b"{}", b"[]", b'{"query": 1}', b"{"):
        assert (await gateway.client.post("/graphql", content=body)).status_code == 400
