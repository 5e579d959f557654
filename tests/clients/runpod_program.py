"""Scenarios for Runpod's Python client, whichever version Python finds; their results are one line of JSON.

python runpod_program.py BASE_URL SCENARIO ...
"""

import asyncio
import json
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the client's own
    import aiohttp
    import requests
    import runpod

DEV = "black-forest-labs-flux-1-dev"
LAKE = {"prompt": "a lake", "width": 256, "height": 256, "seed": 7}
SLOW = {**LAKE, "num_inference_steps": 8}


def wrong(call: Callable[[], Any]) -> str:
    """The words with which a call fails."""
    try:
        return f"no error, but {call()}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def endpoint() -> Any:
    return runpod.Endpoint(DEV)


def pictures() -> Any:
    links = [endpoint().run_sync({"input": LAKE}, timeout=60)["image_url"] for _ in range(2)]
    first, second = [requests.get(link, timeout=60).content for link in links]
    return {"is_jpeg": first.startswith(b"\xff\xd8\xff"), "are_equal": first == second}


def bad_input() -> Any:
    async def asynchronously() -> Any:
        async with aiohttp.ClientSession() as session:
            job = await runpod.AsyncioEndpoint(DEV, session).run({**LAKE, "width": 100})
            # The body of a 400 is taken for an accepted job: its id leads to the reason.
            return [await job.status(), job.job_id]

    status, job_id = asyncio.run(asynchronously())
    headers = {"Authorization": f"Bearer {runpod.api_key}"}
    told = requests.get(f"{runpod.endpoint_url_base}/{DEV}/status/{job_id}", headers=headers, timeout=60).json()
    return {
        "sync": wrong(lambda: endpoint().run_sync({"input": {**LAKE, "width": 100}}, timeout=60)),
        "async": [status, told["error"]],
    }


def slow() -> Any:
    job = endpoint().run({"input": SLOW})
    before = job.status()
    steps = [chunk["step"] for chunk in job.stream()]
    return {"before": before, "steps": steps, "link": job.output(timeout=60)["image_url"], "after": job.status()}


def cancel() -> Any:
    job = endpoint().run({"input": SLOW})
    return {"cancelled": job.cancel()["status"], "status": job.status(), "output": job.output(timeout=60)}


def failed() -> Any:
    job = endpoint().run({"input": LAKE})
    return {"output": job.output(timeout=60), "status": job.status()}


# --- The client that version 2 adds: what fails raises, with the reason. ---


def queue() -> Any:
    return runpod.Queue(app="any", id=DEV)


def queue_pictures() -> Any:
    links = [queue().remote(**LAKE)["image_url"] for _ in range(2)]
    first, second = [requests.get(link, timeout=60).content for link in links]
    return {"is_jpeg": first.startswith(b"\xff\xd8\xff"), "are_equal": first == second}


def queue_bad_input() -> Any:
    return wrong(lambda: queue().remote(**{**LAKE, "width": 100}))


def queue_slow() -> Any:
    job = queue().with_options(low_priority=True).spawn(**SLOW)
    steps = [chunk["step"] for chunk in job.stream()]
    return {"steps": steps, "link": job.result()["image_url"], "status": job.status()}


def queue_cancel() -> Any:
    job = queue().spawn(**SLOW)
    return {"cancelled": job.cancel().status(), "result": job.result()}


def queue_failed() -> Any:
    return wrong(lambda: queue().remote(**LAKE))


def queue_unknown() -> Any:
    """What a job that is not there costs: its pauses are counted, not waited for."""
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    asyncio.sleep = pause
    return {"error": wrong(queue().job("nobody-e1").status), "pauses": pauses}


def main() -> None:
    base_url, *scenarios = sys.argv[1:]
    runpod.endpoint_url_base, runpod.api_key = f"{base_url}/v2", os.environ["RUNPOD_API_KEY"]
    print(json.dumps({name: globals()[name]() for name in scenarios} | {"version": runpod.__version__}))


main()
