"""Drafts, and what finishes them: one job each, which together cost as much as a picture in one go."""

from pathlib import Path
from typing import Any

import pytest

from flux_endpoint.core.drafts import write_header
from tests.api.asking import status, submit
from tests.api.conftest import DEV, ECHO, PNG_BYTES, Gateway, HandWorker, ThirdPartyWorker
from tests.api.test_several_pictures import BUCKET

pytestmark = pytest.mark.anyio

KIND = "0a1b2c3d (device cpu)"
ASKED: dict[str, Any] = {"prompt": "a lake", "image_format": "png", "seed": 5, "num_inference_steps": 10}


def latents(number: int = 1) -> bytes:
    return write_header({"fingerprint": KIND, "number": str(number)})


async def drafted(gateway: Gateway, worker: HandWorker, **more: Any) -> str:
    """A COMPLETED draft; returns the id of its job."""
    reply = await gateway.post(f"{DEV}/run", {"input": ASKED | {"stop_after": 3} | more})
    assert reply.status_code == 200, reply.text
    job = await worker.take()
    assert job is not None
    count = job["input"].get("num_images", 1)
    files = [PNG_BYTES] * count + [latents(number) for number in range(1, count + 1)]
    done = await worker.deliver(job, b"".join(files), sizes=",".join(str(len(data)) for data in files))
    assert done.status_code == 200, done.text
    return str(job["id"])


async def finish(gateway: Gateway, job_id: str, body: object = None, endpoint: str = DEV) -> tuple[int, dict[str, Any]]:
    reply = await gateway.post(f"{endpoint}/finish/{job_id}", {} if body is None else body)
    return reply.status_code, reply.json()


async def source(worker: HandWorker, job: dict[str, Any], sha256: str) -> tuple[int, bytes]:
    query = f"claimToken={job['claimToken']}&isStream=false&sha256={sha256}"
    reply = await worker.client.get(f"{DEV}/job-source/{worker.id}/{job['id']}?{query}", headers=worker.headers)
    return reply.status_code, reply.content


async def test_a_draft_is_finished_as_a_job_of_its_own(gateway: Gateway, worker: HandWorker) -> None:
    draft = await drafted(gateway, worker)
    output = (await status(gateway, draft, DEV))["output"]
    # Three steps of ten of 0.02097152, and nothing of what is kept.
    assert (output["cost"], output.keys()) == (0.00629146, {"image_url", "result", "cost", "seed"})
    code, made = await finish(gateway, draft, {"webhook": "https://client.example/hook", "policy": {"ttl": 60_000}})
    assert (code, made["status"]) == (200, "IN_QUEUE")
    job = await worker.take()
    assert job is not None
    assert (job["id"], job["webhook"], job["policy"]["ttl"]) == (made["id"], "https://client.example/hook", 60_000)
    told = job["input"].pop("draft")
    assert told["steps"] == 3
    assert await source(worker, job, told["sha256"]) == (200, latents())
    assert (await source(worker, job, "0" * 64))[0] == 404
    whole = await gateway.submit(**ASKED)
    await worker.finish(job)
    other = await worker.take()
    assert other is not None
    # But for where it begins, it is the job that the same input makes without a stop.
    assert (other["id"], other["input"]) == (whole, job["input"])
    finished = (await status(gateway, made["id"], DEV))["output"]
    assert round(output["cost"] + finished["cost"], 8) == 0.02097152
    entries = await gateway.stores.accounts.entries()
    assert sorted(float(entry.amount_usd) for entry in entries) == [output["cost"], finished["cost"]]
    # As often as one likes.
    assert (await finish(gateway, draft))[0] == 200


async def test_one_of_several_is_picked(gateway: Gateway, worker: HandWorker) -> None:
    draft = await drafted(gateway, worker, num_images=3)
    output = (await status(gateway, draft, DEV))["output"]
    assert (len(output["images"]), output["cost"]) == (3, 0.01887438)
    assert "kept_latents" not in output
    for picture, said in (
        (None, "picture is required: the draft has 3"),
        (4, "picture must be between 1 and 3"),
        (0, "picture must be between 1 and 4"),
        ("2", "picture must be an integer"),
    ):
        code, body = await finish(gateway, draft, {"picture": picture})
        assert (code, said in body["error"]) == (400, True), body
    assert (await finish(gateway, draft, {"picture": 2}))[0] == 200
    job = await worker.take()
    assert job is not None
    assert (job["input"]["seed"], "num_images" in job["input"]) == (6, False)
    assert await source(worker, job, job["input"]["draft"]["sha256"]) == (200, latents(2))


async def test_what_cannot_be_finished_is_told_why_and_what_to_do(gateway: Gateway, worker: HandWorker) -> None:
    draft = await drafted(gateway, worker)
    assert (await finish(gateway, "nobody"))[0] == 404
    whole = await gateway.submit()
    job = await worker.take()
    assert job is not None
    await worker.finish(job)
    waiting = await gateway.submit(**ASKED, stop_after=1)
    cancelled = await gateway.submit(**ASKED, stop_after=1)
    await gateway.post(f"{DEV}/cancel/{cancelled}")
    for job_id, said in (
        (whole, "is no draft: only what was sent with stop_after"),
        (waiting, "is IN_QUEUE: wait until"),
        (cancelled, "is CANCELLED: there is no draft"),
    ):
        code, body = await finish(gateway, job_id)
        assert (code, said in body["error"]) == (409, True), body
    echo = (await gateway.post(f"{ECHO}/run", {"input": {"stop_after": 3}})).json()["id"]
    code, body = await finish(gateway, echo, endpoint=ECHO)
    assert (code, "makes no drafts" in body["error"]) == (409, True)
    assert (await finish(gateway, draft, []))[0] == 400
    assert (await finish(gateway, draft, {"webhook": "ftp://x"}))[0] == 400
    assert (await gateway.client.post(f"{DEV}/finish/{draft}")).status_code == 200
    strange = await gateway.post(f"{DEV}/finish/{draft}", {"pikture": 1})
    assert "pikture" in strange.headers["X-Warning"]


async def test_workers_of_another_kind_are_none_to_finish_it(gateway: Gateway, worker: HandWorker) -> None:
    draft = await drafted(gateway, worker)
    # One that has not said what it is may be of this kind.
    assert (await finish(gateway, draft))[0] == 200
    for kind, expected in (("ffffffff (device cuda)", 409), (f"ffffffff (device cuda); {KIND}", 200), (KIND, 200)):
        query = {"claim": "1", "fingerprint": kind}
        await gateway.client.get(f"{DEV}/job-take/{worker.id}", params=query, headers=worker.headers)
        code, body = await finish(gateway, draft)
        assert (code, "no worker of the kind that drew" in str(body)) == (expected, expected == 409)


async def test_a_draft_lives_as_long_as_its_picture(gateway: Gateway, worker: HandWorker, tmp_path: Path) -> None:
    reply = await gateway.post(f"{DEV}/run", {"input": ASKED})
    assert reply.status_code == 200
    job = await worker.take()
    assert job is not None
    await worker.finish(job)
    draft = await drafted(gateway, worker)
    assert {path.suffix for path in (tmp_path / "images").iterdir()} == {".png", ".latents"}
    names = [path.name for path in (tmp_path / "images").iterdir() if path.suffix == ".latents"]
    for method in ("GET", "HEAD"):
        assert (await gateway.client.request(method, f"/images/{names[0]}")).status_code == 404
    gateway.clock.advance(days=6)
    assert (await status(gateway, job["id"], DEV)).get("status") is None
    assert (await finish(gateway, draft))[0] == 200
    gateway.clock.advance(days=2)
    await gateway.janitor.sweep()
    assert list((tmp_path / "images").iterdir()) == []
    assert (await finish(gateway, draft))[0] == 404


async def test_a_draft_whose_picture_is_gone_is_told_as_such(gateway: Gateway, worker: HandWorker) -> None:
    draft = await drafted(gateway, worker)
    url = (await status(gateway, draft, DEV))["output"]["image_url"]
    await gateway.services.images.delete(url.rpartition("/")[2])
    code, body = await finish(gateway, draft)
    assert (code, "again without stop_after" in body["error"]) == (409, True)


async def test_a_repeated_finish_is_the_same_job_and_another_one_a_conflict(
    gateway: Gateway, worker: HandWorker
) -> None:
    drafts = [await drafted(gateway, worker) for _ in range(2)]
    headers = {"Idempotency-Key": "once"}
    asked = (drafts[0], drafts[0], drafts[1])
    replies = [await gateway.post(f"{DEV}/finish/{draft}", {}, headers=headers) for draft in asked]
    assert [reply.status_code for reply in replies] == [200, 200, 409]
    assert replies[0].json()["id"] == replies[1].json()["id"]


@pytest.mark.parametrize(
    "files",
    [
        [PNG_BYTES],
        [PNG_BYTES, latents(), latents()],
        [PNG_BYTES, b"something else"],
        [PNG_BYTES, (2**40).to_bytes(8, "little") + b"{}"],
        [PNG_BYTES, write_header({})[:-1]],
    ],
)
async def test_a_worker_that_hands_in_a_draft_without_latents_fails_the_job(
    gateway: Gateway, worker: HandWorker, tmp_path: Path, files: list[bytes]
) -> None:
    job_id = await gateway.submit(**ASKED, stop_after=3)
    job = await worker.take()
    assert job is not None
    reply = await worker.deliver(job, b"".join(files), sizes=",".join(str(len(data)) for data in files))
    assert reply.status_code == 400
    assert (await status(gateway, job_id, DEV))["status"] == "FAILED"
    assert not (tmp_path / "images").exists() or list((tmp_path / "images").iterdir()) == []


async def test_a_worker_of_somebody_elses_keeps_nothing_and_cannot_say_so(gateway: Gateway) -> None:
    third_party, link = ThirdPartyWorker(gateway, endpoint=DEV), "https://x.example/1.png"
    ends = []
    for more in ({}, {"kept_latents": [{"key": "x", "sha256": "y", "fingerprint": ""}]}):
        job_id = await gateway.submit(**ASKED, stop_after=3)
        await third_party.take()
        await third_party.done(job_id, {"output": {"image_url": link} | more})
        ends.append((await status(gateway, job_id, DEV))["status"])
        assert (await finish(gateway, job_id))[0] == 409
    assert ends == ["COMPLETED", "FAILED"]


async def test_a_draft_for_a_bucket_or_without_an_end_is_refused(gateway: Gateway) -> None:
    refused = await gateway.post(f"{DEV}/run", {"input": ASKED | {"stop_after": 3}, "s3Config": BUCKET})
    assert (refused.status_code, "stop_after must be 0 with an s3Config" in refused.text) == (400, True)
    for steps in (10, 49):
        refused = await gateway.post(f"{DEV}/run", {"input": ASKED | {"stop_after": steps}})
        assert (refused.status_code, "stop_after must be below the 10 steps" in refused.text) == (400, True)
    assert (await gateway.post(f"{DEV}/run", {"input": ASKED | {"stop_after": 0}})).status_code == 200
    estimate = await gateway.post(f"{DEV}/estimate", {"input": ASKED | {"stop_after": 5}})
    assert estimate.json()["cost"] == 0.01048576


async def test_inputs_of_other_endpoints_mean_what_they_like(gateway: Gateway) -> None:
    worker = HandWorker(gateway.client, endpoint=ECHO)
    for fields in ({"stop_after": "noon", "num_images": "many"}, {"stop_after": 3, "num_images": 2}):
        job_id = await submit(gateway, input=fields)
        job = await worker.take()
        assert job is not None
        assert (await worker.deliver(job)).status_code == 200
        assert (await status(gateway, job_id))["status"] == "COMPLETED"
        gateway.clock.advance(days=1)
        assert (await status(gateway, job_id)).get("status") is None


async def test_prompts_of_any_length_have_their_draft(gateway: Gateway, worker: HandWorker) -> None:
    # In JSON each is twelve bytes, and together they are more than the gateway takes apart for each job.
    draft = await drafted(gateway, worker, prompt="\N{WATER WAVE}" * 10_000, negative_prompt="\N{WATER WAVE}" * 10_000)
    assert (await finish(gateway, draft))[0] == 200
    gateway.clock.advance(days=6)
    assert (await finish(gateway, draft))[0] == 200
    job = await worker.take()
    assert job is not None
    assert await source(worker, job, job["input"]["draft"]["sha256"]) == (200, latents())
