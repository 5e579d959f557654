"""The contract of `ClaimStore.claim` with an affinity to LoRAs, on every database."""

import asyncio

import pytest

from flux_endpoint.core.affinity import LEFT_MS, PASSED_OVER_MS, Affinity
from flux_endpoint.core.job import JobStatus, Policy
from flux_endpoint.core.picture_work import picture_work
from tests.contract.samples import DEV, LEASE_S, SCHNELL, enqueue_some, sized

pytestmark = pytest.mark.anyio


def drawn_with(*names):
    return {"loras": [{"path": name, "scale": 1.0, "sha256": name} for name in names]}


async def test_a_worker_gets_the_oldest_job_whose_loras_it_has_and_then_the_oldest(stores, clock):
    plain, other, one, two = [
        (await enqueue_some(stores, clock, 1, input=fields, policy=Policy(low_priority=is_low)))[0]
        for fields, is_low in (
            ({}, False),
            (drawn_with("x"), False),
            (drawn_with("a"), True),
            (drawn_with("b", "a"), False),
        )
    ]
    affinity = Affinity(((DEV, "a", "b"), (DEV, "a"), (SCHNELL, "x")))
    claimed = [await stores.claims.claim("w", [DEV], 1, LEASE_S, affinity=affinity) for _ in range(5)]
    assert [[claim.job.id for claim in claims] for claims in claimed] == [
        [two.id],
        [one.id],
        [plain.id],
        [other.id],
        [],
    ]
    assert claimed[0][0].job == await stores.jobs.get(DEV, two.id)


async def test_what_is_left_to_an_idle_worker_is_handed_out_a_moment_later(stores, clock):
    affinity = Affinity(left=frozenset({(DEV, "a")}))
    first, second = await enqueue_some(stores, clock, 2, input=drawn_with("a"))
    (plain,) = await enqueue_some(stores, clock, 1)
    assert [claim.job.id for claim in await stores.claims.claim("w", [DEV], 9, LEASE_S, affinity=affinity)] == [
        plain.id
    ]
    assert await stores.claims.claim("w", [DEV], 1, LEASE_S, affinity=affinity) == []
    clock.advance(ms=LEFT_MS)
    assert [claim.job.id for claim in await stores.claims.claim("w", [DEV], 1, LEASE_S, affinity=affinity)] == [
        first.id
    ]
    assert [claim.job.id for claim in await stores.claims.claim("w", [DEV], 1, LEASE_S)] == [second.id]


async def test_a_job_that_has_waited_for_long_is_passed_over_by_none(stores, clock):
    affinity = Affinity(((DEV, "a"),))
    (old,) = await enqueue_some(stores, clock, 1)
    clock.advance(ms=PASSED_OVER_MS)
    (held,) = await enqueue_some(stores, clock, 1, input=drawn_with("a"))
    (young,) = await enqueue_some(stores, clock, 1, input=drawn_with("a"))
    claims = await stores.claims.claim("w", [DEV], 2, LEASE_S, affinity=affinity)
    assert [claim.job.id for claim in claims] == [old.id, held.id]
    assert [claim.job.id for claim in await stores.claims.claim("w", [DEV], 2, LEASE_S, affinity=affinity)] == [
        young.id
    ]


async def test_a_busy_worker_gets_no_long_job_because_it_has_its_loras(stores, clock):
    affinity, at_most = Affinity(((DEV, "a"),)), round(picture_work(sized(512, 8)))
    long, short, held = [
        (await enqueue_some(stores, clock, 1, input=sized(512, steps) | fields))[0]
        for steps, fields in ((9, drawn_with("a")), (7, {}), (7, drawn_with("a")))
    ]
    claimed = [await stores.claims.claim("w", [DEV], 1, LEASE_S, at_most, affinity) for _ in range(3)]
    assert [[claim.job.id for claim in claims] for claims in claimed] == [[held.id], [short.id], []]
    assert (await stores.jobs.get(DEV, long.id)).status is JobStatus.IN_QUEUE


@pytest.mark.parametrize("number_of_gateways", [1, 2])
async def test_ten_workers_that_want_the_same_get_every_job_once(stores, open_another, clock, number_of_gateways):
    jobs = [(await enqueue_some(stores, clock, 1, input=drawn_with("ab"[i % 2])))[0] for i in range(40)]
    gateways = [stores, *[await open_another() for _ in range(number_of_gateways - 1)]]
    claimed = []

    async def work(number):
        gateway, affinity = gateways[number % number_of_gateways], Affinity(((DEV, "a"),))
        while claims := await gateway.claims.claim(f"worker-{number}", [DEV], 1, LEASE_S, affinity=affinity):
            claimed.extend(claim.job.id for claim in claims)

    await asyncio.gather(*(work(number) for number in range(10)))
    assert sorted(claimed) == sorted(job.id for job in jobs)
