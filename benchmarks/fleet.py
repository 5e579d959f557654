"""Several gateways on one PostgreSQL: jobs a second, what nobody's work costs, recovery, and claims beside a peer's.

No job draws anything (`MODEL=fake:0`), so that gateways and database are what is measured; each gateway has one worker,
and jobs of one gateway are drawn by the workers of both. 16 clients hold a `/runsync` each, shared out evenly. Builds
and peers take turns, and who was last in a round is first in the next; figures are medians of the rounds. Load,
gateways, workers and PostgreSQL share the machine: two gateways on two cores cannot be twice as fast as one.

    python -m benchmarks.fleet --base ../another-checkout
"""

import argparse
import asyncio
import json
import os
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.fleet_claims import claims_per_s
from benchmarks.fleet_parts import Gateway, Postgres, gateways, in_turn, postgres, seconds_since
from benchmarks.load import Connection, measure, until_ready
from benchmarks.machine import describe_machine

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results" / "fleet.json"
BODY = json.dumps({"input": {"prompt": "a lake", "width": 256, "height": 256, "num_inference_steps": 1}}).encode()
CLIENTS = 16
PARTS = ("load", "idle", "recovery", "claims")
# After its first jobs a fleet has to clean up, and to find out who leads.
_SETTLED_S = 10.0
# What a probe waits for before it asks another gateway.
_PATIENCE_S = 2.0
_RECOVERED_BY_S = 120.0


async def all_ready(started: Sequence[Gateway]) -> None:
    for gateway in started:
        await until_ready(gateway.target, BODY)


async def load(started: Sequence[Gateway], seconds: float) -> dict[str, float]:
    """Keep 16 clients busy, shared out among the gateways."""
    rounds = await asyncio.gather(
        *(measure(gateway.target, BODY, CLIENTS // len(started), seconds) for gateway in started)
    )
    return {
        "jobs_per_s": round(sum(each.jobs_per_s for each in rounds), 1),
        "p95_ms": round(max(each.p95_ms for each in rounds), 1),
    }


async def measure_load(server: Postgres, checkouts: Sequence[Path], rounds: int, seconds: float) -> dict[str, Any]:
    """Jobs a second and p95 by database and number of gateways, for each build."""
    result: dict[str, Any] = {}
    for name, count in (("sqlite", 1), ("postgresql", 1), ("postgresql", 2)):
        found: dict[str, list[dict[str, float]]] = {}
        for number in range(rounds):
            for checkout in in_turn(checkouts, number):
                url = server.new_database() if name == "postgresql" else None
                with gateways(checkout, count, url, WORKERS=1) as started:
                    await all_ready(started)
                    found.setdefault(build_name(checkout), []).append(await load(started, seconds))
        result[f"{name}, {count} gateway{'s' if count > 1 else ''}"] = {
            build: {
                "jobs_per_s": round(median(each["jobs_per_s"] for each in runs), 1),
                "p95_ms": round(median(each["p95_ms"] for each in runs), 1),
                "runs": runs,
            }
            for build, runs in found.items()
        }
    return result


async def measure_idle(server: Postgres, checkouts: Sequence[Path], seconds: float) -> dict[str, float]:
    """Transactions a second of two gateways that have nothing to do, with two workers each that wait for jobs."""
    result = {}
    for checkout in checkouts:
        url = server.new_database()
        with gateways(checkout, 2, url, WORKERS=2) as started:
            await all_ready(started)
            await asyncio.sleep(_SETTLED_S)
            before, began_s = server.transactions(url), time.monotonic()
            await asyncio.sleep(seconds)
            result[build_name(checkout)] = round((server.transactions(url) - before) / seconds_since(began_s), 1)
    return result


def build_name(checkout: Path) -> str:
    return "this build" if checkout == ROOT else "the build before"


class Probe:
    """A client that always has one job on its way, and asks the next gateway when one does not answer."""

    def __init__(self, started: Sequence[Gateway]) -> None:
        self._started = started
        self._number = 0

    async def job(self) -> None:
        """Return when a job is done, whatever it takes."""
        while True:
            gateway = self._started[self._number % len(self._started)]
            connection = Connection(gateway.target, BODY)
            try:
                async with asyncio.timeout(_PATIENCE_S):
                    await connection.open()
                    await connection.job()
            except (OSError, RuntimeError, TimeoutError, asyncio.IncompleteReadError):
                self._number += 1
                await asyncio.sleep(0.02)
            else:
                await connection.close()
                return


def kill_gateway(server: Postgres, started: Sequence[Gateway]) -> None:
    """With its workers, as a machine dies: nothing says goodbye."""
    process = psutil.Process(started[0].process.pid)
    for each in [process, *process.children(recursive=True)]:
        each.kill()


def kill_workers(server: Postgres, started: Sequence[Gateway]) -> None:
    """All of both gateways, which start them again."""
    for gateway in started:
        for each in psutil.Process(gateway.process.pid).children(recursive=True):
            each.kill()


def cut_connections(server: Postgres, started: Sequence[Gateway]) -> None:
    """All to PostgreSQL, at once."""
    server.server.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid();")


def crash_postgres(server: Postgres, started: Sequence[Gateway]) -> None:
    """SIGKILL to a process of the server: all others end too, and it replays its log before it takes anybody."""
    postmaster = psutil.Process(server.server.get_postmaster_info().pid)
    writer = next(each for each in postmaster.children() if "walwriter" in " ".join(each.cmdline()))
    os.kill(writer.pid, signal.SIGKILL)


KILLS: dict[str, Callable[[Postgres, Sequence[Gateway]], None]] = {
    "a gateway and its worker": kill_gateway,
    "all workers": kill_workers,
    "all connections to PostgreSQL": cut_connections,
    "PostgreSQL": crash_postgres,
}


async def measure_recovery(server: Postgres, checkout: Path) -> dict[str, float]:
    """Seconds from a kill to the end of the first job that was sent after it, as a client that tries again sees it."""
    result = {}
    for name, kill in KILLS.items():
        with gateways(checkout, 2, server.new_database(), WORKERS=1) as started:
            await all_ready(started)
            probe = Probe(started)
            await probe.job()
            began_s = time.monotonic()
            kill(server, started)
            async with asyncio.timeout(_RECOVERED_BY_S):
                await probe.job()
            result[name] = round(seconds_since(began_s), 2)
    return result


async def run(arguments: argparse.Namespace, checkouts: Sequence[Path]) -> dict[str, Any]:
    measured: dict[str, Any] = {}
    with postgres() as server:
        steps: dict[str, Callable[[], Awaitable[Any]]] = {
            "load": lambda: measure_load(server, checkouts, arguments.rounds, arguments.seconds),
            "idle": lambda: measure_idle(server, checkouts, arguments.idle_seconds),
            "recovery": lambda: measure_recovery(server, ROOT),
            "claims": lambda: claims_per_s(server, arguments.claim_rounds, arguments.jobs),
        }
        for part in arguments.parts:
            measured[part] = await steps[part]()
    return measured


def show(measured: dict[str, Any]) -> None:
    table = Table(title="a fleet of no-op workers")
    for column in ("", *(builds := ("this build", "the build before")), "ratio"):
        table.add_column(column, justify="right" if column else "left")

    def row(name: str, values: dict[str, float]) -> None:
        ours, before = (values.get(build) for build in builds)
        ratio = f"{ours / before:.2f}" if ours is not None and before else ""
        table.add_row(name, *("" if value is None else f"{value:g}" for value in (ours, before)), ratio)

    for place, builds_found in measured.get("load", {}).items():
        for figure in ("jobs_per_s", "p95_ms"):
            row(f"{place}: {figure}", {build: found[figure] for build, found in builds_found.items()})
    row("idle transactions/s", measured.get("idle", {}))
    for kill, seconds in measured.get("recovery", {}).items():
        row(f"recovery, s: {kill}", {"this build": seconds})
    if claims := measured.get("claims"):
        ours, peer = (median(claims[name]) for name in ("this build", "procrastinate"))
        table.add_row("claims/s (procrastinate beside it)", f"{ours:.0f}", f"{peer:.0f}", f"{ours / peer:.2f}")
    Console(width=120).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, help="another checkout, such as the build before")
    parser.add_argument("--rounds", type=int, default=8, help="of load")
    parser.add_argument("--claim-rounds", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=5, help="of load, per build and round")
    parser.add_argument("--idle-seconds", type=float, default=20)
    parser.add_argument("--jobs", type=int, default=500, help="to be claimed, per round")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    checkouts = [ROOT] if arguments.base is None else [ROOT, arguments.base.resolve()]
    result = {"machine": describe_machine(("sqlalchemy", "asyncpg", "procrastinate"))}
    result |= asyncio.run(run(arguments, checkouts))
    show(result)
    arguments.out.parent.mkdir(exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
