"""A picture that stopped as a draft and was finished has the bytes of one that never stopped."""

import hashlib
import io
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from flux_endpoint.core.catalog import FLUX_DEV, FLUX_SCHNELL, ModelSpec
from flux_endpoint.core.drafts import Draft, read_header
from flux_endpoint.core.errors import InvalidRequest
from flux_endpoint.core.generation import GenerationRequest, parse_input
from flux_endpoint.core.marks import parameters_in
from flux_endpoint.core.negative_mode import NegativeMode
from flux_endpoint.engine.fake import FakeEngine
from flux_endpoint.engine.protocol import NO_SOURCES, EncodedImage, Engine, finish
from flux_endpoint.files.lora_shelf import shelf_of
from tests.engine.conftest import make_request
from tests.engine.test_editing import kept, mask, picture

Engines = Mapping[str, Engine]
LORAS = [{"path": "screenprint", "scale": 0.7}]


def drafted(
    engine: Engine, request: GenerationRequest, stop_after: int, sources: Mapping[str, bytes] = NO_SOURCES
) -> tuple[EncodedImage, GenerationRequest, dict[str, bytes]]:
    """A draft, and the request and files that finish it."""
    draft = finish(engine.generate(replace(request, stop_after=stop_after), sources))
    sha256 = hashlib.sha256(draft.latents).hexdigest()
    return draft, request.finishing(Draft("k", sha256, stop_after)), {**sources, sha256: draft.latents}


def in_two_goes(
    engine: Engine, request: GenerationRequest, stop_after: int, sources: Mapping[str, bytes] = NO_SOURCES
) -> EncodedImage:
    _, rest, files = drafted(engine, request, stop_after, sources)
    return finish(engine.generate(rest, files))


@pytest.mark.parametrize(
    ("spec", "stop_after", "fields"),
    [
        (FLUX_DEV, 1, {"num_inference_steps": 3}),
        (FLUX_DEV, 2, {"num_inference_steps": 3, "negative_prompt": "snow"}),
        (FLUX_DEV, 1, {"num_inference_steps": 2, "negative_prompt": "snow", "negative_mode": "nag"}),
        (FLUX_DEV, 2, {"num_inference_steps": 3, "loras": LORAS, "negative_prompt": "snow"}),
        (FLUX_DEV, 1, {"num_inference_steps": 3, "acceleration": "regular", "negative_prompt": "snow"}),
        # Before, at and behind the first steps that `high` does not compute.
        *((FLUX_DEV, steps, {"num_inference_steps": 10, "acceleration": "high"}) for steps in (4, 6, 7)),
        (FLUX_SCHNELL, 3, {"negative_prompt": "snow"}),
        (FLUX_SCHNELL, 2, {"acceleration": "high", "image_format": "jpeg"}),
        (FLUX_SCHNELL, 1, {"loras": LORAS, "image_format": "webp"}),
    ],
)
def test_a_finished_draft_is_the_picture_that_never_stopped(
    embedded: Engines, spec: ModelSpec, stop_after: int, fields: dict[str, Any]
) -> None:
    size = {"width": 256, "height": 256}
    asked = {"prompt": "a red house on a meadow", "seed": 5, "image_format": "png"} | size | fields
    request = parse_input(asked, spec, shelf=shelf_of(None, is_embedded=True))
    engine = embedded[spec.endpoint_id]
    uninterrupted, finished = finish(engine.generate(request)), in_two_goes(engine, request, stop_after)
    assert finished == uninterrupted
    assert "stop_after" not in parameters_in(finished.data)


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_pictures_that_start_from_others_can_be_drafted_too(embedded: Engines, strength: float) -> None:
    files: dict[str, bytes] = {}
    image, hole = kept(picture(256, 256), files), kept(mask(256, 256), files)
    request = make_request(num_inference_steps=6, image=image, mask=hole, strength=strength, width=256, height=256)
    engine = embedded[FLUX_DEV.endpoint_id]
    steps = list(engine.generate(replace(request, stop_after=2), files))
    assert [step.total for step in steps if step] == [2, 2]
    assert in_two_goes(engine, request, 2, files) == finish(engine.generate(request, files))


def test_a_draft_shows_the_finished_picture_as_the_model_foresees_it(embedded: Engines) -> None:
    request = make_request(width=256, height=256, num_inference_steps=8, negative_mode=NegativeMode.CFG)
    engine = embedded[FLUX_DEV.endpoint_id]

    def pixels(image: EncodedImage) -> Any:
        return np.asarray(Image.open(io.BytesIO(image.data)), np.float32)

    whole = finish(engine.generate(request))
    early, late = (drafted(engine, request, steps)[0] for steps in (1, 4))
    assert parameters_in(late.data)["stop_after"] == 4
    distances = [np.abs(pixels(draft) - pixels(whole)).mean() for draft in (early, late)]
    # Of 255. With half of their noise still in them, the latents would show a picture of noise.
    assert distances[1] < 10 < distances[0]
    # Nothing but the latents of sixteen tokens, in float32.
    assert len(late.latents) < 10_000
    assert read_header(late.latents)["steps"] == "4"


def test_the_latents_of_a_draft_have_the_same_bytes_each_time(embedded: Engines) -> None:
    request = make_request(width=256, height=256, num_inference_steps=3)
    engine = embedded[FLUX_DEV.endpoint_id]
    # safetensors draws the order of its entries by lot (findings/safetensors_same_content_other_bytes.sh).
    assert len({drafted(engine, request, 1)[0].latents for _ in range(3)}) == 1


def test_what_cannot_lead_to_the_same_bytes_is_refused(
    embedded: Engines,
) -> None:
    request = make_request(width=256, height=256, num_inference_steps=3)
    _, rest, files = drafted(embedded[FLUX_DEV.endpoint_id], request, 1)
    assert rest.draft is not None
    with pytest.raises(InvalidRequest, match=r"drawn with model demo, and this worker has fake.*without stop_after"):
        finish(FakeEngine(FLUX_DEV).generate(rest, files))
    for other in (replace(rest, seed=8), replace(rest, draft=replace(rest.draft, steps=2))):
        with pytest.raises(InvalidRequest, match="drawn with"):
            finish(embedded[FLUX_DEV.endpoint_id].generate(other, files))
    with pytest.raises(InvalidRequest, match="no form"):
        finish(embedded[FLUX_DEV.endpoint_id].generate(rest, dict.fromkeys(files, b"something else")))


def test_the_engine_without_a_model_does_the_same() -> None:
    engine, request = FakeEngine(FLUX_DEV), make_request(num_inference_steps=5)
    draft, rest, files = drafted(engine, request, 2)
    assert [step.step for step in engine.generate(rest, files) if step] == [1, 2, 3]
    assert finish(engine.generate(rest, files)) == finish(engine.generate(request))
    assert draft.data != finish(engine.generate(request)).data
    with pytest.raises(InvalidRequest, match="drawn with seed 7, and this worker has 8"):
        finish(engine.generate(replace(rest, seed=8), files))
