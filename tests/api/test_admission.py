"""Keys, unknown places and the OpenAPI page."""

import pytest

from tests.api.conftest import API_KEY, DEV, Gateway, HandWorker

pytestmark = pytest.mark.anyio

OPERATIONS = [
    ("POST", "run"),
    ("POST", "runsync"),
    ("GET", "status/some-id"),
    ("POST", "status/some-id"),
    ("POST", "cancel/some-id"),
    ("GET", "status-sync/some-id"),
    ("POST", "status-sync/some-id"),
    ("GET", "stream/some-id"),
    ("POST", "stream/some-id"),
    ("POST", "retry/some-id"),
    ("POST", "purge-queue"),
    ("GET", "health"),
    ("POST", "estimate"),
]


@pytest.mark.parametrize("form", [f"Bearer {API_KEY}", API_KEY, f"bearer {API_KEY}", f"Bearer  {API_KEY} "])
async def test_both_forms_of_the_key_are_accepted(gateway: Gateway, form: str) -> None:
    assert (await gateway.get(f"{DEV}/health", headers={"Authorization": form})).status_code == 200


async def test_a_revoked_key_is_refused(gateway: Gateway) -> None:
    key, secret = await gateway.services.accounts.create("laptop")
    headers = {"Authorization": secret}
    assert (await gateway.get(f"{DEV}/health", headers=headers)).status_code == 200
    assert await gateway.services.accounts.revoke(key.id)
    reply = await gateway.get(f"{DEV}/health", headers=headers)
    assert (reply.status_code, reply.json()) == (401, {"error": "API key 'laptop' has been revoked"})


@pytest.mark.parametrize(("method", "operation"), OPERATIONS)
async def test_unknown_endpoint_is_404_and_says_what_there_is(gateway: Gateway, method: str, operation: str) -> None:
    reply = await gateway.client.request(method, f"/v2/flux-9/{operation}", json={"input": {"prompt": "a"}})
    assert reply.status_code == 404
    assert "unknown endpoint 'flux-9'" in reply.json()["error"]
    assert "black-forest-labs-flux-1-dev" in reply.json()["error"]


@pytest.mark.parametrize("operation", ["status", "status-sync", "stream", "cancel", "retry"])
async def test_unknown_job_is_404(gateway: Gateway, operation: str) -> None:
    reply = await gateway.post(f"{DEV}/{operation}/no-such-job")
    assert reply.status_code == 404
    assert "no-such-job" in reply.json()["error"]


async def test_unknown_path_and_method_answer_json(gateway: Gateway) -> None:
    assert (await gateway.get("/nowhere")).json() == {"error": "Not Found: GET /nowhere"}
    reply = await gateway.get(f"{DEV}/runsync")
    assert (reply.status_code, reply.headers["allow"]) == (405, "POST")
    assert list(reply.json()) == ["error"]


async def test_worker_is_told_what_is_wrong(gateway: Gateway, worker: HandWorker) -> None:
    await gateway.submit()
    job = await worker.take()
    assert job is not None
    assert (await worker.deliver(job, b"GIF89a")).status_code == 400
    headers = worker.headers
    url = f"{DEV}/job-done/worker-1/{job['id']}"
    assert (await gateway.client.post(url, content=b"[]", headers=headers)).status_code == 400
    assert (await gateway.client.post(f"{url}?claimToken=x", json={}, headers=headers)).status_code == 400
    reply = await gateway.client.get("/v2/flux-9/job-take/worker-1", headers=headers)
    assert reply.status_code == 404
