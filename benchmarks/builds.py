"""This build beside another one, in one run: what a no-op job takes and costs, and what the gateway costs to import.

Both gateways run side by side on loopback, each with one worker whose engine does nothing, and are measured in turn,
round after round, over one connection. CPU time is that of the gateway's process alone. An import is a process of its
own; what an empty one costs is taken off. Others only ever make something slower, so the best round of each is what is
compared; the median shows how noisy it was.

    python -m benchmarks.builds --beside ../another-checkout
"""

import argparse
import asyncio
import json
import resource
import secrets
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.contract import BODY, PATH
from benchmarks.load import Connection, Target, free_port, plain_environment, until_ready
from benchmarks.machine import describe_machine

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results" / "builds.json"
IMPORT = "import flux_endpoint.wiring.gateway"
P50, CPU, IMPORTED = (
    "no-op job at 1 connection, p50 ms",
    "CPU of the gateway per job, ms",
    "import of the gateway, CPU ms",
)


@dataclass
class Build:
    """A checkout with its gateway running.

    Attributes:
        measured: by what was measured, one number a round.
    """

    checkout: Path
    target: Target
    process: psutil.Process
    measured: dict[str, list[float]] = field(default_factory=lambda: {P50: [], CPU: [], IMPORTED: []})


def environment_of(checkout: Path) -> dict[str, str]:
    return plain_environment() | {"PYTHONPATH": str(checkout / "src")}


def start(checkout: Path, folder: Path, stack: ExitStack) -> Build:
    """A gateway with one worker; it ends with the stack."""
    folder.mkdir()
    key, port = secrets.token_hex(), free_port()
    settings = {"PORT": str(port), "DATA_DIR": str(folder), "MODEL": "fake:0", "API_KEY": key, "WORKERS": "1"}
    # Of the measure and not of the product: a client of Runpod's may ask 200 times a second.
    settings["RATE_LIMITS"] = "off"
    environment = environment_of(checkout) | {f"FLUX_ENDPOINT_{name}": value for name, value in settings.items()}
    log = stack.enter_context((folder / "log").open("w"))
    command = [sys.executable, "-m", "flux_endpoint", "serve"]
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    stack.callback(process.wait)
    stack.callback(process.terminate)
    target = Target(checkout.name, port, PATH, b"COMPLETED", f"Authorization: Bearer {key}\r\n")
    return Build(checkout, target, psutil.Process(process.pid))


def cpu_s_of(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


async def run_jobs(build: Build, jobs: int) -> None:
    """One round of a build: so many jobs, one after another."""
    connection = Connection(build.target, BODY)
    await connection.open()
    before_s = cpu_s_of(build.process)
    times_s = [await connection.job() for _ in range(jobs)]
    build.measured[CPU].append((cpu_s_of(build.process) - before_s) / jobs * 1_000)
    build.measured[P50].append(statistics.median(times_s) * 1_000)
    await connection.close()


def run_python(code: str, checkout: Path, cache: str) -> float:
    """Milliseconds of CPU time that a process takes, with what Python has compiled in a folder of its own."""
    environment = environment_of(checkout) | {"PYTHONPYCACHEPREFIX": cache}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1_000


async def compare(builds: list[Build], rounds: int, jobs: int) -> None:
    """Measure all, round after round; who goes first changes every time."""
    for build in builds:
        await until_ready(build.target, BODY)
        await run_jobs(build, jobs)
        build.measured[P50].clear()
        build.measured[CPU].clear()
    for number in range(rounds):
        for build in builds if number % 2 else reversed(builds):
            await run_jobs(build, jobs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beside", type=Path, required=True, help="another checkout")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--jobs", type=int, default=300, help="per build and round")
    arguments = parser.parse_args()
    result: dict[str, object] = {"machine": describe_machine(("uvicorn", "sqlalchemy", "starlette"))}
    result |= {"rounds": arguments.rounds, "jobs": arguments.jobs}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        checkouts = (ROOT, arguments.beside.resolve())
        builds = [start(checkout, Path(folder) / str(number), stack) for number, checkout in enumerate(checkouts)]
        asyncio.run(compare(builds, arguments.rounds, arguments.jobs))
    with tempfile.TemporaryDirectory() as cache:
        for build in builds:
            run_python(IMPORT, build.checkout, cache)
        for _ in range(arguments.rounds):
            for build in builds:
                spent_ms = run_python(IMPORT, build.checkout, cache) - run_python("pass", build.checkout, cache)
                build.measured[IMPORTED].append(spent_ms)
    ours, other = builds
    table = Table(title=f"best of {arguments.rounds} rounds (median)")
    for column in ("", "this build", other.target.name, "ratio"):
        table.add_column(column, justify="right" if column else "left")
    for name in (P50, CPU, IMPORTED):
        cells = [f"{min(b.measured[name]):.2f} ({statistics.median(b.measured[name]):.2f})" for b in builds]
        ratio = min(ours.measured[name]) / min(other.measured[name])
        table.add_row(name, *cells, f"{ratio:.2f}")
        result[name] = {"this build": ours.measured[name], "other": other.measured[name], "ratio": round(ratio, 3)}
    Console(width=120).print(table)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
