"""Jobs and batches belong to the key that made them: every operation, asked by everybody."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from flux_endpoint.api.admission import KeyHolders
from flux_endpoint.api.app import ROUTES
from flux_endpoint.core.account import KeyLimits
from tests.api.conftest import DEV, Gateway, HandWorker

pytestmark = pytest.mark.anyio

DEV_ID = DEV.removeprefix("/v2/")
GUEST = KeyLimits(endpoint_ids=frozenset({DEV_ID}))
BODY = {"input": {"prompt": "a lake"}}
# Who may do what to a job or batch of the guest `maker`. Everybody else is told that there is none.
LOOKERS = {"owner", "maker", "overseer"}
ACTORS = {"owner", "maker"}
READERS = {"overseer", "visitor"}

# Every operation that names a job or a batch, and a body it takes.
OF_A_JOB: dict[tuple[str, str], tuple[set[str], Any]] = {
    ("GET", "status/{job_id}"): (LOOKERS, None),
    ("POST", "status/{job_id}"): (LOOKERS, None),
    ("GET", "status-sync/{job_id}"): (LOOKERS, None),
    ("POST", "status-sync/{job_id}"): (LOOKERS, None),
    ("GET", "stream/{job_id}"): (LOOKERS, None),
    ("POST", "stream/{job_id}"): (LOOKERS, None),
    ("GET", "events/{job_id}"): (LOOKERS, None),
    ("POST", "cancel/{job_id}"): (ACTORS, None),
    ("POST", "retry/{job_id}"): (ACTORS, None),
    ("GET", "batch/{batch_id}"): (LOOKERS, None),
    ("PUT", "batch/{batch_id}"): (ACTORS, {"name": "autumn"}),
    ("POST", "batch/{batch_id}/requests"): (ACTORS, {"requests": [BODY]}),
    ("GET", "batch/{batch_id}/requests"): (LOOKERS, None),
    ("DELETE", "batch/{batch_id}/requests/{request_id}"): (ACTORS, None),
    ("POST", "batch/{batch_id}/finalize"): (ACTORS, None),
    ("POST", "batch/{batch_id}/cancel"): (ACTORS, None),
}


@dataclass
class People:
    """Keys of every kind.

    Attributes:
        headers: by the name of the key.
        ids: of the keys.
    """

    headers: dict[str, dict[str, str]]
    ids: dict[str, str]


@pytest.fixture
async def people(gateway: Gateway) -> People:
    kinds = {
        "owner": KeyLimits(),
        "maker": GUEST,
        "stranger": GUEST,
        "overseer": KeyLimits(is_read_only=True),
        "visitor": KeyLimits(is_read_only=True, endpoint_ids=GUEST.endpoint_ids),
    }
    people = People({}, {})
    for name, limits in kinds.items():
        key, secret = await gateway.services.accounts.create(name, limits=limits)
        people.headers[name] = {"Authorization": f"Bearer {secret}"}
        people.ids[name] = key.id
    return people


async def make(gateway: Gateway, headers: Mapping[str, str], path: str = "run", body: Any = BODY) -> str:
    reply = await gateway.post(f"{DEV}/{path}", body, headers=headers)
    assert reply.status_code == 200, reply.text
    return reply.json()["id"]


async def fail(worker: HandWorker) -> None:
    job = await worker.take()
    assert job is not None
    assert (await worker.done(job, {"error": "no"})).status_code == 200


def test_every_operation_that_names_a_job_or_a_batch_is_walked_here() -> None:
    routes = {
        (method, route.path.partition("}/")[2])
        for route in ROUTES
        if isinstance(route.access, KeyHolders)
        for method in route.methods.split()
    }
    of_a_job = {place for place in routes if "{job_id}" in place[1] or "{batch_id}" in place[1]}
    assert of_a_job == OF_A_JOB.keys() | {("POST", "finish/{job_id}")}


@pytest.mark.parametrize(("method", "path"), OF_A_JOB)
async def test_a_job_of_another_key_is_not_there(
    gateway: Gateway, people: People, worker: HandWorker, method: str, path: str
) -> None:
    allowed, body = OF_A_JOB[method, path]
    for name, headers in people.headers.items():
        made = {"job_id": "", "batch_id": "", "request_id": "none"}
        if "{batch_id}" in path:
            made["batch_id"] = await make(gateway, people.headers["maker"], "batch", [BODY])
            listed = await gateway.get(f"{DEV}/batch/{made['batch_id']}/requests", headers=people.headers["maker"])
            made["request_id"] = listed.json()["requests"][0]["id"]
        else:
            made["job_id"] = await make(gateway, people.headers["maker"])
            if not path.startswith("cancel"):
                await fail(worker)
        before = await told(gateway, people, made)
        reply = await gateway.client.request(method, f"{DEV}/{path.format(**made)}", json=body, headers=headers)
        if name in allowed:
            assert reply.status_code == 200, (name, reply.text)
            assert (await told(gateway, people, made) == before) == (allowed == LOOKERS)
        elif name in READERS and allowed == ACTORS:
            assert reply.status_code == 403, (name, reply.text)
        else:
            # To the letter what is said about one that never was.
            none = {key: "x" * len(value) for key, value in made.items()}
            missing = await gateway.client.request(method, f"{DEV}/{path.format(**none)}", json=body, headers=headers)
            assert (reply.status_code, missing.status_code) == (404, 404), (name, reply.text)
            assert hide(reply.text, made) == hide(missing.text, none)
            assert await told(gateway, people, made) == before
        await gateway.post(f"{DEV}/purge-queue", headers=people.headers["owner"])
        gateway.clock.advance(s=10)
        if made["batch_id"]:
            await gateway.post(f"{DEV}/batch/{made['batch_id']}/cancel", headers=people.headers["owner"])


async def test_a_draft_of_another_key_is_not_there(gateway: Gateway, people: People, worker: HandWorker) -> None:
    made = {"job_id": await make(gateway, people.headers["maker"])}
    await fail(worker)
    for name, headers in people.headers.items():
        reply = await gateway.post(f"{DEV}/finish/{made['job_id']}", {}, headers=headers)
        if name in ACTORS:
            # It is seen, and is no draft.
            assert reply.status_code == 409, (name, reply.text)
        elif name in READERS:
            assert reply.status_code == 403, (name, reply.text)
        else:
            none = {"job_id": "x" * len(made["job_id"])}
            missing = await gateway.post(f"{DEV}/finish/{none['job_id']}", {}, headers=headers)
            assert (reply.status_code, missing.status_code) == (404, 404), (name, reply.text)
            assert hide(reply.text, made) == hide(missing.text, none)


def hide(text: str, ids: Mapping[str, str]) -> str:
    for value in filter(None, ids.values()):
        text = text.replace(value, "ID")
    return text


async def told(gateway: Gateway, people: People, made: Mapping[str, str]) -> Any:
    """All that the maker can read of it."""
    job, batch = made["job_id"], made["batch_id"]
    paths = [f"status/{job}"] if job else [f"batch/{batch}", f"batch/{batch}/requests"]
    return [(await gateway.get(f"{DEV}/{path}", headers=people.headers["maker"])).json() for path in paths]


async def test_lists_and_counts_are_of_the_jobs_that_a_key_sees(
    gateway: Gateway, people: People, worker: HandWorker
) -> None:
    made = {name: await make(gateway, people.headers[name]) for name in ("owner", "maker", "stranger")}
    batches = {name: await make(gateway, people.headers[name], "batch", [BODY]) for name in ("owner", "maker")}
    everything = set(made.values())
    seen = {
        "owner": (everything, set(batches.values())),
        "overseer": (everything, set(batches.values())),
        "maker": ({made["maker"]}, {batches["maker"]}),
        "stranger": ({made["stranger"]}, set()),
        "visitor": (set(), set()),
    }
    for name, (jobs, drafts) in seen.items():
        headers = people.headers[name]

        async def get(path: str, headers: Mapping[str, str] = headers) -> Any:
            reply = await gateway.get(path, headers=headers)
            assert reply.status_code == 200, reply.text
            return reply.json()

        for query in ("", "?status=IN_QUEUE", "?status=IN_QUEUE,FAILED"):
            assert {job["id"] for job in (await get(f"{DEV}/requests{query}"))["requests"]} == jobs, (name, query)
        page = await get(f"{DEV}/batch")
        assert ({batch["id"] for batch in page["batches"]}, page["total"]) == (drafts, len(drafts))
        assert (await get(f"{DEV}/health"))["jobs"]["inQueue"] == len(jobs)
        usage = await get(f"/v2/usage?endpoint={DEV_ID}")
        assert {job["id"] for job in usage["jobs"]} == jobs
        assert usage["queue"]["inQueue"] == len(jobs)
    # The first is the owner's.
    job = await worker.take()
    assert job is not None
    await worker.finish(job)
    for name, completed in {"owner": 1, "overseer": 1, "maker": 0, "stranger": 0, "visitor": 0}.items():
        headers = people.headers[name]
        assert (await gateway.get(f"{DEV}/health", headers=headers)).json()["jobs"]["completed"] == completed, name
        usage = (await gateway.get(f"/v2/usage?endpoint={DEV_ID}", headers=headers)).json()
        assert (usage["requests"]["completed"], "executionTime" in usage) == (completed, bool(completed)), name
        bill = (await gateway.get("/v2/billing/endpoints?lastN=1", headers=headers)).json()
        assert bill["metadata"]["recordCount"] == completed, name


async def test_a_guest_empties_its_own_queue_only(gateway: Gateway, people: People) -> None:
    made = {name: [await make(gateway, people.headers[name]) for _ in range(2)] for name in ("maker", "stranger")}
    reply = await gateway.post(f"{DEV}/purge-queue", headers=people.headers["maker"])
    assert reply.json()["removed"] == 2
    for name, state in (("maker", "CANCELLED"), ("stranger", "IN_QUEUE")):
        for job_id in made[name]:
            assert (await gateway.get(f"{DEV}/status/{job_id}")).json()["status"] == state
    assert (await gateway.post(f"{DEV}/purge-queue", headers=people.headers["owner"])).json()["removed"] == 2


async def test_only_the_maker_shortens_the_life_of_its_job(gateway: Gateway, people: People) -> None:
    job_id = await make(gateway, people.headers["maker"])
    codes = {
        name: (await gateway.get(f"{DEV}/status/{job_id}?ttl=60000", headers=headers)).status_code
        for name, headers in people.headers.items()
    }
    assert codes == {"owner": 200, "maker": 200, "stranger": 404, "overseer": 403, "visitor": 403}


async def test_a_batch_is_paid_by_its_maker_whoever_finalizes_it(gateway: Gateway, people: People) -> None:
    batch_id = await make(gateway, people.headers["maker"], "batch", [BODY])
    reply = await gateway.post(f"{DEV}/batch/{batch_id}/finalize", headers=people.headers["owner"])
    assert reply.status_code == 200, reply.text
    listed = await gateway.get(f"{DEV}/batch/{batch_id}/requests", headers=people.headers["maker"])
    (line,) = listed.json()["requests"]
    job = await gateway.stores.jobs.get(DEV_ID, line["id"])
    assert job.key_id == people.ids["maker"]
    assert (await gateway.get(f"{DEV}/status/{job.id}", headers=people.headers["maker"])).status_code == 200


async def test_the_active_batches_of_one_key_leave_room_for_another(gateway: Gateway, people: People) -> None:
    for _ in range(10):
        await make(gateway, people.headers["stranger"], "batch", [])
    reply = await gateway.post(f"{DEV}/batch", [], headers=people.headers["stranger"])
    assert reply.status_code == 409
    assert "the API key has 10 active batches" in reply.json()["error"]
    await make(gateway, people.headers["maker"], "batch", [])


async def test_events_of_a_job_carry_nothing_to_a_stranger(gateway: Gateway, people: People) -> None:
    job_id = await make(gateway, people.headers["maker"])
    reply = await gateway.get(f"{DEV}/events/{job_id}", headers=people.headers["stranger"])
    assert (reply.status_code, json.loads(reply.text)) == (
        404,
        {"error": f"There is no job {job_id} on the endpoint {DEV_ID}"},
    )


async def test_a_refused_request_has_a_record_and_is_no_failed_job(gateway: Gateway, worker: HandWorker) -> None:
    for _ in range(3):
        refused = await gateway.post(f"{DEV}/run", {"input": {}})
        assert refused.status_code == 400
    await gateway.submit()
    await fail(worker)
    assert (await gateway.get(f"{DEV}/status/{refused.json()['id']}")).json()["status"] == "FAILED"
    assert (await gateway.get(f"{DEV}/health")).json()["jobs"]["failed"] == 1
    assert (await gateway.get("/v2/usage")).json()["requests"]["failed"] == 1
    # Erased, they still are not.
    gateway.clock.advance(days=1)
    await gateway.janitor.sweep()
    assert (await gateway.get(f"{DEV}/health")).json()["jobs"]["failed"] == 1
