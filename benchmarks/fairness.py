"""What short pictures wait behind a long one, and what that costs the long one: in turn, and first come, first served.

One worker's engine thread with the embedded models and 1 or 4 pictures at once; jobs come from a list, as a gateway
would hand them out. A long picture is taken first, short ones come while it is drawn.

    python -m benchmarks.fairness --shorts 8 --rounds 3
"""

import argparse
import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch

from benchmarks.machine import describe_machine
from flux_endpoint.core.catalog import CATALOG, FLUX_DEV, FLUX_SCHNELL, ModelSpec
from flux_endpoint.core.generation import GenerationRequest, parse_input
from flux_endpoint.core.picture_work import picture_work
from flux_endpoint.engine.factory import build_engines
from flux_endpoint.engine.protocol import Drawing, Engine
from flux_endpoint.worker.runner import EngineThread, StopFlag
from flux_endpoint.worker.turns import Room, Shape

RESULTS = Path(__file__).parent / "results" / "fairness.json"


@dataclass
class Timed:
    """An engine whose slices are timed: from when to when each was drawn."""

    engine: Engine
    slices: list[tuple[float, float]]

    def generate(self, request: GenerationRequest) -> Drawing:
        steps = self.engine.generate(request)
        while True:
            started_s = time.perf_counter()
            try:
                step = next(steps)
            except StopIteration as end:
                return end.value
            finally:
                self.slices.append((started_s, time.perf_counter()))
            yield step


@dataclass
class Job:
    """A picture that is asked for `due_s` seconds after the start."""

    name: str
    spec: ModelSpec
    request: GenerationRequest
    due_s: float
    ended_s: float = 0.0
    done: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def latency_s(self) -> float:
        return self.ended_s - self.due_s


class Worker:
    """Takes jobs that are due, the first first, as far as the engine thread has room for them."""

    def __init__(self, engines: Mapping[str, Engine], slots: int) -> None:
        self.slices: list[tuple[float, float]] = []
        self._engines = {name: Timed(engine, self.slices) for name, engine in engines.items()}
        self._thread = EngineThread(slots)
        self._came = asyncio.Event()
        self._waiting: list[Job] = []
        self._drawing: set[asyncio.Task[None]] = set()

    async def run(self, jobs: list[Job]) -> None:
        """Draw all jobs; `due_s` counts from now."""
        began_s = time.perf_counter()
        for job in jobs:
            job.due_s += began_s
        coming = asyncio.create_task(self._let_come(jobs))
        taking = asyncio.create_task(self._take())
        await asyncio.gather(coming, *(job.done.wait() for job in jobs))
        taking.cancel()
        await asyncio.gather(*self._drawing)

    def close(self) -> None:
        self._thread.close(10)

    async def _let_come(self, jobs: list[Job]) -> None:
        for job in sorted(jobs, key=lambda one: one.due_s):
            await asyncio.sleep(max(0.0, job.due_s - time.perf_counter()))
            self._waiting.append(job)
            self._came.set()

    async def _take(self) -> None:
        while True:
            room = await self._thread.room()
            job = next((one for one in self._waiting if fits(one, room)), None)
            if job is None:
                self._came.clear()
                try:
                    async with asyncio.timeout(room.for_s):
                        await self._came.wait()
                except TimeoutError:
                    pass
                continue
            self._waiting.remove(job)
            task = asyncio.create_task(self._draw(job))
            self._drawing.add(task)
            task.add_done_callback(self._drawing.discard)
            # It has been handed to the thread before the thread is asked for room again.
            await asyncio.sleep(0)

    async def _draw(self, job: Job) -> None:
        fields = job.request.to_input()
        shape = Shape.of(job.spec.endpoint_id, fields)
        engine: Any = self._engines[job.spec.endpoint_id]
        await self._thread.generate(job.name, engine, job.request, shape, StopFlag(), lambda _: None)
        job.ended_s = time.perf_counter()
        job.done.set()


def fits(job: Job, room: Room) -> bool:
    work = picture_work(job.request.to_input())
    return room.at_most is None or (work is not None and work <= room.at_most)


def job_of(name: str, spec: ModelSpec, due_s: float, **fields: object) -> Job:
    prompt = {"prompt": "A red boat on a lake at sunset", "seed": 1, "image_format": "jpeg"}
    return Job(name, spec, parse_input(prompt | fields, spec), due_s)


def long_job() -> Job:
    return job_of("long", FLUX_DEV, 0.0, width=1536, height=1536, num_inference_steps=50)


async def measure(engines: Mapping[str, Engine], slots: int, shorts: int, alone_s: float) -> dict[str, Any]:
    """One long picture and short ones spread over its time, with so many pictures at once."""
    worker = Worker(engines, slots)
    times_s = [alone_s * (number + 1) / (shorts + 1) for number in range(shorts)]
    jobs = [job_of(f"short {n}", FLUX_SCHNELL, due_s, width=256, height=256) for n, due_s in enumerate(times_s)]
    first = long_job()
    await worker.run([first, *jobs])
    worker.close()
    starts = sorted(worker.slices)
    gaps_s = [later[0] - earlier[1] for earlier, later in pairwise(starts)]
    whole_s = max(end for _, end in starts) - starts[0][0]
    return {
        "shorts_s": [job.latency_s for job in jobs],
        "long_s": first.latency_s,
        "gaps_s": gaps_s,
        "busy": sum(end - start for start, end in starts) / whole_s,
    }


async def alone(engines: Mapping[str, Engine]) -> float:
    worker, job = Worker(engines, 1), long_job()
    await worker.run([job])
    worker.close()
    return job.latency_s


def p95(values: list[float]) -> float:
    return quantiles(values, n=20, method="inclusive")[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shorts", type=int, default=8, help="short pictures while a long one is drawn")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--slots", type=int, default=4, help="pictures at once")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    engines = build_engines({spec.endpoint_id: "demo" for spec in (FLUX_DEV, FLUX_SCHNELL)}, CATALOG)
    for engine in engines.values():
        engine.load()
    asyncio.run(alone(engines))  # what is slow once is not counted
    rounds: dict[str, list[dict[str, Any]]] = {"first_come": [], "in_turn": []}
    alones_s: list[float] = []
    for _ in range(arguments.rounds):
        alones_s.append(asyncio.run(alone(engines)))
        for name, slots in (("first_come", 1), ("in_turn", arguments.slots)):
            rounds[name].append(asyncio.run(measure(engines, slots, arguments.shorts, alones_s[-1])))
    waits = {name: p95([one for round in found for one in round["shorts_s"]]) for name, found in rounds.items()}
    gaps_s = [gap for round in rounds["in_turn"] for gap in round["gaps_s"]]
    slowdowns = [round["long_s"] / alone_s for round, alone_s in zip(rounds["in_turn"], alones_s, strict=True)]
    result = {
        "machine": describe_machine(("torch", "diffusers")) | {"threads": 1},
        "long": "Flux Dev 1536 x 1536, 50 steps",
        "short": f"Flux Schnell 256 x 256, 4 steps; {arguments.shorts} while a long one is drawn",
        "rounds": arguments.rounds,
        "long_alone_s": [round(value, 2) for value in alones_s],
        "short_p95_s": {name: round(value, 3) for name, value in waits.items()},
        "short_p95_ratio": round(waits["in_turn"] / waits["first_come"], 3),
        "long_slowdown": {"median": round(median(slowdowns), 3), "worst": round(max(slowdowns), 3)},
        "gap_ms": {"median": round(median(gaps_s) * 1_000, 2), "p95": round(p95(gaps_s) * 1_000, 2)},
        "busy": round(median(round["busy"] for round in rounds["in_turn"]), 4),
    }
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
