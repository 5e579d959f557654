"""The LoRA that comes with the embedded model draws in its style, on both endpoints."""

import io

import numpy as np
import pytest
from PIL import Image

from flux_endpoint.core.catalog import FLUX_DEV, FLUX_SCHNELL, ModelSpec
from flux_endpoint.core.generation import parse_input
from flux_endpoint.engine.protocol import finish
from flux_endpoint.files.lora_shelf import shelf_of
from tests.engine.conftest import open_engine
from training.lora.style import INKS

PROMPTS = ("a castle on a hill at sunset", "a red house on a meadow", "a forest by day", "a desert at noon")


@pytest.mark.parametrize("spec", [FLUX_DEV, FLUX_SCHNELL], ids=["dev", "schnell"])
def test_pictures_are_printed_in_its_inks(spec: ModelSpec) -> None:
    engine, shelf = open_engine("demo", spec), shelf_of(None, is_embedded=True)
    assert shelf.names == ["screenprint"]
    away = {}
    for scale in (0, 1):
        distances = []
        for prompt in PROMPTS:
            fields = {"prompt": prompt, "width": 256, "height": 256, "seed": 3, "image_format": "png"}
            loras = [{"path": "screenprint", "scale": scale}]
            request = parse_input(fields | {"loras": loras}, spec, shelf=shelf)
            pixels = np.asarray(Image.open(io.BytesIO(finish(engine.generate(request)).data)), np.float32) / 255
            # Of each pixel from the nearest ink, all three channels together.
            distances.append(np.abs(pixels[..., None, :] - INKS).sum(axis=-1).min(axis=-1).mean())
        away[scale] = np.mean(distances)
    engine.close()
    assert away[1] < 0.8 * away[0]
