"""How far a job is, as `/status`, `/runsync` and `/stream` tell it."""

import pytest

from flux_endpoint.service.job_views import NO_WORKER
from tests.api.asking import taken
from tests.api.conftest import DEV, Gateway, HandWorker

pytestmark = pytest.mark.anyio
FIGURES = {"step": 3, "total": 28, "eta_ms": 2500}
PREVIEW = "data:image/jpeg;base64,/9j/4AAQ"


@pytest.mark.parametrize("path", ["status", "status-sync"])
async def test_a_waiting_job_shows_its_place(gateway: Gateway, worker: HandWorker, path: str) -> None:
    first, second = await gateway.submit(), await gateway.submit()
    reply = await gateway.get(f"{DEV}/{path}/{second}?wait=1000")
    assert reply.json() == {"id": second, "status": "IN_QUEUE", "queuePosition": 2, "notice": NO_WORKER}
    await worker.take()
    reply = await gateway.get(f"{DEV}/status/{second}")
    assert reply.json()["queuePosition"] == 1
    reply = await gateway.get(f"{DEV}/status/{first}")
    assert reply.json() == {"id": first, "status": "IN_PROGRESS", "delayTime": 0, "workerId": "worker-1"}


@pytest.mark.parametrize("path", ["status", "status-sync"])
async def test_a_running_job_shows_its_progress_without_the_preview(
    gateway: Gateway, worker: HandWorker, path: str
) -> None:
    job = await taken(gateway, worker)
    await worker.send(job, FIGURES | {"step": 2})
    await worker.send(job, FIGURES | {"preview": PREVIEW})
    body = (await gateway.get(f"{DEV}/{path}/{job['id']}?wait=1000")).json()
    assert body == {
        "id": job["id"],
        "status": "IN_PROGRESS",
        "delayTime": 0,
        "workerId": "worker-1",
        "progress": FIGURES,
    }
    await worker.finish(job)
    assert "progress" not in (await gateway.get(f"{DEV}/{path}/{job['id']}")).json()


async def test_runsync_shows_progress_when_its_time_is_over(gateway: Gateway, worker: HandWorker) -> None:
    job = await taken(gateway, worker)
    await worker.send(job, FIGURES)
    # The same job under the same name: it is running by the time of the second call.
    name = {"Idempotency-Key": "one"}
    body = {"input": {"prompt": "a lake"}}
    reply = await gateway.post(f"{DEV}/runsync?wait=1000", body, headers=name)
    assert reply.json() == {"id": reply.json()["id"], "status": "IN_QUEUE"}
    second = await worker.take()
    assert second is not None
    await worker.send(second, FIGURES | {"preview": PREVIEW})
    reply = await gateway.post(f"{DEV}/runsync?wait=1000", body, headers=name)
    assert reply.json() == {"id": second["id"], "status": "IN_PROGRESS", "progress": FIGURES}


async def test_a_preview_is_handed_out_with_the_last_step_only(gateway: Gateway, worker: HandWorker) -> None:
    job = await taken(gateway, worker)
    for step in (1, 2, 3):
        await worker.send(job, FIGURES | {"step": step, "preview": f"{PREVIEW}{step}"})
    await worker.send(job, "text")
    reply = await gateway.get(f"{DEV}/stream/{job['id']}")
    assert [chunk["output"] for chunk in reply.json()["stream"]] == [
        FIGURES | {"step": 1},
        FIGURES | {"step": 2},
        FIGURES | {"step": 3, "preview": f"{PREVIEW}3"},
        "text",
    ]
    # What has no preview is told without.
    await worker.send(job, FIGURES | {"step": 4})
    reply = await gateway.get(f"{DEV}/stream/{job['id']}")
    assert reply.json()["stream"] == [{"output": FIGURES | {"step": 4}}]


async def test_what_a_third_party_worker_calls_preview_is_its_own(gateway: Gateway, worker: HandWorker) -> None:
    job = await taken(gateway, worker)
    for chunk in ({"preview": "x"}, {"step": 1, "total": 2, "preview": [1]}, {"step": "one", "total": 2}):
        await worker.send(job, chunk)
        reply = await gateway.get(f"{DEV}/stream/{job['id']}")
        assert reply.json()["stream"] == [{"output": chunk}]
    assert (await gateway.get(f"{DEV}/status/{job['id']}")).json()["progress"] == {"step": 1, "total": 2}
