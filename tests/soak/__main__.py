"""Runs the soak: `python -m tests.soak --minutes 20 --seed 7`. Exits 0 when the audit finds nothing."""

import argparse
import asyncio
import logging
import random
import secrets
import time
from pathlib import Path

from tests.servers import DEV, SCHNELL
from tests.soak.audit import audit
from tests.soak.clients import CONVERSATIONS, Conversation, Scene
from tests.soak.house import SHOUT, House
from tests.soak.journal import Journal
from tests.soak.receivers import Receiver
from tests.soak.report import write_report
from tests.soak.sdk_clients import Node, python_async, python_sync
from tests.soak.troubles import make_trouble

_KINDS = (*CONVERSATIONS, "python", "node")
_SAMPLE_S = 5.0
# After the last conversation has begun: for it to end, and for what was done to the house to be mended.
_SETTLE_S = 300.0


async def _again_and_again(scene: Scene, conversation: Conversation, rest_s: float) -> None:
    """Have a conversation until the soak ends; the last one is had to its end."""
    await asyncio.sleep(scene.random.uniform(0, rest_s))
    while scene.journal.now_s() < scene.ends_s:
        await conversation(scene)
        await asyncio.sleep(scene.random.uniform(0.5, 1.5) * rest_s)


async def _sample(scene: Scene) -> None:
    while True:
        for name, size in scene.house.memory().items():
            scene.journal.memory.append((scene.journal.now_s(), name, size))
        await asyncio.sleep(_SAMPLE_S)


async def _warm(scene: Scene) -> None:
    """One job for each worker, so that the soak begins with a house that stands."""
    caller = scene.caller("plain")
    for endpoint, given in ((DEV, scene.picture()), (SCHNELL, scene.picture()), (SHOUT, {"text": "x"})):
        end = time.monotonic() + 120
        while (await caller.ask("warm", "POST", f"/v2/{endpoint}/runsync?wait=60000", body={"input": given}))[
            "status"
        ] != "COMPLETED":
            if time.monotonic() > end:
                raise SystemExit(f"no worker serves {endpoint}; see the logs in {scene.house.folder}")
    await caller.close()


async def _soak(house: House, seed: int, minutes: float, folder: Path) -> bool:
    secrets_of: dict[str, str] = {}
    keys = {}
    for kind in _KINDS:
        words = house.command("keys", "create", kind).split()
        keys[kind] = words[-1]
        secrets_of[kind] = house.command("webhooks", "secret", words[1]).strip()
    hooks = Receiver(secrets_of.__getitem__)
    slow_hooks, slow_bucket = Receiver(is_slow=True), Receiver(is_slow=True)
    for receiver in (hooks, slow_hooks, slow_bucket):
        await receiver.start()
    scene = Scene(house, Journal(), random.Random(seed), keys, hooks, slow_hooks, slow_bucket)
    await _warm(scene)
    scene.journal = journal = Journal()
    scene.ends_s = minutes * 60
    node = Node()
    await node.start(scene)
    beside = [asyncio.create_task(work) for work in (journal.watch_the_loop(), _sample(scene))]
    trouble = asyncio.create_task(make_trouble(scene))
    talks = [
        *((talk, rest_s) for talk, rest_s in CONVERSATIONS.values()),
        *((python_sync, 6.0), (python_async, 6.0), (node.visit, 6.0)),
    ]
    conversations = asyncio.gather(*(_again_and_again(scene, talk, rest_s) for talk, rest_s in talks))
    try:
        await asyncio.wait({trouble, conversations}, timeout=scene.ends_s, return_when=asyncio.FIRST_EXCEPTION)
        if not trouble.cancel():
            trouble.result()
        house.move_clock(0)
        for name in ("worker-2", "shouter"):
            if house.processes[name].poll() is not None:
                house.restart(name)
        await asyncio.wait_for(conversations, _SETTLE_S)
        await _settle(scene)
        verdict = await audit(scene)
    finally:
        for task in beside:
            task.cancel()
        await node.close()
        for receiver in (hooks, slow_hooks, slow_bucket):
            await receiver.close()
    write_report(folder, journal, verdict, seed=seed, minutes=minutes)
    print((folder / "soak.md").read_text())
    return not verdict.faults


async def _settle(scene: Scene) -> None:
    """Until nothing waits or runs any more, and good receivers have been told."""
    caller = scene.caller("plain")
    end = time.monotonic() + _SETTLE_S
    while time.monotonic() < end:
        queues = [(await caller.ask("health", "GET", f"/v2/{each}/health"))["jobs"] for each in (DEV, SCHNELL, SHOUT)]
        if not any(queue["inQueue"] + queue["inProgress"] for queue in queues):
            break
        await asyncio.sleep(1)
    await asyncio.sleep(6)
    await caller.close()


def main() -> int:
    """Run it, and say what was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    parser.add_argument("--port", type=int, help="the first of three; free ones without it")
    parser.add_argument("--out", type=Path, default=Path("build/soak"), help="folder of the report")
    options = parser.parse_args()
    # The database's package logs every command, and turns on everybody else's.
    logging.disable(logging.INFO)
    print(f"seed {options.seed}, {options.minutes:g} minutes", flush=True)
    house = House([options.port + n for n in range(3)] if options.port else None)
    try:
        house.start()
        is_right = asyncio.run(_soak(house, options.seed, options.minutes, options.out))
    finally:
        options.out.mkdir(parents=True, exist_ok=True)
        for log in house.folder.glob("*.log"):
            (options.out / log.name).write_bytes(log.read_bytes())
        house.close()
    return 0 if is_right else 1


if __name__ == "__main__":
    raise SystemExit(main())
