"""Several pictures of one job: one id, one price, as many links."""

from pathlib import Path
from typing import Any

import pytest

from tests.api.asking import status
from tests.api.conftest import DEV, PNG_BYTES, Gateway, HandWorker, ThirdPartyWorker

pytestmark = pytest.mark.anyio

FILES = [PNG_BYTES + tail for tail in (b"first", b"second", b"third")]
ASKED: dict[str, Any] = {"prompt": "a lake", "image_format": "png", "seed": 2**32 - 2, "num_images": 3}
BUCKET = {
    "accessId": "their-id",
    "accessSecret": "their-secret",
    "bucketName": "pictures",
    "endpointUrl": "https://s3.eu-west-1.example.com",
}


async def taken(gateway: Gateway, worker: HandWorker, **beside: object) -> dict[str, Any]:
    """A job for three pictures, in the worker's hands."""
    reply = await gateway.post(f"{DEV}/run", {"input": ASKED} | beside)
    assert reply.status_code == 200, reply.text
    job = await worker.take()
    assert job is not None
    return job


async def handed_in(worker: HandWorker, job: dict[str, Any], files: list[bytes]) -> None:
    sizes = ",".join(str(len(data)) for data in files)
    reply = await worker.deliver(job, b"".join(files), sizes=sizes)
    assert reply.status_code == 200, reply.text


def kept(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "images").iterdir())


async def test_they_have_one_job_one_price_and_a_link_each(
    gateway: Gateway, worker: HandWorker, tmp_path: Path
) -> None:
    job = await taken(gateway, worker)
    assert job["input"]["num_images"] == 3
    await worker.send(job, {"step": 30, "total": 84, "eta_ms": 5})
    assert (await status(gateway, job["id"], DEV))["progress"] == {"step": 30, "total": 84, "eta_ms": 5}
    # Twice, as when the answer was lost on its way to the worker.
    for _ in range(2):
        await handed_in(worker, job, FILES)
    body = await status(gateway, job["id"], DEV)
    output = body["output"]
    assert (body["status"], output["cost"]) == ("COMPLETED", 0.06291456)
    assert (output["seed"], output["seeds"]) == (2**32 - 2, [2**32 - 2, 2**32 - 1, 0])
    assert output["image_url"] == output["result"] == output["images"][0]
    assert [(await gateway.client.get(url)).content for url in output["images"]] == FILES
    assert output.keys() == {"image_url", "result", "images", "cost", "seed", "seeds"}
    assert len(kept(tmp_path)) == 3
    (entry,) = await gateway.stores.accounts.entries()
    assert float(entry.amount_usd) == output["cost"]
    gateway.clock.advance(days=1)
    await gateway.janitor.sweep()
    assert len(kept(tmp_path)) == 3


@pytest.mark.parametrize(
    ("files", "sizes"),
    [
        (FILES[:2], "13,14"),
        (FILES, None),
        (FILES, "1,2,3"),
        (FILES, "all"),
        (FILES, ""),
        ([*FILES[:2], b"GIF89a"], "13,14,6"),
    ],
)
async def test_a_worker_that_hands_in_anything_else_fails_the_job_and_nothing_is_charged_or_kept(
    gateway: Gateway, worker: HandWorker, tmp_path: Path, files: list[bytes], sizes: str | None
) -> None:
    job = await taken(gateway, worker)
    said = {} if sizes is None else {"sizes": sizes}
    assert (await worker.deliver(job, b"".join(files), **said)).status_code == 400
    assert (await status(gateway, job["id"], DEV))["status"] == "FAILED"
    assert (await gateway.stores.accounts.entries(), kept(tmp_path)) == ([], [])


async def test_a_bucket_gets_all_and_its_webhook_tells_them(gateway: Gateway, worker: HandWorker) -> None:
    job = await taken(gateway, worker, s3Config=BUCKET)
    await handed_in(worker, job, FILES)
    await gateway.settle()
    put = {sent.url.partition("?")[0].rpartition("/")[2]: sent.body for sent in gateway.sender.sent}
    assert put == dict(zip((f"{job['id']}.png", f"{job['id']}-2.png", f"{job['id']}-3.png"), FILES, strict=True))
    output = (await status(gateway, job["id"], DEV))["output"]
    assert [url.partition("?")[0].rpartition("/")[2] for url in output["images"]] == list(put)
    assert output["image_url"] == output["images"][0]
    assert output["seeds"][2] == 0


async def test_a_bucket_that_refuses_one_fails_all(gateway: Gateway, worker: HandWorker) -> None:
    job = await taken(gateway, worker, s3Config=BUCKET)
    gateway.sender.answers = [200, 403]
    await handed_in(worker, job, FILES)
    await gateway.settle()
    assert (await status(gateway, job["id"], DEV))["status"] == "FAILED"
    assert await gateway.stores.accounts.entries() == []


async def test_a_lost_worker_leaves_nothing_and_another_draws_all_anew(gateway: Gateway, worker: HandWorker) -> None:
    job = await taken(gateway, worker)
    gateway.clock.advance(s=60)
    await gateway.services.workforce.sweep()
    other = HandWorker(gateway.client, "worker-2")
    again = await other.take()
    assert again is not None
    assert (again["id"], again["input"]) == (job["id"], job["input"])
    await handed_in(other, again, FILES)
    assert len((await status(gateway, job["id"], DEV))["output"]["images"]) == 3


async def test_a_worker_of_somebody_elses_shows_as_many(gateway: Gateway) -> None:
    third_party = ThirdPartyWorker(gateway, endpoint=DEV)
    links = ["https://x.example/1.png", "https://x.example/2.png"]
    for images, end in ((links, "COMPLETED"), (links[:1], "FAILED"), (None, "FAILED")):
        job_id = await gateway.submit(num_images=2)
        await third_party.take()
        await third_party.done(job_id, {"output": {"image_url": links[0], "images": images}})
        assert (await status(gateway, job_id, DEV))["status"] == end


async def test_their_time_and_price_are_estimated(gateway: Gateway, worker: HandWorker) -> None:
    await gateway.submit()
    job = await worker.take()
    assert job is not None
    gateway.clock.advance(s=4)
    await worker.finish(job)
    told = (await gateway.post(f"{DEV}/estimate", {"input": ASKED})).json()
    assert (told["cost"], told["executionTime"]) == (0.06291456, 12_000)
    job = await taken(gateway, worker)
    gateway.clock.advance(s=15)
    await handed_in(worker, job, FILES)
    told = (await gateway.post(f"{DEV}/estimate", {"input": {"prompt": "a lake"}})).json()
    assert told["executionTime"] == 4_500
    # Steps of all of them count for the worker.
    refused = await gateway.post(f"{DEV}/run", {"input": {"prompt": "a lake", "num_images": 5}})
    assert (refused.status_code, "num_images must be between 1 and 4" in refused.text) == (400, True)
