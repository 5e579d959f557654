"""Jobs for an endpoint that no worker serves are told so."""

import pytest

from flux_endpoint.api.dialects.runpod import answers
from tests.api.conftest import ECHO, Gateway, ThirdPartyWorker

pytestmark = pytest.mark.anyio

NOTICE = "no worker serves this endpoint"


async def notices(gateway: Gateway, job_id: str) -> set[str | None]:
    """What each operation says."""
    seen = {
        (await gateway.get(f"{ECHO}/{path}")).json().get("notice")
        for path in (f"status/{job_id}", f"status-sync/{job_id}?wait=1000")
    }
    seen.add((await gateway.post(f"{ECHO}/estimate", {"input": {}})).json().get("notice"))
    # What /events sends first.
    async for view in gateway.services.job_views.follow(await gateway.stores.jobs.get("echo", job_id)):
        assert view is not None
        seen.add(answers.job_body(None, view.job, "http://x", view.queue_position, view.notice).get("notice"))
        break
    return seen


async def test_a_job_that_waits_for_nobody_is_told_so_until_somebody_starts(gateway: Gateway) -> None:
    job_id = (await gateway.post(f"{ECHO}/run", {"input": {}})).json()["id"]
    assert await notices(gateway, job_id) == {NOTICE}
    # One that starts will serve it; the model of a worker may take minutes to load.
    await gateway.services.workforce.own.expect("local-1", ["echo"])
    gateway.clock.advance(s=1)
    assert await notices(gateway, job_id) == {None}
    # Gone again, for good.
    await gateway.services.workforce.own.lost("local-1")
    gateway.clock.advance(s=1)
    assert await notices(gateway, job_id) == {NOTICE}


async def test_a_job_that_runs_or_is_over_has_no_notice(gateway: Gateway, third_party: ThirdPartyWorker) -> None:
    job_id = (await gateway.post(f"{ECHO}/run", {"input": {}})).json()["id"]
    job = await third_party.take()
    gateway.clock.advance(s=400)
    assert "notice" not in (await gateway.get(f"{ECHO}/status/{job_id}")).json()
    await third_party.done(job["id"], {"output": 1})
    assert "notice" not in (await gateway.get(f"{ECHO}/status/{job_id}")).json()
