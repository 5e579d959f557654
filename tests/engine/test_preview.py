"""Previews: what they look like, what they cost nobody, and what they leave alone."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from flux_endpoint.core.catalog import ModelFamily
from flux_endpoint.engine.engine import FluxEngine
from flux_endpoint.engine.preview import Previewer, fit_preview_map
from flux_endpoint.engine.protocol import finish
from tests.engine.conftest import SPECS, draw, make_request


def draw_with_previews(engine, request):
    """Every preview of a picture, and its file."""
    previews = []
    data = finish(engine.generate(request), lambda step: previews.append(step.preview())).data
    return previews, data


def pixels_of(data, size=None):
    with Image.open(io.BytesIO(data)) as image:
        image = image.convert("RGB")
        return np.asarray(image.resize(size, Image.Resampling.BOX) if size else image, dtype=np.float32)


@pytest.mark.parametrize("family", list(SPECS))
def test_previews_change_no_bit_of_the_picture(engines: dict[ModelFamily, FluxEngine], family: ModelFamily) -> None:
    request = make_request(negative_prompt="night")
    alone = draw(engines[family], request).data
    previews, data = draw_with_previews(engines[family], request)
    assert data == alone
    assert len(previews) == request.num_inference_steps
    assert draw_with_previews(engines[family], request) == (previews, data)


def test_the_global_random_state_is_left_alone(engines: dict[ModelFamily, FluxEngine]) -> None:
    model = engines[ModelFamily.DEV]._model
    assert model is not None
    before = torch.get_rng_state()
    first, second = fit_preview_map(model.vae), fit_preview_map(model.vae)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.weights, second.weights)


def test_nothing_is_fitted_before_the_first_preview(engines: dict[ModelFamily, FluxEngine]) -> None:
    model = engines[ModelFamily.DEV]._model
    assert model is not None
    previewer = Previewer(model.vae)
    assert previewer._map is None
    previewer.encode(torch.zeros(1, model.latent_channels, 8, 8), 64, 64)
    assert previewer._map is not None


# Eight pixels a latent: a quarter of the size where that fits, and half of that where it does not.
@pytest.mark.parametrize(
    ("asked", "small"), [((64, 64), (16, 16)), ((50, 33), (12, 8)), ((1024, 512), (256, 128)), ((1536, 768), (192, 96))]
)
def test_a_preview_has_the_shape_of_its_picture(
    engines: dict[ModelFamily, FluxEngine], asked: tuple[int, int], small: tuple[int, int]
) -> None:
    model = engines[ModelFamily.DEV]._model
    assert model is not None
    columns, rows = (2 * -(-side // 16) for side in asked)
    data = model.previewer.encode(torch.zeros(1, model.latent_channels, rows, columns), *asked)
    assert data.startswith(b"\xff\xd8\xff")
    assert pixels_of(data).shape == (small[1], small[0], 3)


def test_previews_of_the_embedded_model_show_the_picture(demo_engine: FluxEngine) -> None:
    request = make_request(width=512, height=512, num_inference_steps=8, guidance=7.5, seed=42)
    previews, data = draw_with_previews(demo_engine, request)
    assert max(len(preview) for preview in previews) < 12_000
    final = pixels_of(data, (128, 128))
    likeness = [np.corrcoef(pixels_of(preview).ravel(), final.ravel())[0, 1] for preview in previews]
    # Light and dark are where they will be from the second step on, and ever closer towards the end.
    assert min(likeness[1:]) > 0.6
    assert likeness[-1] > 0.8
