"""What `/health` says of single workers to whoever asks for details."""

import pytest

from tests.api.conftest import DEV, Gateway, HandWorker

pytestmark = pytest.mark.anyio

KIND = "1f2e3d4c (device cpu, dtype float32, threads 1)"


async def take(gateway: Gateway, worker: HandWorker, name: str, **query: str) -> int:
    reply = await gateway.client.get(f"{DEV}/job-take/{name}", params=query, headers=worker.headers)
    return reply.status_code


async def test_details_tell_of_what_kind_a_worker_is(gateway: Gateway, worker: HandWorker) -> None:
    plain = (await gateway.get(f"{DEV}/health")).json()
    assert list(plain) == ["jobs", "workers"]
    assert await take(gateway, worker, "w-1", gpu="cpu", coldStart="900", fingerprint=KIND) == 204
    assert await take(gateway, worker, "w-1", gpu="cpu") == 204
    assert await take(gateway, worker, "pod-1", gpu="unknown") == 204
    await gateway.get(f"{DEV}/ping/pod-1?status=unhealthy&reason=hot", headers=worker.headers)
    body = (await gateway.get(f"{DEV}/health?details=true")).json()
    assert body["details"] == [
        {"id": "pod-1", "state": "unhealthy", "reason": "hot"},
        {"id": "w-1", "state": "idle", "fingerprint": KIND},
    ]
    assert list((await gateway.get(f"{DEV}/health?details=false")).json()) == ["jobs", "workers"]


async def test_a_worker_may_become_of_another_kind(gateway: Gateway, worker: HandWorker) -> None:
    for kind in (KIND, "another"):
        assert await take(gateway, worker, "w-1", fingerprint=kind) == 204
        body = (await gateway.get(f"{DEV}/health?details=true")).json()
        assert [worker["fingerprint"] for worker in body["details"]] == [kind]


@pytest.mark.parametrize("text", ["x" * 1_001, "two\nlines", "Kär", "\x1b[31m"])
async def test_a_fingerprint_is_one_short_line(gateway: Gateway, worker: HandWorker, text: str) -> None:
    assert await take(gateway, worker, "w-1", fingerprint=text) == 400
    assert (await gateway.get(f"{DEV}/health?details=true")).json()["details"] == []


@pytest.mark.parametrize("value", ["1", "", "True", "yes"])
async def test_details_are_true_or_false(gateway: Gateway, value: str) -> None:
    reply = await gateway.get(f"{DEV}/health?details={value}")
    assert (reply.status_code, reply.json()) == (400, {"error": "details is invalid; must be true or false"})
