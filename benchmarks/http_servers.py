"""HTTP servers beside each other: what one costs for a request behind which there is nothing.

uvicorn as it comes with each of its two parsers, with the limits of `wiring/connections.py`, and hypercorn and granian,
which have some limits of their own. All run side by side on loopback and are measured in turn, round after round. The
best round of each is shown: what disturbs a server only ever makes it slower. Decision 0023 is drawn from it.

The peers are installed into build/http-servers at the first run.

    python -m benchmarks.http_servers --rounds 5 --seconds 1
"""

import argparse
import asyncio
import subprocess
import sys
import tempfile
import venv
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.load import Target, free_port, measure, plain_environment, running, until_ready

PEERS = Path(__file__).parent.parent / "build" / "http-servers"
VERSIONS = ("granian==2.8.9", "hypercorn==0.18.0", "uvloop==0.23.0")
BODY = b'{"input": {}}'
CONNECTIONS = (1, 32)

NO_OP = """
async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    headers = [(b"content-type", b"application/json"), (b"content-length", b"22")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b'{"status":"COMPLETED"}'})
"""
WITH_LIMITS = """
import asyncio, sys, uvloop
from no_op import app
from flux_endpoint.wiring.http_server import Listener, listen, serving
async def main():
    with listen("127.0.0.1", int(sys.argv[1])) as socket:
        async with serving(app, [Listener(socket)], 75) as (tasks, _):
            await asyncio.wait(tasks)
with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    runner.run(main())
"""


def install_peers() -> Path:
    """The folder of the peers' commands."""
    if not (PEERS / "bin" / "granian").exists():
        venv.create(PEERS, with_pip=True, clear=True)
        subprocess.run([PEERS / "bin" / "python", "-m", "pip", "install", "-qq", *VERSIONS], check=True)
    return PEERS / "bin"


def commands(ports: list[str], peers: Path) -> dict[str, list[str]]:
    uvicorn = [sys.executable, "-m", "uvicorn", "no_op:app", "--log-level", "error", "--no-access-log"]
    uvicorn += ["--loop", "uvloop"]
    hypercorn = [str(peers / "hypercorn"), "no_op:app", "-k", "uvloop", "--config", "hypercorn.toml"]
    granian = [str(peers / "granian"), "--interface", "asgi", "--no-access-log", "--log-level", "error"]
    return {
        "uvicorn with httptools": [*uvicorn, "--http", "httptools", "--port", ports[0]],
        "the same with our limits": [sys.executable, "with_limits.py", ports[1]],
        "uvicorn with h11": [*uvicorn, "--http", "h11", "--port", ports[2]],
        "hypercorn": [*hypercorn, "-b", f"127.0.0.1:{ports[3]}"],
        "granian": [*granian, "--loop", "uvloop", "--port", ports[4], "no_op:app"],
    }


async def compare(targets: list[Target], rounds: int, seconds: float) -> None:
    """Measure all, round after round; who goes first changes every time."""
    for target in targets:
        await until_ready(target, BODY)
    for number in range(rounds):
        turn = number % len(targets)
        for count in CONNECTIONS:
            for target in targets[turn:] + targets[:turn]:
                target.rounds.setdefault(count, []).append(await measure(target, BODY, count, seconds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="per server, round and number of connections")
    arguments = parser.parse_args()
    peers = install_peers()
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        folder = Path(temporary)
        (folder / "no_op.py").write_text(NO_OP)
        (folder / "with_limits.py").write_text(WITH_LIMITS)
        # It would close each connection after a thousand requests.
        (folder / "hypercorn.toml").write_text("keep_alive_max_requests = 1000000000\n")
        environment = plain_environment()
        environment["PYTHONPATH"] = f"{folder}:{environment.get('PYTHONPATH', '')}"
        log = stack.enter_context((folder / "log").open("w"))
        ports = [str(free_port()) for _ in range(5)]
        targets = []
        for port, (name, command) in zip(ports, commands(ports, peers).items(), strict=True):
            stack.enter_context(running(command, folder, environment, log))
            targets.append(Target(name, int(port), "/", b"COMPLETED"))
        asyncio.run(compare(targets, arguments.rounds, arguments.seconds))
    table = Table(title=f"requests/s and p50 in ms, the best of {arguments.rounds} rounds")
    for column in ("server", *(f"{count} connection(s)" for count in CONNECTIONS)):
        table.add_column(column)
    for target in targets:
        best = [max(target.rounds[count], key=lambda each: each.jobs_per_s) for count in CONNECTIONS]
        table.add_row(target.name, *(f"{each.jobs_per_s:,.0f}, {each.p50_ms:.2f} ms" for each in best))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
