"""What one job runs through in the gateway: its calls, files and lines, traced in this process.

A client asks `/runsync`; a worker, played by hand, takes the job and reports its picture; the client has its answer.
All of it goes through the real ASGI application, a SQLite file and a folder of pictures. Three journeys are told apart:

- request: from the application's first line to the answer, the key's journey included
- worker: `job-take`, then `job-done`
- key: what `admit` calls, from the header with the API key to the decision

A call is the start of a function of `src/flux_endpoint`. Comprehensions and generator expressions are no functions, and
to go on after an `await` or a `yield` is no start. A line counts once, however often it runs. Of some jobs one after
another, the one with the fewest calls is shown.

    python -m benchmarks.journeys
    python -m benchmarks.journeys --beside ../another-checkout
    python -m benchmarks.journeys --hot 40
"""

import argparse
import asyncio
import contextlib
import json
import os
import runpy
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import httpx
import uvicorn
from rich.console import Console
from rich.table import Table

import flux_endpoint
from benchmarks.load import plain_environment

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results" / "journeys.json"
API_KEY, WORKER_TOKEN = "fxe_of-a-client", "fxw_of-a-worker"
CLIENT_HEADERS = {"Authorization": f"Bearer {API_KEY}"}
WORKER_HEADERS = {"Authorization": WORKER_TOKEN}
ENDPOINT = "/v2/black-forest-labs-flux-1-dev"
BODY = {"input": {"prompt": "a lake"}}
# What makes a file a JPEG, and some more: the gateway never decodes pictures.
PICTURE = b"\xff\xd8\xff\xe0" + b"picture" * 100
OURS = "this checkout"
REQUEST, WORKER, KEY, TOTAL = "request", "worker", "key", "total"
# The first ones read what is read once for many, like the key, and now and then one does what is due every so often.
JOBS = 5
# The function with which the journey of a key begins.
_DECIDES = "admit"


@dataclass
class Journey:
    """What was run.

    Attributes:
        calls: how often each function was started, by file and name.
        lines: by file.
    """

    calls: Counter[tuple[str, str]] = field(default_factory=Counter)
    lines: set[tuple[str, int]] = field(default_factory=set)

    @property
    def files(self) -> dict[str, int]:
        """Calls of the functions of each file, in the order in which the files come into play."""
        counts: Counter[str] = Counter()
        for (file, _), count in self.calls.items():
            counts[file] += count
        return dict(counts)

    def __or__(self, other: "Journey") -> "Journey":
        return Journey(self.calls + other.calls, self.lines | other.lines)


class Tracer:
    """Notes what a package runs, by journey."""

    def __init__(self, package: Path) -> None:
        self._prefix = f"{package}{os.sep}"
        # Follows a request into the tasks that it starts.
        self._current: ContextVar[str] = ContextVar("journey")
        # Kept, so that no frame is mistaken for an earlier one.
        self._seen: set[FrameType] = set()
        self.journeys = {REQUEST: Journey(), WORKER: Journey(), KEY: Journey()}

    @contextmanager
    def following(self, name: str) -> Iterator[None]:
        """What runs in the block, and in tasks that it starts, belongs to a journey."""
        token = self._current.set(name)
        before = sys.gettrace()
        sys.settrace(self._on_call)
        try:
            yield
        finally:
            sys.settrace(before)
            self._current.reset(token)

    def _on_call(self, frame: FrameType, event: str, argument: Any) -> Callable[..., Any] | None:
        name = self._current.get(None)
        code = frame.f_code
        if name is None or not code.co_filename.startswith(self._prefix):
            return None
        file = code.co_filename.removeprefix(self._prefix)
        journeys = [self.journeys[name]]
        if name == REQUEST and _is_inside(frame, _DECIDES):
            journeys.append(self.journeys[KEY])
        if frame not in self._seen and (code.co_name == "<lambda>" or not code.co_name.startswith("<")):
            self._seen.add(frame)
            for journey in journeys:
                journey.calls[file, code.co_qualname] += 1

        def on_line(frame: FrameType, event: str, argument: Any) -> Callable[..., Any]:
            if event == "line":
                for journey in journeys:
                    journey.lines.add((file, frame.f_lineno))
            return on_line

        return on_line


def _is_inside(frame: FrameType | None, function: str) -> bool:
    while frame is not None:
        if frame.f_code.co_name == function:
            return True
        frame = frame.f_back
    return False


async def trace_job(app: Any) -> dict[str, Journey]:
    """Run some jobs one after another; returns what the one with the fewest calls ran, by journey.

    Args:
        app: the gateway as an ASGI application.
    """
    tracer = Tracer(Path(flux_endpoint.__file__).parent)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url=f"http://gateway{ENDPOINT}") as client:

        async def ask() -> None:
            with tracer.following(REQUEST):
                reply = await client.post("/runsync", headers=CLIENT_HEADERS, json=BODY)
            assert reply.json()["status"] == "COMPLETED", reply.text

        traced = []
        for _ in range(JOBS):
            tracer.journeys = {REQUEST: Journey(), WORKER: Journey(), KEY: Journey()}
            traced.append(tracer.journeys)
            asking = asyncio.create_task(ask())
            with tracer.following(WORKER):
                reply = await client.get("/job-take/worker-1?gpu=cpu&claim=1", headers=WORKER_HEADERS)
                job = reply.json()
                query = {"claimToken": job["claimToken"], "isStream": "false"}
                headers = WORKER_HEADERS | {"Content-Type": "image/jpeg"}
                path = f"/job-done/worker-1/{job['id']}"
                reply = await client.post(path, params=query, content=PICTURE, headers=headers)
                reply.raise_for_status()
            await asking
    wholes = [journeys | {TOTAL: journeys[REQUEST] | journeys[WORKER]} for journeys in traced]
    return min(wholes, key=lambda journeys: journeys[TOTAL].calls.total())


def trace_gateway(folder: Path) -> dict[str, Journey]:
    """Start the gateway as `serve` does, with nothing in front of its application, and trace one job.

    Args:
        folder: an empty data folder.
    """
    found: dict[str, Journey] = {}

    async def trace(server: uvicorn.Server, sockets: Any = None) -> None:
        found.update(await trace_job(server.config.app))

    settings = {"DATA_DIR": str(folder), "PORT": "0", "WORKERS": "0", "MODEL": "fake"}
    settings |= {"API_KEY": API_KEY, "WORKER_TOKEN": WORKER_TOKEN, "LOG_LEVEL": "ERROR"}
    os.environ.update({f"FLUX_ENDPOINT_{name}": value for name, value in settings.items()})
    uvicorn.Server.serve = trace
    with contextlib.redirect_stdout(None), contextlib.suppress(SystemExit):
        sys.argv = ["flux-endpoint", "serve"]
        runpy.run_module("flux_endpoint", run_name="__main__")
    return found


def measure() -> dict[str, Any]:
    """The journeys of the checkout on the path, in numbers and names, for JSON."""
    with tempfile.TemporaryDirectory() as folder:
        journeys = trace_gateway(Path(folder))
    return {
        name: {
            "calls": journey.calls.total(),
            "lines": len(journey.lines),
            "files": journey.files,
            "by_function": [[count, *function] for function, count in journey.calls.most_common()],
        }
        for name, journey in journeys.items()
    }


def measure_apart(checkout: Path) -> dict[str, Any]:
    """The same of any checkout, in a process of its own."""
    environment = plain_environment() | {"PYTHONPATH": str(checkout / "src")}
    command = [sys.executable, "-m", "benchmarks.journeys", "--json"]
    process = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, check=True)
    result: dict[str, Any] = json.loads(process.stdout)
    return result


def show(measured: dict[str, dict[str, Any]], hot: int) -> None:
    """Print the journeys of each checkout, and of this one what is called most."""
    console = Console(width=120)
    table = Table(title="calls, files and lines of one job")
    for column in ("journey", *measured):
        table.add_column(column, justify="left" if column == "journey" else "right")
    for journey in (REQUEST, WORKER, KEY, TOTAL):
        numbers = [each[journey] for each in measured.values()]
        table.add_row(journey, *(f"{each['calls']}, {len(each['files'])}, {each['lines']}" for each in numbers))
    console.print(table)
    if hot:
        ours = measured[OURS]
        for journey in (REQUEST, WORKER, KEY):
            console.print(f"[bold]{journey}[/bold]: calls, file")
            for file, count in ours[journey]["files"].items():
                console.print(f"{count:4} {file}", highlight=False)
        console.print("[bold]total[/bold]: calls, file, function")
        for count, file, function in ours[TOTAL]["by_function"][:hot]:
            console.print(f"{count:4} {file} {function}", highlight=False)


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beside", type=Path, help="another checkout, traced in the same way")
    parser.add_argument("--hot", type=int, default=0, help="also show the files, and so many functions")
    parser.add_argument("--json", action="store_true", help="print what was traced as JSON, and nothing else")
    arguments = parser.parse_args()
    if arguments.json:
        print(json.dumps(measure()))
        return
    measured = {OURS: measure_apart(ROOT)}
    if arguments.beside:
        measured[arguments.beside.name] = measure_apart(arguments.beside)
    show(measured, arguments.hot)
    RESULTS.parent.mkdir(exist_ok=True)
    numbers = {
        name: {
            journey: {key: value for key, value in each.items() if key != "by_function"} for journey, each in of.items()
        }
        for name, of in measured.items()
    }
    RESULTS.write_text(json.dumps(numbers, indent=1) + "\n")


if __name__ == "__main__":
    run()
