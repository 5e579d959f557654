"""Pictures that this server keeps: one for each attempt, none that nobody knows of, and a store that refuses them."""

import asyncio
from pathlib import Path

import obstore
import pytest

from flux_endpoint.core.errors import StoreUnavailable
from tests.api.asking import status
from tests.api.conftest import DEV, PNG_BYTES, Gateway, HandWorker, ThirdPartyWorker

pytestmark = pytest.mark.anyio


def files(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "images").iterdir())


async def take(gateway: Gateway, worker: HandWorker) -> dict:
    await gateway.submit(image_format="png")
    job = await worker.take()
    assert job is not None
    return job


async def test_twenty_uploads_of_one_attempt_leave_one_file(
    gateway: Gateway, worker: HandWorker, tmp_path: Path
) -> None:
    job = await take(gateway, worker)
    replies = await asyncio.gather(*(worker.deliver(job) for _ in range(10)))
    replies += [await worker.deliver(job) for _ in range(10)]
    assert {reply.status_code for reply in replies} == {200}
    body = await status(gateway, job["id"], DEV)
    assert [body["output"]["image_url"].rpartition("/")[2]] == files(tmp_path)
    assert len(await gateway.stores.accounts.entries()) == 1


async def test_a_picture_of_a_job_that_is_not_held_is_not_saved(
    gateway: Gateway, worker: HandWorker, tmp_path: Path
) -> None:
    job = await take(gateway, worker)
    assert (await HandWorker(gateway.client, "thief").deliver(job)).status_code == 409
    assert (await worker.deliver(job | {"claimToken": 7})).status_code == 409
    await gateway.post(f"{DEV}/cancel/{job['id']}")
    assert (await worker.deliver(job)).status_code == 409
    assert files(tmp_path) == []


async def test_no_worker_names_a_picture_that_it_has_not_handed_in(
    gateway: Gateway, worker: HandWorker, tmp_path: Path
) -> None:
    done = await take(gateway, worker)
    await worker.finish(done)
    (stolen,) = files(tmp_path)
    for key in (stolen, "a" * 43 + ".png", "../secret.png"):
        job_id = await gateway.submit()
        third_party = ThirdPartyWorker(gateway, endpoint=DEV)
        await third_party.take()
        assert (await third_party.done(job_id, {"output": {"image_key": key}})).status_code == 200
        body = await status(gateway, job_id, DEV)
        assert (body["status"], body["error"]) == ("FAILED", "the worker named a picture that it has not handed in")
    assert [entry.job_id for entry in await gateway.stores.accounts.entries()] == [done["id"]]


@pytest.mark.parametrize("end", ["lost", "cancelled"])
async def test_what_a_killed_gateway_leaves_is_found_and_what_jobs_name_is_not(
    gateway: Gateway, worker: HandWorker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    kept = await take(gateway, worker)
    await worker.finish(kept)
    (kept_file,) = files(tmp_path)
    job = await take(gateway, worker)

    async def die(*_: object) -> None:
        raise StoreUnavailable("killed between the picture and its report")

    with monkeypatch.context() as patch:
        patch.setattr(gateway.stores.claims, "finish", die)
        assert (await worker.deliver(job)).status_code == 503
    orphan = next(name for name in files(tmp_path) if name != kept_file)
    # As long as the attempt may still report, its picture stays.
    await gateway.janitor.sweep()
    assert orphan in files(tmp_path)
    if end == "cancelled":
        await gateway.post(f"{DEV}/cancel/{job['id']}")
    # A day later the job of the other is erased; its picture lives on for its seven days.
    gateway.clock.advance(days=1)
    await gateway.janitor.sweep()
    gateway.clock.advance(days=1)
    await gateway.janitor.sweep()
    assert files(tmp_path) == [kept_file]
    gateway.clock.advance(days=6)
    await gateway.janitor.sweep()
    assert files(tmp_path) == []


async def test_an_orphan_that_cannot_be_deleted_is_found_again(
    gateway: Gateway, worker: HandWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await take(gateway, worker)
    (key,) = await gateway.stores.pictures.reserve_pictures(job["id"], "worker-1", None, ["a" * 43 + ".png"])
    await gateway.services.images.save(key, PNG_BYTES)
    await gateway.post(f"{DEV}/cancel/{job['id']}")
    gateway.clock.advance(days=1)

    async def refuse(_: str) -> None:
        raise StoreUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(gateway.services.images, "delete", refuse)
        with pytest.raises(StoreUnavailable):
            await gateway.janitor.sweep()
    gateway.clock.advance(days=1)
    await gateway.janitor.sweep()
    assert await gateway.stores.pictures.orphaned_pictures(gateway.clock.now_ms(), 9) == []
    assert (await gateway.client.get(f"/images/{key}")).status_code == 404


async def test_a_store_that_refuses_makes_the_gateway_unready_until_it_is_well(
    gateway: Gateway, worker: HandWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await take(gateway, worker)
    images = gateway.services.images
    naps: asyncio.Queue[None] = asyncio.Queue()
    asleep: asyncio.Queue[float] = asyncio.Queue()

    async def sleep(seconds: float) -> None:
        asleep.put_nowait(seconds)
        await naps.get()

    async def refuse(*_: object, **__: object) -> None:
        raise FileNotFoundError("the folder is gone")

    monkeypatch.setattr(images, "_sleep", sleep)
    watching = asyncio.create_task(images.recheck())
    await asleep.get()
    client = gateway.client
    ready = await client.get("/readyz", headers={"Authorization": ""})
    assert (ready.status_code, ready.json()) == (200, {"status": "ready", "problems": []})
    with monkeypatch.context() as patch:
        patch.setattr(obstore, "put_async", refuse)
        reply = await worker.deliver(job)
        assert (reply.status_code, reply.json()) == (503, {"error": "the image store has no such bucket or folder"})
        naps.put_nowait(None)
        await asleep.get()
        unready = await client.get("/readyz")
        assert unready.status_code == 503
        assert unready.json() == {"status": "unready", "problems": ["the image store has no such bucket or folder"]}
    # Repaired: nobody has to save a picture for this to be noticed.
    naps.put_nowait(None)
    await asleep.get()
    assert (await client.get("/readyz")).json()["status"] == "ready"
    assert (await worker.deliver(job)).status_code == 200
    watching.cancel()


async def test_a_server_that_is_told_to_stop_is_not_ready_but_lives(gateway: Gateway) -> None:
    assert (await gateway.client.get("/readyz", headers={"Authorization": ""})).status_code == 200
    gateway.services.leaving.set()
    unready = await gateway.client.get("/readyz")
    assert (unready.status_code, unready.json()["problems"]) == (503, ["this server is being stopped"])
    live = await gateway.client.get("/livez", headers={"Authorization": ""})
    assert (live.status_code, live.json()) == (200, {"status": "live"})
