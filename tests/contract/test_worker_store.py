"""The contract of `WorkerStore`, and of the verbs of `JobStore` that third-party workers need, on every database."""

import asyncio

import pytest

from flux_endpoint.core.errors import LeaseLost, UnknownJob
from flux_endpoint.core.job import Completed, Failed, JobStatus, Returned
from flux_endpoint.core.worker import WorkerRecord, WorkerState, WorkerToken
from tests.contract.samples import DEV, LEASE_S, SCHNELL, sample_job

pytestmark = pytest.mark.anyio

READY, UNHEALTHY = WorkerState.READY, WorkerState.UNHEALTHY


def record(worker_id="w", state=READY, seen_ms=10, **changes):
    fields = {"endpoint_ids": frozenset({DEV}), "reason": "", "since_ms": seen_ms}
    return WorkerRecord(id=worker_id, state=state, seen_ms=seen_ms, **(fields | changes))


async def claimed(stores, clock, worker_id="worker-a", **changes):
    job = sample_job(clock, **changes)
    await stores.jobs.enqueue(job)
    (claim,) = await stores.claims.claim(worker_id, [job.endpoint_id], 1, LEASE_S)
    return claim


async def test_a_token_is_found_by_the_hash_of_its_secret_only(stores):
    everywhere = WorkerToken(id="t-1", name="Łódź", endpoint_ids=None, created_ms=5)
    one = WorkerToken(id="t-2", name="one", endpoint_ids=frozenset({DEV, SCHNELL}), created_ms=6)
    await stores.workers.add_worker_token(everywhere, "hash-1")
    await stores.workers.add_worker_token(one, "hash-2")
    assert await stores.workers.find_worker_token("hash-1") == everywhere
    assert await stores.workers.find_worker_token("hash-2") == one
    for other in ("hash-3", "HASH-1", "t-1", "", "hash-1\x00"):
        assert await stores.workers.find_worker_token(other) is None
    assert list(await stores.workers.list_worker_tokens()) == [everywhere, one]
    for taken in (("t-1", "hash-9"), ("t-9", "hash-1")):
        with pytest.raises(ValueError, match="refuses"):
            await stores.workers.add_worker_token(WorkerToken(taken[0], "x", None, 7), taken[1])


async def test_a_revoked_token_is_found_as_revoked(stores):
    await stores.workers.add_worker_token(WorkerToken("t-1", "one", None, created_ms=5), "hash-1")
    assert await stores.workers.revoke_worker_token("t-1", now_ms=9) is True
    assert await stores.workers.revoke_worker_token("t-1", now_ms=12) is True
    assert (await stores.workers.find_worker_token("hash-1")).revoked_ms == 9
    assert await stores.workers.revoke_worker_token("t-2", now_ms=9) is False


async def test_worker_tokens_and_api_keys_are_strangers(stores):
    await stores.workers.add_worker_token(WorkerToken("t-1", "one", None, created_ms=5), "hash-1")
    assert await stores.accounts.find_key("hash-1") is None


async def test_what_one_gateway_notes_another_reads(stores, open_another):
    other = await open_another()
    assert await other.workers.get_worker("w") is None
    first = record(reason="\x00 no GPU", endpoint_ids=frozenset({SCHNELL, DEV}))
    noted = await stores.workers.note_worker(first, with_state=False)
    assert noted == await other.workers.get_worker("w")
    seen = await other.workers.get_worker("w")
    assert (seen.id, seen.endpoint_ids, seen.state, seen.seen_ms) == ("w", first.endpoint_ids, READY, 10)
    assert "no GPU" in seen.reason


async def test_a_sighting_leaves_the_state_to_who_set_it(stores):
    await stores.workers.note_worker(record(state=UNHEALTHY, reason="hot", seen_ms=10), with_state=True)
    stale = record(state=READY, seen_ms=20, endpoint_ids=frozenset({SCHNELL}))
    now = await stores.workers.note_worker(stale, with_state=False)
    assert (now.state, now.reason, now.since_ms) == (UNHEALTHY, "hot", 10)
    assert (now.seen_ms, now.endpoint_ids) == (20, frozenset({SCHNELL}))
    assert (await stores.workers.note_worker(record(seen_ms=15), with_state=True)).seen_ms == 20
    assert (await stores.workers.get_worker("w")).state is READY


async def test_a_step_stays_with_whoever_was_not_told(stores):
    await stores.workers.note_worker(record(seen_ms=10), with_state=True)
    assert (await stores.workers.get_worker("w")).step_us is None
    await stores.workers.note_worker(record(seen_ms=11, step_us=2**40), with_state=False)
    await stores.workers.note_worker(record(seen_ms=12), with_state=True)
    assert (await stores.workers.get_worker("w")).step_us == 2**40
    await stores.workers.note_worker(record(seen_ms=13, step_us=5), with_state=False)
    assert [worker.step_us for worker in await stores.workers.list_workers(0)] == [5]


async def test_a_fingerprint_stays_with_whoever_was_not_told(stores):
    await stores.workers.note_worker(record(seen_ms=10), with_state=False)
    assert (await stores.workers.get_worker("w")).fingerprint == ""
    told = record(seen_ms=11, fingerprint="1f2e (device cpu)")
    for later in (told, record(seen_ms=12, state=UNHEALTHY), record(seen_ms=13)):
        await stores.workers.note_worker(later, with_state=True)
    await stores.workers.note_worker(record(seen_ms=14), with_state=False)
    assert (await stores.workers.get_worker("w")).fingerprint == "1f2e (device cpu)"
    await stores.workers.note_worker(record(seen_ms=15, fingerprint="another"), with_state=False)
    assert [worker.fingerprint for worker in await stores.workers.list_workers(0)] == ["another"]


@pytest.fixture
def refusals(request, database_url):
    """What the database's own log says of refused statements since the start of the test; SQLite keeps none."""
    if database_url.startswith("sqlite"):
        return lambda: []
    log = request.getfixturevalue("postgres_server").log
    before = log.stat().st_size
    return lambda: [line for line in log.read_bytes()[before:].decode().splitlines() if "ERROR:" in line]


async def test_two_gateways_may_meet_a_worker_at_once(stores, open_another, refusals):
    gateways = [stores, *[await open_another() for _ in range(3)]]
    for name in map(str, range(20)):
        await asyncio.gather(
            *(
                one.workers.note_worker(record(name, seen_ms=number), with_state=False)
                for number, one in enumerate(gateways)
            )
        )
        assert (await stores.workers.get_worker(name)).seen_ms == 3
    assert len(await stores.workers.list_workers(0)) == 20
    assert refusals() == []


async def test_two_gateways_may_be_told_of_a_start_at_once(stores, open_another, refusals):
    gateways = [stores, *[await open_another() for _ in range(3)]]
    for name in map(str, range(20)):
        await asyncio.gather(*(one.activity.note_cold_start(name, [DEV, SCHNELL], 700, 5) for one in gateways))
    assert (await stores.activity.activity([DEV, SCHNELL], 0, 10, 10)).cold_starts == 20
    assert refusals() == []


async def test_when_a_worker_asked_never_goes_back(stores):
    await stores.workers.note_worker(record(seen_ms=20, asked_ms=15), with_state=True)
    await stores.workers.note_worker(record(seen_ms=30), with_state=True)
    worker = await stores.workers.get_worker("w")
    assert (worker.seen_ms, worker.asked_ms) == (30, 15)


async def test_workers_are_listed_and_forgotten_by_time_and_name(stores):
    for worker_id, seen_ms in (("n1-a", 10), ("n1-b", 20), ("n10-a", 30), ("N1-a", 40)):
        await stores.workers.note_worker(record(worker_id, seen_ms=seen_ms), with_state=True)
    assert {worker.id for worker in await stores.workers.list_workers(20)} == {"n1-b", "n10-a", "N1-a"}
    await stores.workers.forget_workers("n1-", 20)
    assert {worker.id for worker in await stores.workers.list_workers(0)} == {"n1-b", "n10-a", "N1-a"}
    await stores.workers.forget_workers("", 31)
    assert {worker.id for worker in await stores.workers.list_workers(0)} == {"N1-a"}
    for worker_id in ("N1-", "N1-a", "unknown"):
        await stores.workers.forget_worker(worker_id)
        assert bool(await stores.workers.list_workers(0)) == (worker_id == "N1-")


async def test_running_jobs_are_counted_by_worker(stores, clock):
    assert await stores.workers.count_running_jobs() == {}
    await claimed(stores, clock, "a")
    ended = await claimed(stores, clock, "a")
    await claimed(stores, clock, "b", endpoint_id=SCHNELL)
    cancelled = await claimed(stores, clock, "c")
    await stores.claims.finish(ended.job.id, "a", ended.token, Failed("bad"))
    await stores.jobs.cancel(DEV, cancelled.job.id)
    assert await stores.workers.count_running_jobs() == {"a": 1, "b": 1}


async def test_progress_is_the_latest_and_ends_with_the_attempt(stores, clock):
    claim = await claimed(stores, clock)
    job_id = claim.job.id
    for number in (1, 2):
        await stores.claims.set_progress(job_id, "worker-a", None, {"output": number})
    assert (await stores.jobs.get(DEV, job_id)).progress == {"output": 2}
    await stores.claims.finish(job_id, "worker-a", claim.token, Returned())
    assert (await stores.jobs.get(DEV, job_id)).progress is None
    (again,) = await stores.claims.claim("worker-a", [DEV], 1, LEASE_S)
    with pytest.raises(LeaseLost):
        await stores.claims.set_progress(job_id, "worker-a", claim.token, {"output": "late"})
    with pytest.raises(LeaseLost):
        await stores.claims.set_progress(job_id, "worker-b", None, {"output": "not its own"})
    with pytest.raises(UnknownJob):
        await stores.claims.set_progress("no-such-job", "worker-a", None, {})
    await stores.claims.finish(job_id, "worker-a", again.token, Completed("done"))
    with pytest.raises(LeaseLost):
        await stores.claims.set_progress(job_id, "worker-a", None, {"output": "late"})
    assert (await stores.jobs.get(DEV, job_id)).progress is None


@pytest.mark.parametrize("output", [None, 0, False, "", "text", [], [None, {}], {"a": {"b": None}}, 1.5])
async def test_an_output_is_any_json_value(stores, clock, output):
    for outcome in (Completed(output), Failed("bad", output=output)):
        claim = await claimed(stores, clock)
        job = await stores.claims.finish(claim.job.id, "worker-a", claim.token, outcome)
        assert job.output == output
        assert type((await stores.jobs.get(DEV, claim.job.id)).output) is type(output)


async def test_a_worker_that_cannot_work_gives_back_its_own_jobs_only(stores, clock):
    mine, other = await claimed(stores, clock, "w1"), await claimed(stores, clock, "w10")
    assert (await stores.claims.release_worker("w1", counts_as_retry=True, max_retries=1)).requeued == (mine.job.id,)
    job = await stores.jobs.get(DEV, mine.job.id)
    assert (job.status, job.retries) == (JobStatus.IN_QUEUE, 1)
    assert (await stores.jobs.get(DEV, other.job.id)).status is JobStatus.IN_PROGRESS
    await stores.claims.claim("w1", [DEV], 1, LEASE_S)
    assert (await stores.claims.release_worker("w1", counts_as_retry=True, max_retries=1)).failed == (mine.job.id,)
    assert (await stores.jobs.get(DEV, mine.job.id)).error == "job timed out after 1 retries"
    # One that leaves is not blamed, however often.
    for _ in range(3):
        assert (await stores.claims.release_worker("w10", counts_as_retry=False, max_retries=1)).failed == ()
        await stores.claims.claim("w10", [DEV], 1, LEASE_S)
