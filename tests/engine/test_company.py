"""Pictures that are drawn in turn with others have the bytes that they have alone."""

from collections.abc import Generator, Mapping
from itertools import pairwise, product
from typing import Any

import pytest

from flux_endpoint.core.catalog import CATALOG, FLUX_DEV, FLUX_SCHNELL
from flux_endpoint.core.generation import parse_input
from flux_endpoint.engine.factory import build_engines
from flux_endpoint.engine.protocol import EncodedImage, Engine, StepDone

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


def step(slices: Generator[StepDone, None, EncodedImage]) -> bytes | None:
    """Draw one slice; the file after the last."""
    try:
        next(slices)
    except StopIteration as end:
        image: EncodedImage = end.value
        return image.data
    return None


def test_sixteen_mixed_pictures_have_the_same_bytes_together_and_alone(engines: Mapping[str, Engine]) -> None:
    def begin(name: str) -> Generator[StepDone, None, EncodedImage]:
        endpoint_id, fields = jobs()[name]
        return engines[endpoint_id].generate(parse_input(fields, CATALOG[endpoint_id]))

    # One slice each, round after round: more company than any rule gives, and no picture has two slices in a row.
    drawing, together, order = {name: begin(name) for name in jobs()}, {}, []
    while drawing:
        for name, slices in list(drawing.items()):
            order.append(name)
            if data := step(slices):
                together[name] = data
                del drawing[name]
    assert not any(one == following for one, following in pairwise(order))

    alone = {}
    for name in reversed(jobs()):
        slices = begin(name)
        while (data := step(slices)) is None:
            pass
        alone[name] = data
    assert len(set(together.values())) == len(jobs()) == 16
    assert together == alone
