"""Speed levels on the wire: asked for in the input, told in the output."""

import pytest

from tests.api.conftest import DEV, Gateway, HandWorker

pytestmark = pytest.mark.anyio


async def output_of(gateway: Gateway, worker: HandWorker, asked: dict[str, str], **said: str) -> dict[str, object]:
    reply = await gateway.post(f"{DEV}/run", {"input": {"prompt": "a lake"} | asked})
    job = await worker.take()
    assert job is not None
    assert job["input"]["acceleration"] == asked.get("acceleration", "none")
    assert (await worker.deliver(job, **said)).status_code == 200
    output: dict[str, object] = (await gateway.get(f"{DEV}/status/{reply.json()['id']}")).json()["output"]
    return output


async def test_the_output_says_which_level_ran(gateway: Gateway, worker: HandWorker) -> None:
    output = await output_of(gateway, worker, {"acceleration": "high"}, acceleration="regular")
    assert output["acceleration"] == "regular"
    assert str(output["image_url"]).endswith(".png")


async def test_an_output_of_a_job_that_asked_for_none_is_as_ever(gateway: Gateway, worker: HandWorker) -> None:
    assert set(await output_of(gateway, worker, {})) == {"image_url", "result", "cost", "seed"}


async def test_levels_are_offered_and_others_refused(gateway: Gateway, worker: HandWorker) -> None:
    for endpoint in (await gateway.get("/v2/endpoints")).json()[:2]:
        level = endpoint["input"]["properties"]["acceleration"]
        assert (level["enum"], level["default"]) == (["none", "regular", "high"], "none")
    refused = await gateway.post(f"{DEV}/run", {"input": {"prompt": "a", "acceleration": "fast"}})
    assert refused.json()["error"].endswith("acceleration must be 'none', 'regular' or 'high'")
    await gateway.post(f"{DEV}/run", {"input": {"prompt": "a lake"}})
    job = await worker.take()
    assert job is not None
    assert (await worker.deliver(job, acceleration="warp")).status_code == 400
