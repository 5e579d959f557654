"""The whole path of a job, beside three servers that do a similar thing: time added, jobs a second, share of the ideal.

All run side by side on loopback with the same handler and are measured in turn, round after round, so that a noisy
neighbour hits all of them:

- flux-endpoint: `serve` with the fake engine, one worker. Each job is written to SQLite, pulled by the worker process,
  its picture sent back and saved, charged and answered: it would survive a SIGKILL of any process at any moment.
- Runpod's local API server (`handler.py --rp_serve_api`): runs the handler in the server's own process.
- LitServe: one worker process. Cog: its server without Docker (`python -m cog.server.http`), with an async predictor,
  because a plain one refuses all jobs but one at a time with 409.
- bare FastAPI: one route that answers a constant, as a measure of the machine. Nothing is run.

Only the first keeps anything. Two handlers: one that does nothing, and one that holds a device for 20 ms. A device
does one job at a time, so that 50 jobs/s are ideal, whatever the number of connections.

Then the same job by each dialect that holds its answer, on one gateway: what its wire format costs beside Runpod's own.

The peers are installed into build/peers at the first run (versions in benchmarks/peers.txt).

    python -m benchmarks.contract --rounds 5 --seconds 2
    python -m benchmarks.contract --only-dialects
"""

import argparse
import asyncio
import json
import os
import secrets
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from benchmarks.load import Target, free_port, measure, plain_environment, running, until_ready
from benchmarks.machine import describe_machine

ROOT = Path(__file__).parent.parent
PEERS = ROOT / "build" / "peers"
PEER_VERSIONS = Path(__file__).parent / "peers.txt"
RESULTS = Path(__file__).parent / "results" / "contract.json"
PATH = "/v2/black-forest-labs-flux-1-dev/runsync"
BODY = json.dumps({"input": {"prompt": "a lake", "width": 256, "height": 256, "num_inference_steps": 1}}).encode()
OURS = "flux-endpoint"
DIALECT_RESULTS = RESULTS.with_name("dialects.json")
_SMALL = {"prompt": "a lake", "width": 256, "height": 256, "num_inference_steps": 1}
# By dialect: the path, the body, what an answer with a picture contains, further header lines. Black Forest Labs' is
# polled, and holds nothing. The same file from all, but PNG from A1111's: WebP, which Replicate's clients get unless
# they ask, takes an encoder that the others do without.
DIALECTS: dict[str, tuple[str, dict[str, object], bytes, str]] = {
    "runpod": (PATH, {"input": _SMALL}, b"COMPLETED", ""),
    "openai": (
        "/v1/images/generations",
        _SMALL | {"response_format": "url", "output_format": "jpeg"},
        b'"url"',
        "",
    ),
    "huggingface": (
        "/hf/flux-dev",
        {"inputs": "a lake", "parameters": _SMALL | {"prompt": None}},
        b"Exif",
        "Accept: image/jpeg\r\n",
    ),
    "replicate": (
        "/v1/models/black-forest-labs/flux-dev/predictions",
        {"input": _SMALL | {"output_format": "jpg"}},
        b"succeeded",
        "Prefer: wait\r\n",
    ),
    "fal": ("/fal/run/fal-ai/flux/dev", _SMALL, b'"images"', ""),
    "a1111": ("/sdapi/v1/txt2img", _SMALL, b'"images"', ""),
}
MANY = 32
# Cog frees the place of a job only after it has answered.
COG_PLACES = 4 * MANY

BARE_FASTAPI = """
import sys, uvicorn
from fastapi import FastAPI, Request
app = FastAPI()
@app.post("/runsync")
async def runsync(request: Request) -> dict:
    await request.json()
    return {"id": "x", "status": "COMPLETED", "output": {"image_url": "http://x/y.png", "cost": 0.0013}}
uvicorn.run(app, port=int(sys.argv[1]), log_level="error")
"""
RUNPOD_LOCAL = """
import os, threading, time
import runpod
busy_s, device = float(os.environ["BUSY_S"]), threading.Lock()
def handler(job):
    if busy_s:
        with device:
            time.sleep(busy_s)
    return {"image_url": "http://x/y.png", "cost": 0.0013}
runpod.serverless.start({"handler": handler})
"""
LITSERVE = """
import os, sys, time
import litserve
busy_s = float(os.environ["BUSY_S"])
class Api(litserve.LitAPI):
    def setup(self, device):
        pass
    def predict(self, request):
        if busy_s:
            time.sleep(busy_s)
        return {"image_url": "http://x/y.png", "cost": 0.0013}
if __name__ == "__main__":
    server = litserve.LitServer(Api(), accelerator="cpu", workers_per_device=1)
    server.run(port=int(sys.argv[1]), log_level="error", generate_client_file=False)
"""
COG = """
import asyncio, os
from cog import BasePredictor, Input
class Predictor(BasePredictor):
    def setup(self) -> None:
        self.busy_s, self.device = float(os.environ["BUSY_S"]), asyncio.Lock()
    async def predict(
        self, prompt: str = Input(), width: int = 256, height: int = 256, num_inference_steps: int = 28
    ) -> str:
        if self.busy_s:
            async with self.device:
                await asyncio.sleep(self.busy_s)
        return "http://x/y.png"
"""


@dataclass(frozen=True)
class Handler:
    """What every server does for a job."""

    name: str
    busy_s: float


NO_OP = Handler("no-op", 0.0)
BUSY = Handler("20 ms on one device", 0.02)


def install_peers() -> Path:
    """The Python of the virtual environment with the peers; made at the first call and when versions change."""
    python = PEERS / "bin" / "python"
    stamp = PEERS / ".installed"
    if not stamp.exists() or stamp.read_text() != PEER_VERSIONS.read_text():
        print(f"installing {', '.join(PEER_VERSIONS.read_text().split()[-3:])} into build/peers")
        venv.create(PEERS, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "-qq", "-r", PEER_VERSIONS], check=True)
        stamp.write_text(PEER_VERSIONS.read_text())
    return python


@contextmanager
def servers(handler: Handler, folder: Path, peer_python: Path) -> Iterator[list[Target]]:
    """All servers, with one handler."""
    folder.mkdir()
    for name, text in (("handler.py", RUNPOD_LOCAL), ("lit_api.py", LITSERVE), ("predict.py", COG)):
        (folder / name).write_text(text)
    (folder / "cog.yaml").write_text('build:\n  python_version: "3.11"\npredict: "predict.py:Predictor"\n')
    key = secrets.token_hex()
    targets = [
        Target(OURS, free_port(), PATH, b"COMPLETED", f"Authorization: Bearer {key}\r\n"),
        Target("Runpod's local API server", free_port(), "/runsync", b"COMPLETED"),
        Target("LitServe", free_port(), "/predict", b"image_url"),
        Target("Cog", free_port(), "/predictions", b"succeeded"),
        Target("bare FastAPI", free_port(), "/runsync", b"COMPLETED"),
    ]
    ports = [str(target.port) for target in targets]
    ours = {
        "PORT": ports[0],
        "DATA_DIR": str(folder / "data"),
        "MODEL": f"fake:{handler.busy_s}",
        "API_KEY": key,
        "WORKERS": "1",
        # Of the measure and not of the product: a client of Runpod's may ask 200 times a second.
        "RATE_LIMITS": "off",
    }
    peer = {name: value for name, value in plain_environment().items() if name != "PYTHONPATH"}
    peer |= {"BUSY_S": str(handler.busy_s), "PATH": f"{peer_python.parent}{os.pathsep}{os.environ['PATH']}"}
    cog = {"PORT": ports[3], "COG_PREDICT_TYPE_STUB": "predict.py:Predictor", "COG_MAX_CONCURRENCY": str(COG_PLACES)}
    cog |= {"COG_LOG_LEVEL": "error", "RUST_LOG": "error"}
    python, other = sys.executable, str(peer_python)
    commands = [
        ([python, "-m", "flux_endpoint", "serve"], {f"FLUX_ENDPOINT_{name}": value for name, value in ours.items()}),
        ([other, "handler.py", "--rp_serve_api", "--rp_api_port", ports[1], "--rp_log_level", "ERROR"], peer),
        ([other, "lit_api.py", ports[2]], peer),
        ([other, "-m", "cog.server.http", "--host", "127.0.0.1"], peer | cog),
        ([python, "-c", BARE_FASTAPI, ports[4]], {}),
    ]
    with ExitStack() as stack, (folder / "log").open("w") as log:
        for command, environment in commands:
            whole = environment if "BUSY_S" in environment else plain_environment() | environment
            stack.enter_context(running(command, folder, whole, log))
        yield targets


async def compare(targets: list[Target], connections: list[int], rounds: int, seconds: float) -> None:
    """Measure all, round after round; who goes first changes every time."""
    for target in targets:
        await until_ready(target, BODY)
    for number in range(rounds):
        turn = number % len(targets)
        for count in connections:
            for target in targets[turn:] + targets[:turn]:
                target.rounds.setdefault(count, []).append(await measure(target, BODY, count, seconds))


def show(title: str, targets: list[Target], count: int, ideal_per_s: float | None) -> dict[str, object]:
    """Print a table; returns its content."""
    columns = ["server", "p50 ms", "p99 ms", "jobs/s"] + (["share of the ideal"] if ideal_per_s else [])
    table = Table(title=title)
    for column in columns:
        table.add_column(column, justify="left" if column == "server" else "right")
    content: dict[str, object] = {}
    for target in targets:
        measured = target.rounds[count]
        cells = []
        for name in ("p50_ms", "p99_ms", "jobs_per_s"):
            values = [getattr(each, name) for each in measured]
            cells.append(f"{median(values):.1f} ({min(values):.1f}-{max(values):.1f})")
        row: dict[str, object] = {"rounds": [asdict(each) for each in measured]}
        if ideal_per_s:
            share = median(each.jobs_per_s for each in measured) / ideal_per_s
            cells.append(f"{share:.0%}")
            row["share_of_ideal"] = round(share, 3)
        table.add_row(target.name, *cells)
        content[target.name] = row
    Console(width=120).print(table)
    return content


def measure_dialects(rounds: int, seconds: float) -> None:
    """Measure all dialects in turn on one gateway, and print and keep what each costs beside Runpod's."""
    key = secrets.token_hex()
    port = free_port()
    ours = {"PORT": str(port), "MODEL": "fake", "API_KEY": key, "WORKERS": "1", "RATE_LIMITS": "off"}
    targets = {
        name: (Target(name, port, path, marker, f"Authorization: Bearer {key}\r\n{headers}"), json.dumps(body).encode())
        for name, (path, body, marker, headers) in DIALECTS.items()
    }

    async def take_turns() -> None:
        for target, body in targets.values():
            await until_ready(target, body)
        for number in range(rounds):
            order = [*targets.values()]
            turn = number % len(order)
            for count in (1, MANY):
                for target, body in order[turn:] + order[:turn]:
                    target.rounds.setdefault(count, []).append(await measure(target, body, count, seconds))

    with tempfile.TemporaryDirectory() as temporary, (Path(temporary) / "log").open("w") as log:
        environment = {f"FLUX_ENDPOINT_{name}": value for name, value in ours.items()}
        environment |= plain_environment() | {"FLUX_ENDPOINT_DATA_DIR": f"{temporary}/data"}
        with running([sys.executable, "-m", "flux_endpoint", "serve"], Path(temporary), environment, log):
            asyncio.run(take_turns())
    result: dict[str, object] = {"machine": describe_machine(("uvicorn", "sqlalchemy")), "rounds": rounds}
    shown = [target for target, _ in targets.values()]
    for count in (1, MANY):
        content = show(f"dialects, {count} connection(s), median of {rounds} rounds", shown, count, None)
        usual_ms = {target.name: median(each.p50_ms for each in target.rounds[count]) for target in shown}
        beside = {name: round(own_ms / usual_ms["runpod"], 2) for name, own_ms in usual_ms.items()}
        print(f"beside Runpod's: {beside}")
        result[f"{count}"] = content | {"beside_runpod": beside}
    DIALECT_RESULTS.write_text(json.dumps(result, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="per server, round and number of connections")
    parser.add_argument("--only-dialects", action="store_true", help="leave out the other servers")
    arguments = parser.parse_args()
    measure_dialects(arguments.rounds, arguments.seconds)
    if arguments.only_dialects:
        return
    peer_python = install_peers()
    result: dict[str, object] = {
        "machine": describe_machine(("fastapi", "uvicorn", "sqlalchemy", "aiohttp")),
        "peers": [line for line in PEER_VERSIONS.read_text().splitlines() if "==" in line],
        "rounds": arguments.rounds,
        "seconds": arguments.seconds,
    }
    with tempfile.TemporaryDirectory() as temporary:
        for handler, connections in ((NO_OP, [1, MANY]), (BUSY, [MANY])):
            with servers(handler, Path(temporary) / handler.name.replace(" ", "-"), peer_python) as targets:
                # The bare server knows no handler.
                shown = targets[:-1] if handler.busy_s else targets
                asyncio.run(compare(shown, connections, arguments.rounds, arguments.seconds))
            ideal_per_s = 1 / handler.busy_s if handler.busy_s else None
            for count in connections:
                title = f"{handler.name}, {count} connection(s), median of {arguments.rounds} rounds (min-max)"
                result[f"{handler.name}, {count}"] = show(title, shown, count, ideal_per_s)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
