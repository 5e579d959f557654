"""Pictures that are drawn in turn with others have the bytes that they have alone."""

import asyncio
from collections.abc import Mapping
from itertools import product
from typing import Any

import pytest

from flux_endpoint.core.catalog import CATALOG, FLUX_DEV, FLUX_SCHNELL
from flux_endpoint.core.generation import parse_input
from flux_endpoint.engine.factory import build_engines
from flux_endpoint.engine.protocol import Engine
from flux_endpoint.worker.runner import EngineThread, StopFlag
from flux_endpoint.worker.turns import Shape

SIZES = ((256, 256), (320, 256))
LEVELS = ("none", "high")


@pytest.fixture(scope="module")
def engines() -> Mapping[str, Engine]:
    loaded = build_engines({spec.endpoint_id: "demo" for spec in (FLUX_DEV, FLUX_SCHNELL)}, CATALOG)
    for engine in loaded.values():
        engine.load()
    return loaded


def jobs() -> dict[str, tuple[str, dict[str, Any]]]:
    """Sixteen, no two alike: both models, sizes, formats, levels, with and without a negative prompt."""
    found = {}
    choices = product((FLUX_DEV, FLUX_SCHNELL), SIZES, LEVELS, ("", "snow"))
    for number, (spec, (width, height), level, negative) in enumerate(choices):
        fields = {"width": width, "height": height, "acceleration": level, "negative_prompt": negative, "seed": number}
        more = {"num_inference_steps": 2 + number % 3, "image_format": ("png", "jpeg", "webp")[number % 3]}
        found[f"job-{number}"] = (spec.endpoint_id, {"prompt": "a castle on a hill"} | fields | more)
    return found


def test_sixteen_mixed_pictures_have_the_same_bytes_together_and_alone(engines: Mapping[str, Engine]) -> None:
    async def draw(name: str, thread: EngineThread) -> bytes:
        endpoint_id, fields = jobs()[name]
        request = parse_input(fields, CATALOG[endpoint_id])
        shape = Shape.of(endpoint_id, request.to_input())
        image = await thread.generate(name, engines[endpoint_id], request, shape, StopFlag(), steps.append)
        return image.data

    steps: list[object] = []

    async def scenario() -> tuple[list[bytes], list[bytes]]:
        thread = EngineThread(len(jobs()))
        together = await asyncio.gather(*(draw(name, thread) for name in jobs()))
        alone = [await draw(name, thread) for name in reversed(jobs())]
        assert thread.close(10)
        return together, alone[::-1]

    together, alone = asyncio.run(scenario())
    assert len(set(together)) == len(jobs()) == 16
    assert together == alone
