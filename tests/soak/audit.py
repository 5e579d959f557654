"""After the soak: is everything there, was it charged rightly, did nobody wait, did nothing grow?"""

import asyncio
import hashlib
import io
import json
import statistics
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any, Final

import asyncpg
import httpx
from PIL import Image

from flux_endpoint.core.endpoint import FLUX_ENDPOINTS
from flux_endpoint.core.pricing import usd_to_units
from tests.servers import DEV, SCHNELL
from tests.soak.clients import Scene
from tests.soak.house import KEY, House
from tests.soak.journal import TERMINAL, Journal

# Of one answer, beyond the work that was asked for.
MAX_WAIT_S: Final = 2.0
# Of what a process holds at the middle of the soak, over its second half.
MAX_GROWTH: Final = 0.05
# Shorter ones say nothing about memory: caches still fill.
MIN_MEMORY_S: Final = 600
# A worker that has just started is still growing.
LOADED_S: Final = 60
# From the end of a job until a good receiver is told.
MAX_HOOK_S: Final = 5.0
# What may be said of a job whose workers were stopped or killed under it.
LOSSES: Final = ("job timed out after",)


@dataclass
class Verdict:
    """What was looked at, and what was wrong."""

    faults: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)

    def require(self, is_right: bool, fault: str) -> None:
        """Note a fault unless it is right."""
        if not is_right:
            self.faults.append(fault)


async def audit(scene: Scene) -> Verdict:
    """Look at everything. The house still runs, and nobody else asks it for anything."""
    verdict, _ = await audit_jobs(scene.house, scene.journal)
    connection = await asyncpg.connect(scene.house.database_url)
    try:
        await _check_hooks(verdict, connection, scene)
    finally:
        await connection.close()
    _check_waits(verdict, scene.journal)
    _check_memory(verdict, scene.journal)
    verdict.faults += scene.journal.surprises
    return verdict


async def audit_jobs(house: House, journal: Journal) -> tuple[Verdict, dict[str, Any]]:
    """Nothing lost, nothing charged wrongly, every picture there; also all jobs of the database, by their ids."""
    verdict = Verdict()
    connection = await asyncpg.connect(house.database_url)
    try:
        jobs = {row["id"]: row for row in await connection.fetch("SELECT * FROM jobs")}
        _check_promises(verdict, journal, jobs)
        await _check_money(verdict, connection, jobs)
    finally:
        await connection.close()
    await _check_pictures(verdict, house, jobs)
    return verdict, jobs


def _check_promises(verdict: Verdict, journal: Journal, jobs: dict[str, Any]) -> None:
    """Nothing is lost: every accepted job has ended, as it should, or with a reason that fits what was done to it."""
    for promise in journal.promises.values():
        name = f"job {promise.job_id} of {promise.client}"
        job = jobs.get(promise.job_id)
        if job is None:
            verdict.faults.append(f"{name} is not in the database")
            continue
        status, error = job["status"], job["error"] or ""
        if status in promise.ends:
            is_right = status == "COMPLETED" or status == "CANCELLED" or error.startswith(promise.reason)
            verdict.require(is_right, f"{name} is {status}: {error!r}, and not {promise.reason!r}")
        else:
            is_loss = status in TERMINAL and error.startswith(LOSSES) and job["retries"] > 0
            verdict.require(is_loss, f"{name} is {status}: {error!r}")
    for job_id, job in jobs.items():
        verdict.require(job["status"] in TERMINAL, f"job {job_id} is still {job['status']}")
    verdict.figures["jobs"] = dict(Counter(job["status"] for job in jobs.values()))
    verdict.figures["promised"] = len(journal.promises)
    verdict.figures["retried"] = sum(job["retries"] > 0 for job in jobs.values())
    verdict.figures["reasons"] = dict(Counter(job["error"][:60] for job in jobs.values() if job["error"]))


async def _check_money(verdict: Verdict, connection: Any, jobs: dict[str, Any]) -> None:
    """Each completed job is charged once, at its price; nothing else is; and the sums are those of the entries."""
    entries = await connection.fetch("SELECT * FROM ledger")
    charged = Counter(entry["job_id"] for entry in entries)
    completed = {job_id for job_id, job in jobs.items() if job["status"] == "COMPLETED"}
    for job_id in completed - charged.keys():
        verdict.faults.append(f"job {job_id} is COMPLETED and not charged")
    for entry in entries:
        job = jobs.get(entry["job_id"])
        fits = job is not None and job["status"] == "COMPLETED" and charged[entry["job_id"]] == 1
        fits = fits and (entry["amount_units"], entry["key_id"]) == (job["cost_units"], job["key_id"])
        verdict.require(fits, f"the charge of job {entry['job_id']} fits no completed job")
    sums = await connection.fetch("SELECT key_id, sum(charges) n, sum(amount_units) u FROM charges_by_hour GROUP BY 1")
    counted: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for entry in entries:
        counted[entry["key_id"]][0] += 1
        counted[entry["key_id"]][1] += entry["amount_units"]
    told = {row["key_id"]: [int(row["n"]), int(row["u"])] for row in sums}
    verdict.require(told == dict(counted), f"the sums of charges are {told}, the entries make {dict(counted)}")
    verdict.figures["charges"] = len(entries)


async def _check_hooks(verdict: Verdict, connection: Any, scene: Scene) -> None:
    """Every end of a job whose receiver is good was told, signed, soon; however many others are slow."""
    rows = await connection.fetch("SELECT id, status, finished_ms, webhook FROM jobs WHERE webhook IS NOT NULL")
    good = [row for row in rows if f":{scene.hooks.port}/" in row["webhook"]]
    delays = []
    for row in good:
        told_ms = scene.hooks.told_ms.get(row["id"])
        if told_ms is None:
            verdict.faults.append(f"the webhook of job {row['id']} ({row['status']}) did not arrive")
            continue
        delays.append((told_ms - row["finished_ms"]) / 1_000)
        told = scene.hooks.told[row["id"]]
        verdict.require(told == row["status"], f"the webhook of job {row['id']} said {told}, it is {row['status']}")
    verdict.faults += [f"webhook: {wrong}" for wrong in scene.hooks.wrong]
    late_s = max(delays, default=0.0)
    verdict.require(late_s <= MAX_HOOK_S, f"a webhook came {late_s:.1f} s after the end of its job")
    verdict.figures["webhooks"] = {
        "arrived": len(delays),
        "median_s": round(statistics.median(delays), 3) if delays else 0,
        "latest_s": round(late_s, 3),
        "to slow receivers": scene.slow_hooks.connections,
        "repeated": scene.hooks.repeated,
    }


async def _check_pictures(verdict: Verdict, house: House, jobs: dict[str, Any]) -> None:
    """Every picture can be fetched and decoded, has its size, and equal requests have equal bytes."""
    hashes: dict[str, set[str]] = defaultdict(set)
    asked: Counter[str] = Counter()
    drawn = [job for job in jobs.values() if job["status"] == "COMPLETED" and job["endpoint_id"] in (DEV, SCHNELL)]
    room = asyncio.Semaphore(4)
    headers = {"Authorization": f"Bearer {KEY}"}
    async with httpx.AsyncClient(headers=headers, base_url=house.urls[0], timeout=60, trust_env=False) as http:

        async def look(job: Any) -> None:
            async with room:
                status = await http.get(f"/v2/{job['endpoint_id']}/status/{job['id']}")
                url = status.json()["output"]["image_url"]
                # The signature of a bucket's link is all that it needs.
                is_ours = url.startswith(tuple(house.public_urls))
                reply = await http.get(url) if is_ours else await asyncio.to_thread(httpx.get, url, trust_env=False)
            if reply.status_code != 200:
                verdict.faults.append(f"the picture of job {job['id']} answers {reply.status_code}")
                return
            sent = json.loads(job["input"])
            with Image.open(io.BytesIO(reply.content)) as picture:
                picture.load()
                verdict.require(
                    picture.size == (sent["width"], sent["height"]), f"job {job['id']} is of size {picture.size}"
                )
            name = json.dumps([job["endpoint_id"], sent], sort_keys=True)
            hashes[name].add(hashlib.sha256(reply.content).hexdigest())
            asked[name] += 1

        await asyncio.gather(*map(look, drawn))
    for name, found in hashes.items():
        verdict.require(len(found) == 1, f"{asked[name]} equal requests gave {len(found)} pictures: {name}")
    verdict.figures["pictures"] = {
        "decoded": sum(asked.values()),
        "asked for more than once": sum(count for count in asked.values() if count > 1),
    }
    verdict.require(all(map(_has_its_price, drawn)), "a picture has a wrong price")


def _has_its_price(job: Any) -> bool:
    # The catalogue's prices, and nothing that the gateway has read meanwhile.
    asked = FLUX_ENDPOINTS[job["endpoint_id"]].accept(json.loads(job["input"]))
    return bool(job["cost_units"] == usd_to_units(asked.cost_usd))


def _check_waits(verdict: Verdict, journal: Journal) -> None:
    """No client that does everything right waited, beyond the work it asked for."""
    by_operation = defaultdict(list)
    for wait in journal.waits:
        if wait.operation not in ("stream", "large run"):
            by_operation[wait.operation].append(wait)
    for operation, waits in sorted(by_operation.items()):
        late = [wait for wait in waits if wait.waited_s > MAX_WAIT_S]
        verdict.require(
            not late,
            f"{len(late)} of {len(waits)} answers to {operation} took more than {MAX_WAIT_S:.0f} s"
            + "".join(f"; {wait.waited_s:.1f} s at {wait.at_s:.0f} s" for wait in late[:4]),
        )
    verdict.figures["waits"] = {
        operation: {
            "answers": len(waits),
            "median_ms": round(statistics.median(wait.waited_s for wait in waits) * 1_000, 1),
            "longest_ms": round(max(wait.waited_s for wait in waits) * 1_000, 1),
        }
        for operation, waits in sorted(by_operation.items())
    }
    verdict.figures["latest of the soak's own loop_s"] = round(
        max((late for _, late in journal.lateness), default=0), 2
    )


def _check_memory(verdict: Verdict, journal: Journal) -> None:
    """What every process holds lies flat over the second half."""
    half_s = journal.now_s() / 2
    by_process = defaultdict(list)
    for at_s, name, size in journal.memory:
        by_process[name].append((at_s, size))
    figures = {}
    for name, sizes in sorted(by_process.items()):
        late = [(at_s, size) for at_s, size in sizes if at_s >= half_s]
        # Only of what had loaded its model before it, and lived through all of it.
        has_loaded, has_lived = sizes[0][0] <= half_s - LOADED_S, sizes[-1][0] >= journal.now_s() - LOADED_S
        if len(late) < 3 or not (has_loaded and has_lived):
            continue
        slope, start = statistics.linear_regression([at_s for at_s, _ in late], [size for _, size in late])
        growth = slope * (late[-1][0] - late[0][0]) / (start + slope * late[0][0])
        figures[name] = {"MiB": round(late[-1][1] / 1_048_576), "growth": round(growth, 4)}
        if journal.now_s() >= MIN_MEMORY_S:
            verdict.require(growth <= MAX_GROWTH, f"{name} grew by {growth:.1%} over the second half")
    verdict.figures["memory"] = figures
