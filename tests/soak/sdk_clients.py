"""Clients made by others, unmodified: Runpod's Python SDK in both forms, its JavaScript SDK and its AI SDK provider."""

import asyncio
import json
import os
import time
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import aiohttp

from tests.servers import DEV, SCHNELL
from tests.soak.clients import Scene

_NODE = Path(__file__).parents[1] / "clients" / "node"
_VISIT_S = 120.0


def load_runpod(scene: Scene) -> ModuleType:
    """The SDK, whose address and key are the module's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import runpod
    runpod.endpoint_url_base = f"{scene.house.urls[0]}/v2"
    runpod.api_key = scene.keys["python"]
    return runpod


async def python_sync(scene: Scene) -> None:
    """`run`, `status`, `output` and `run_sync` of the blocking client, in a thread."""
    runpod, picture = load_runpod(scene), scene.picture(num_inference_steps=2)
    is_sync = scene.random.random() < 0.5

    def talk() -> str:
        endpoint = runpod.Endpoint(SCHNELL)
        if is_sync:
            output = endpoint.run_sync({"input": picture}, timeout=int(_VISIT_S))
            return "" if output and "image_url" in output else f"run_sync returned {output}"
        began_s, began = scene.journal.now_s(), time.monotonic()
        job = endpoint.run({"input": picture})
        scene.journal.waited("python", "run", began_s, time.monotonic() - began, 200)
        scene.journal.promise("python", job.job_id, SCHNELL)
        output = job.output(timeout=int(_VISIT_S))
        return "" if output and "image_url" in output else f"output of {job.job_id} is {output}"

    try:
        complaint = await asyncio.to_thread(talk)
    except Exception as error:
        complaint = repr(error)
    if complaint:
        scene.journal.surprise("python", complaint)


async def python_async(scene: Scene) -> None:
    """`AsyncioEndpoint`."""
    runpod = load_runpod(scene)
    try:
        async with aiohttp.ClientSession() as session:
            began_s, began = scene.journal.now_s(), time.monotonic()
            job = await runpod.AsyncioEndpoint(DEV, session).run(scene.picture())
            scene.journal.waited("python", "run", began_s, time.monotonic() - began, 200)
            scene.journal.promise("python", job.job_id, DEV)
            output = await job.output(timeout=int(_VISIT_S))
        if not output or "image_url" not in output:
            scene.journal.surprise("python", f"output of {job.job_id} is {output}")
    except Exception as error:
        scene.journal.surprise("python", repr(error))


class Node:
    """One Node process that visits again and again, as a service does."""

    async def start(self, scene: Scene) -> None:
        """Start it, at the second gateway."""
        self._process = await asyncio.create_subprocess_exec(
            "node",
            "soak.mjs",
            cwd=_NODE,
            env=os.environ
            | {"BASE_URL": f"{scene.house.urls[1]}/v2", "API_KEY": scene.keys["node"], "ENDPOINT": SCHNELL},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )

    async def visit(self, scene: Scene) -> None:
        """One scenario."""
        scene.number += 1
        name = scene.random.choice(["runSync", "runThenStatus", "stream", "image"])
        began_s = scene.journal.now_s()
        answer = await self._ask({"name": name, "prompt": f"a lake, number {scene.number}"})
        if "failed" in answer or answer["status"] != "COMPLETED":
            scene.journal.surprise("node", f"{name}: {json.dumps(answer)}")
        if "id" in answer:
            scene.journal.promise("node", answer["id"], SCHNELL)
        if "runMs" in answer:
            scene.journal.waited("node", "run", began_s, answer["runMs"] / 1_000, 200)

    async def _ask(self, wish: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(wish).encode() + b"\n")
        try:
            line = await asyncio.wait_for(self._process.stdout.readline(), _VISIT_S)
        except TimeoutError:
            return {"failed": f"no answer within {_VISIT_S:.0f} s"}
        return json.loads(line)

    async def close(self) -> None:
        """End it."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.communicate()
