"""Pictures that are drawn in turn with others have the bytes that they have alone, also when one of them is stopped."""

import asyncio
import threading
from collections import Counter
from collections.abc import Mapping
from itertools import count, pairwise, product
from typing import Any

import pytest

from flux_endpoint.core.catalog import CATALOG, FLUX_DEV, FLUX_SCHNELL
from flux_endpoint.core.generation import GenerationRequest, parse_input
from flux_endpoint.engine.protocol import NO_SOURCES, Drawing, Engine, finish
from tests.unit.gateway_in_memory import DEADLINE_S, DEV, GatewayInMemory, job, working

# Of the last one, pixels are made in slices, too.
SIZES = ((256, 256), (320, 256), (576, 512))
LEVELS = ("none", "regular", "high")


@pytest.fixture(scope="module")
def engines(embedded: Mapping[str, Engine]) -> Mapping[str, Engine]:
    return embedded


def jobs() -> dict[str, tuple[str, dict[str, Any]]]:
    """Eighteen, no two alike: both models, sizes, levels, formats, with and without a negative prompt."""
    found = {}
    for number, (spec, (width, height), level) in enumerate(product((FLUX_DEV, FLUX_SCHNELL), SIZES, LEVELS)):
        negative = "snow" if number % 2 else ""
        fields = {"width": width, "height": height, "acceleration": level, "negative_prompt": negative, "seed": number}
        more = {"num_inference_steps": 1 + number % 3, "image_format": ("png", "jpeg", "webp")[number // 3 % 3]}
        found[f"job-{number}"] = (spec.endpoint_id, {"prompt": "a castle on a hill"} | fields | more)
    return found


def advance(drawing: Drawing) -> bytes | None:
    """Draw one slice; the file after the last."""
    try:
        next(drawing)
    except StopIteration as end:
        data: bytes = end.value().data
        return data
    return None


def test_mixed_pictures_have_the_same_bytes_together_and_alone(engines: Mapping[str, Engine]) -> None:
    def begin(name: str) -> Drawing:
        endpoint_id, fields = jobs()[name]
        return engines[endpoint_id].generate(parse_input(fields, CATALOG[endpoint_id]))

    # One slice each, round after round: more company than any rule gives, and hardly two slices of one in a row.
    drawing, together, order = {name: begin(name) for name in jobs()}, {}, []
    while drawing:
        for name, slices in list(drawing.items()):
            order.append(name)
            if data := advance(slices):
                together[name] = data
                del drawing[name]
    alone = {name: finish(begin(name)).data for name in reversed(jobs())}
    assert len(set(together.values())) == len(jobs()) == 18
    assert together == alone
    slices_of = Counter(order)
    small, large = ("job-0", "job-6")
    assert slices_of[small] < slices_of[large] - 5
    assert sum(one == following for one, following in pairwise(order)) < len(order) / 10


class Gated:
    """The embedded model, which waits in some slices until it may go on.

    Args:
        gates: prompts, and the slice of each in which to wait.
    """

    def __init__(self, engine: Engine, gates: Mapping[str, int]) -> None:
        self.permits = threading.Semaphore(0)
        self.slices: list[str] = []
        self._engine = engine
        self._gates = gates
        self._waits = threading.Semaphore(0)

    def generate(self, request: GenerationRequest, sources: Mapping[str, bytes] = NO_SOURCES) -> Drawing:
        slices = self._engine.generate(request, sources)
        while True:
            self.slices.append(request.prompt)
            if self.slices.count(request.prompt) == self._gates.get(request.prompt):
                self._waits.release()
                assert self.permits.acquire(timeout=DEADLINE_S)
            try:
                step = next(slices)
            except StopIteration as end:
                return end.value
            yield step

    async def wait_at_gate(self) -> None:
        assert await asyncio.to_thread(self._waits.acquire, timeout=DEADLINE_S)


@pytest.mark.anyio
@pytest.mark.parametrize("reason", ["timeout", "lost lease"])
@pytest.mark.parametrize("victim", ["long", "short"])
async def test_only_the_picture_that_must_end_does_and_the_others_have_their_bytes(
    engines: Mapping[str, Engine], reason: str, victim: str
) -> None:
    def job_named(name: str, steps: int) -> dict[str, Any]:
        # The lease is asked for every 10 ms.
        return job(name, steps, lease_ms=30, prompt=name, width=64 if steps < 9 else 256, image_format="jpeg")

    bodies = {"long": job_named("long", 30), "short": job_named("short", 3), "other": job_named("other", 4)}
    gateway, engine, clock = GatewayInMemory(), Gated(engines[DEV], {"long": 5, "short": 2}), count()
    async with working(gateway, engine, slots=3, monotonic_s=lambda: float(next(clock))):
        # All three are held when the long one, and then a short one, wait in their slices.
        gateway.jobs.put_nowait(bodies["long"])
        await engine.wait_at_gate()
        for name in ("short", "other"):
            gateway.jobs.put_nowait(bodies[name])
        while await gateway.next(gateway.pings) != "long,short,other":
            pass
        if victim == "short":
            engine.permits.release()
            await engine.wait_at_gate()
        drawn = Counter(engine.slices)[victim]
        if reason == "timeout":
            await gateway.stop(victim)
        else:
            gateway.not_held = [victim]
            gateway.pings = asyncio.Queue()
            # When the second one comes, the answer to the first has been read.
            for _ in range(2):
                await gateway.next(gateway.pings)
        engine.permits.release(2)
        results = dict([await gateway.next(gateway.results), await gateway.next(gateway.results)])
    assert Counter(engine.slices)[victim] == drawn
    assert gateway.results.empty()
    for name in bodies.keys() - {victim}:
        alone = finish(engines[DEV].generate(GenerationRequest.from_input(bodies[name]["input"])))
        assert results[name] == ("image/jpeg", alone.data, list(alone.warnings))
