"""Clients that speak HTTP themselves: each is one conversation, had again and again until the soak ends."""

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from tests.servers import DEV, SCHNELL
from tests.soak.house import S3_ID, S3_SECRET, SHOUT, House
from tests.soak.journal import PATIENCE_S, TERMINAL, Caller, Journal
from tests.soak.receivers import Receiver

# Asked for by several kinds of clients: the same request gives the same bytes, whoever draws it.
_SAME: Final = [("a red house", 1), ("a lake at dawn", 2), ("a boat in fog", 3)]
_POLL_S: Final = 0.4
# Of the gateways, by default.
LEASE_S: Final = 30
_BIG_TEXT: Final = "x" * 300


@dataclass
class Scene:
    """What conversations need."""

    house: House
    journal: Journal
    random: random.Random
    # API keys by the name of the kind of client.
    keys: dict[str, str]
    hooks: Receiver
    slow_hooks: Receiver
    slow_bucket: Receiver
    number: int = 0
    # When the last conversation begins, in seconds since the start.
    ends_s: float = 0

    def caller(self, client: str) -> Caller:
        """A way to either gateway with the client's key."""
        return Caller(self.journal, client, self.random.choice(self.house.urls), self.keys[client])

    def picture(self, **changes: Any) -> dict[str, Any]:
        """A small picture: at times one that others ask for too, else like no other."""
        self.number += 1
        prompt, seed = self.random.choice(_SAME)
        if self.random.random() < 0.6:
            prompt, seed = f"a house, number {self.number}", self.number
        small = {"width": 256, "height": 256, "num_inference_steps": 2, "image_format": "png"}
        return {"prompt": prompt, "seed": seed, **small, **changes}

    def endpoint(self) -> str:
        """One of the two that draw."""
        return self.random.choice([DEV, SCHNELL])


Conversation = Callable[[Scene], Awaitable[None]]


def _held_s(answer: Any) -> float:
    """How long `/runsync` had to wait: for the worker, for the picture, and for workers that were stopped under it."""
    told_s = (answer.get("delayTime", 0) + answer.get("executionTime", 0)) / 1_000
    return told_s + answer.get("retries", 0) * LEASE_S


async def until_done(caller: Caller, endpoint: str, job_id: str) -> dict[str, Any]:
    """Ask for the state again and again, as most clients do; the last answer."""
    end = time.monotonic() + 5 * PATIENCE_S
    while time.monotonic() < end:
        job = await caller.ask("status", "GET", f"/v2/{endpoint}/status/{job_id}")
        if job is not None and job["status"] in TERMINAL:
            return job
        await asyncio.sleep(_POLL_S)
    caller.journal.surprise(caller.client, f"{job_id} is not done after {5 * PATIENCE_S:.0f} s")
    return {}


async def plain(scene: Scene) -> None:
    """`/run`, polling, the picture; with a webhook; cancels now and then."""
    caller, endpoint = scene.caller("plain"), scene.endpoint()
    body = {"input": scene.picture(), "webhook": scene.hooks.url("plain")}
    job = await caller.ask("run", "POST", f"/v2/{endpoint}/run", body=body)
    if job is not None:
        if scene.random.random() < 0.15:
            caller.journal.promise("plain", job["id"], endpoint, ends=frozenset({"COMPLETED", "CANCELLED"}))
            await caller.ask("cancel", "POST", f"/v2/{endpoint}/cancel/{job['id']}")
        else:
            caller.journal.promise("plain", job["id"], endpoint)
        done = await until_done(caller, endpoint, job["id"])
        if done.get("status") == "COMPLETED":
            await caller.ask("image", "GET", done["output"]["image_url"])
    await caller.ask("health", "GET", f"/v2/{endpoint}/health")
    await caller.close()


async def waiting(scene: Scene) -> None:
    """`/runsync`, which holds the answer until the picture is there."""
    caller, endpoint = scene.caller("waiting"), scene.endpoint()
    path = f"/v2/{endpoint}/runsync?wait=60000"
    job = await caller.ask("runsync", "POST", path, body={"input": scene.picture()}, work_s=_held_s)
    if job is not None:
        caller.journal.promise("waiting", job["id"], endpoint)
        await until_done(caller, endpoint, job["id"])
    await caller.close()


async def careless(scene: Scene) -> None:
    """Input that is refused: told in one line, with 400, and nothing is charged."""
    caller = scene.caller("careless")
    wrong = scene.random.choice([{"width": 100}, {"prompt": ""}, {"seed": "x"}, {"width": 1e400}, {"prompt": None}])
    wrong = {name: str(value) if value == float("inf") else value for name, value in wrong.items()}
    await caller.ask("refused", "POST", f"/v2/{DEV}/run", body={"input": scene.picture() | wrong}, codes=(400,))
    await caller.close()


async def playground(scene: Scene) -> None:
    """What the page asks for: catalogue, estimate, run, events, picture, figures."""
    caller, endpoint = scene.caller("playground"), scene.endpoint()
    await caller.ask("catalogue", "GET", "/v2/endpoints")
    job = await caller.ask("run", "POST", f"/v2/{endpoint}/run", body={"input": scene.picture(image_format="jpeg")})
    if job is not None:
        caller.journal.promise("playground", job["id"], endpoint)
        await caller.events(endpoint, job["id"])
        done = await until_done(caller, endpoint, job["id"])
        if done.get("status") == "COMPLETED":
            await caller.ask("image", "GET", done["output"]["image_url"])
    await caller.ask("usage", "GET", "/v2/usage?range=1h")
    await caller.close()


async def streaming(scene: Scene) -> None:
    """`/stream` until the job is over."""
    caller, endpoint = scene.caller("streaming"), scene.endpoint()
    picture = scene.picture(num_inference_steps=4)
    job = await caller.ask("run", "POST", f"/v2/{endpoint}/run", body={"input": picture})
    if job is not None:
        caller.journal.promise("streaming", job["id"], endpoint)
        status = ""
        while status not in TERMINAL:
            began = time.monotonic()
            # It may hold the answer until something comes, so that there is no wait to judge.
            part = await caller.ask(
                "stream", "GET", f"/v2/{endpoint}/stream/{job['id']}", work_s=lambda _, at=began: time.monotonic() - at
            )
            if part is None:
                break
            status = part["status"]
    await caller.close()


async def batch(scene: Scene) -> None:
    """Three requests as a batch, with a webhook for all."""
    caller, endpoint = scene.caller("batch"), scene.endpoint()
    path = f"/v2/{endpoint}/batch"
    requests = [{"input": scene.picture(), "webhook": scene.hooks.url("batch")} for _ in range(3)]
    made = await caller.ask("batch", "POST", path, body=requests)
    if made is not None:
        await caller.ask("finalize", "POST", f"{path}/{made['id']}/finalize")
        page = await caller.ask("batch requests", "GET", f"{path}/{made['id']}/requests?limit=100")
        for request in page["requests"] if page else []:
            caller.journal.promise("batch", request["id"], endpoint)
        for request in page["requests"] if page else []:
            await until_done(caller, endpoint, request["id"])
    await caller.close()


async def own_bucket(scene: Scene) -> None:
    """The picture goes to the client's bucket, and is fetched from there by the signed link."""
    caller, endpoint = scene.caller("bucket"), scene.endpoint()
    bucket = _bucket(scene.house.s3_url) | {"objectPath": f"{scene.random.randrange(4)}/soak"}
    body = {"input": scene.picture(), "s3Config": bucket, "webhook": scene.hooks.url("bucket")}
    job = await caller.ask("run", "POST", f"/v2/{endpoint}/run", body=body)
    if job is not None:
        caller.journal.promise("bucket", job["id"], endpoint)
        await until_done(caller, endpoint, job["id"])
    await caller.close()


async def shouter(scene: Scene) -> None:
    """An endpoint of one's own, served by Runpod's worker SDK: answers, exceptions, and one that takes too long."""
    caller = scene.caller("shouter")
    text = f"text {scene.random.random()}"
    kind = scene.random.choice(["answer", "answer", "raise", "long"])
    wish: dict[str, Any] = {"text": text + (_BIG_TEXT if scene.random.random() < 0.3 else "")}
    expected: dict[str, Any] = {}
    body: dict[str, Any] = {"input": wish, "webhook": scene.hooks.url("shouter")}
    if kind == "raise":
        wish["raise"] = True
        expected = {"ends": frozenset({"FAILED"}), "reason": "ValueError: asked to"}
    elif kind == "long":
        wish["seconds"] = 600
        body["policy"] = {"executionTimeout": 5_000}
        expected = {"ends": frozenset({"TIMED_OUT"}), "reason": "the job ran longer than its execution timeout"}
    job = await caller.ask("run", "POST", f"/v2/{SHOUT}/run", body=body)
    if job is not None:
        caller.journal.promise("shouter", job["id"], SHOUT, **expected)
        done = await until_done(caller, SHOUT, job["id"])
        if done.get("status") == "COMPLETED" and done["output"] != {"shouted": wish["text"].upper()}:
            caller.journal.surprise("shouter", f"{job['id']} came back as {json.dumps(done['output'])[:200]}")
    await caller.close()


async def nuisance(scene: Scene) -> None:
    """Another key's jobs: webhooks that hang on many hosts, and a bucket that takes everything and never answers."""
    caller = scene.caller("nuisance")
    for _ in range(20):
        hook = scene.slow_hooks.url("nuisance", f"127.0.{scene.random.randrange(1, 50)}.{scene.random.randrange(250)}")
        job = await caller.ask("run", "POST", f"/v2/{DEV}/run", body={"input": scene.picture(), "webhook": hook})
        if job is not None:
            caller.journal.promise("nuisance", job["id"], DEV, ends=frozenset({"CANCELLED", "COMPLETED"}))
            await caller.ask("cancel", "POST", f"/v2/{DEV}/cancel/{job['id']}")
    bucket = _bucket(f"http://127.0.0.1:{scene.slow_bucket.port}")
    job = await caller.ask("run", "POST", f"/v2/{DEV}/run", body={"input": scene.picture(), "s3Config": bucket})
    if job is not None:
        caller.journal.promise("nuisance", job["id"], DEV, ends=frozenset({"FAILED"}), reason="s3Config")
        await until_done(caller, DEV, job["id"])
    await caller.close()


async def curl(scene: Scene) -> None:
    """The program itself, as every quickstart shows it."""
    journal, endpoint, url = scene.journal, scene.endpoint(), scene.random.choice(scene.house.urls)
    process = await asyncio.create_subprocess_exec(
        *(
            "curl",
            "-sS",
            "--noproxy",
            "*",
            "-w",
            "\n%{http_code} %{time_total}",
            f"{url}/v2/{endpoint}/runsync?wait=60000",
        ),
        *("-H", f"Authorization: Bearer {scene.keys['curl']}", "-d", json.dumps({"input": scene.picture()})),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    began_s = journal.now_s()
    out, err = await process.communicate()
    body, _, last = out.decode().rpartition("\n")
    code, seconds = last.split()
    if code != "200":
        journal.surprise("curl", f"HTTP {code}: {body} {err.decode()}")
        return
    job = json.loads(body)
    journal.waited("curl", "runsync", began_s, float(seconds) - _held_s(job), int(code))
    journal.promise("curl", job["id"], endpoint)


def _bucket(url: str) -> dict[str, str]:
    return {"accessId": S3_ID, "accessSecret": S3_SECRET, "bucketName": "theirs", "endpointUrl": url}


# Each kind, and how long it rests between two conversations, in seconds.
CONVERSATIONS: Final[dict[str, tuple[Conversation, float]]] = {
    "plain": (plain, 2),
    "waiting": (waiting, 4),
    "careless": (careless, 3),
    "playground": (playground, 5),
    "streaming": (streaming, 6),
    "batch": (batch, 12),
    "bucket": (own_bucket, 6),
    "shouter": (shouter, 1),
    "nuisance": (nuisance, 15),
    "curl": (curl, 6),
}
