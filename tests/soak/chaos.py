"""Orders of pictures while everything breaks: `python -m tests.soak.chaos --jobs 300 --seed 7`. Exits 0 without faults.

A quiet run first draws each picture once. Then orders come at an even rate while gateways, workers, the database, the
bucket, connections and, with `--ray`, machines break in an order of the seed. The end is audited against the quiet run.
"""

import argparse
import asyncio
import contextlib
import json
import logging
import platform
import random
import secrets
import statistics
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import asyncpg
import httpx

from tests.ray_nodes import ray_nodes
from tests.servers import wait_until
from tests.soak.audit import Verdict, audit_jobs
from tests.soak.breakage import Breakage
from tests.soak.chaos_house import LEASE_S, ChaosHouse
from tests.soak.house import KEY
from tests.soak.journal import TERMINAL, Journal
from tests.soak.orders import Customer, draw_wishes
from tests.soak.report import count_troubles, in_words, timeline

# How many orders may be open at a time; beyond it the rate falls.
_OPEN: Final = 32
_START_S: Final = 180
# For what was taken from a worker that is gone.
_SETTLE_S: Final = 10 * LEASE_S
# Of the drawing.
_TOP_S: Final = 60.0


async def _run(house: ChaosHouse, options: argparse.Namespace) -> bool:
    journal, rng = Journal(), random.Random(options.seed)
    distinct, count = options.distinct, options.jobs
    customer = Customer(journal, house.public_urls[0], KEY)
    wishes = draw_wishes(rng, distinct)
    pool = ThreadPoolExecutor(_OPEN)
    loop = asyncio.get_running_loop()

    def order(wish: tuple[str, dict[str, Any]], name: str) -> "asyncio.Future[None]":
        return loop.run_in_executor(pool, customer.order, *wish, name, rng.random() < 0.3)

    await asyncio.to_thread(wait_until, lambda: len(house.workers()) == house.worker_count, "all workers run", _START_S)
    with journal.trouble("quiet run", f"{distinct} pictures"):
        await asyncio.gather(*(order(wish, f"quiet-{number}") for number, wish in enumerate(wishes)))
    breakage = Breakage(house, journal, rng, options.longest)
    breaking, supervising = asyncio.create_task(breakage.run()), asyncio.create_task(breakage.supervise())
    orders = []
    for number in range(count):
        orders.append(order(wishes[number % distinct], f"order-{number}"))
        await asyncio.wait({breaking, supervising}, timeout=1 / options.rate, return_when=asyncio.FIRST_EXCEPTION)
        if breaking.done() or supervising.done():
            break
    try:
        await _end(breaking)
        house.mend_network()
        await asyncio.gather(*orders)
        await _settle(house)
        # One may have ended by itself, for want of a database, and be about to start again.
        await asyncio.to_thread(wait_until, lambda: all(map(_is_ready, house.urls)), "both gateways can work", _START_S)
        await _end(supervising)
    finally:
        customer.is_over = True
    verdict, jobs = await audit_jobs(house, journal)
    _check_orders(verdict, customer, journal, jobs, count + distinct)
    verdict.faults += journal.surprises
    about = {"seed": options.seed, "orders": count, "rate": options.rate, "ray": options.ray}
    _write(options.out, journal, verdict, customer, about)
    return not verdict.faults


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=5, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


async def _end(task: "asyncio.Task[None]") -> None:
    """Cancel, wait until what it has broken is mended, and raise what it has raised."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def _settle(house: ChaosHouse) -> None:
    """Until every job has ended: one that its customer gave up may run still."""
    connection = await asyncpg.connect(house.database_url)
    try:
        # What is left then the audit names.
        for _ in range(2 * _SETTLE_S):
            if not await connection.fetchval("SELECT count(*) FROM jobs WHERE status <> ALL($1)", list(TERMINAL)):
                break
            await asyncio.sleep(0.5)
    finally:
        await connection.close()


def _check_orders(verdict: Verdict, customer: Customer, journal: Journal, jobs: dict[str, Any], expected: int) -> None:
    """Each order is one job, however often it was sent, and ended as its customer was told."""
    verdict.require(len(journal.promises) == expected, f"{len(journal.promises)} of {expected} orders have a job")
    for job_id in jobs.keys() - journal.promises.keys():
        verdict.faults.append(f"job {job_id} is nobody's order")
    for job_id, told in customer.told.items():
        if job_id in jobs:
            status = jobs[job_id]["status"]
            verdict.require(status == told, f"job {job_id} is {status}, its customer was told {told}")
    verdict.figures["repeated requests"] = customer.repeats


def _write(folder: Path, journal: Journal, verdict: Verdict, customer: Customer, about: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "chaos.svg").write_text(timeline(journal, _TOP_S))
    about |= {"machine": f"{platform.machine()}, Python {platform.python_version()}"}
    body = {**about, "faults": verdict.faults, "figures": verdict.figures, "troubles": count_troubles(journal)}
    (folder / "chaos.json").write_text(json.dumps(body, indent=1) + "\n")
    figures, waits = verdict.figures, [wait.waited_s for wait in journal.waits]
    lines = [
        f"Seed {about['seed']}, {about['orders']} orders at {about['rate']:g} a second"
        f"{', workers placed by Ray' if about['ray'] else ''}: "
        + (f"{len(verdict.faults)} faults." if verdict.faults else "no fault."),
        "",
        f"- Jobs: {figures['promised']} promised; in the database {in_words(figures['jobs'])}; {figures['retried']} "
        "were taken by a second worker.",
        f"- Not completed: {in_words(figures['reasons']) or 'none'}.",
        f"- Charges: {figures['charges']}. Pictures decoded: {figures['pictures']['decoded']}, all of them compared.",
        f"- Requests that were sent again: {customer.repeats}.",
        f"- From the order to the picture: median {statistics.median(waits):.1f} s, longest {max(waits):.1f} s.",
        f"- Broken: {in_words(count_troubles(journal))}.",
        *(["", "Faults:", ""] if verdict.faults else []),
        *(f"- {fault}" for fault in verdict.faults[:40]),
    ]
    (folder / "chaos.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it, and say what was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.chaos", description=__doc__)
    parser.add_argument("--jobs", type=int, default=300)
    parser.add_argument("--rate", type=float, default=2, help="orders a second")
    parser.add_argument("--distinct", type=int, default=40, help="how many different pictures are ordered")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    parser.add_argument("--longest", type=float, default=4, help="seconds for which anything stays broken")
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--ray", action="store_true", help="place the workers on a Ray cluster, a machine for each")
    parser.add_argument("--out", type=Path, default=Path("build/chaos"), help="folder of the report")
    options = parser.parse_args(arguments)
    # The database's package logs every command, the clients' each connection that breaks.
    logging.disable(logging.WARNING)
    print(f"seed {options.seed}, {options.jobs} jobs", flush=True)
    with ray_nodes() if options.ray else contextlib.nullcontext() as nodes:
        house = ChaosHouse(options.workers, nodes)
        try:
            house.start()
            is_right = asyncio.run(_run(house, options))
        finally:
            options.out.mkdir(parents=True, exist_ok=True)
            for log in house.folder.glob("*.log"):
                (options.out / log.name).write_bytes(log.read_bytes())
            house.close()
    return 0 if is_right else 1


if __name__ == "__main__":
    raise SystemExit(main())
