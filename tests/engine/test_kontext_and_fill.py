"""Models that read a picture beside the noise: equal to diffusers' pipelines, bit for bit, in float32 on the CPU."""

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxFillPipeline, FluxKontextPipeline
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from numpy.typing import NDArray
from PIL import Image

from flux_endpoint.core.acceleration import Acceleration
from flux_endpoint.core.catalog import FLUX_FILL, FLUX_KONTEXT, ModelFamily
from flux_endpoint.core.errors import CheckpointError
from flux_endpoint.core.generation import GenerationRequest
from flux_endpoint.engine.engine import FluxEngine
from flux_endpoint.engine.factory import check_source
from flux_endpoint.engine.kontext import size_read
from flux_endpoint.engine.protocol import finish
from tests.engine.checkpoints import build_checkpoint
from tests.engine.conftest import arguments_of, drawn_beside, make_request, open_engine
from tests.engine.test_editing import draw, kept, mask, picture

DEV, KONTEXT, FILL = ModelFamily.DEV, ModelFamily.KONTEXT, ModelFamily.FILL


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[ModelFamily, Path]:
    root = tmp_path_factory.mktemp("reading")
    return {family: build_checkpoint(root / f"my-{number}", family, 5) for number, family in enumerate((KONTEXT, FILL))}


@pytest.fixture(scope="module")
def kontext(folders: dict[ModelFamily, Path]) -> Iterator[FluxEngine]:
    engine = open_engine(folders[KONTEXT], FLUX_KONTEXT)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def fill(folders: dict[ModelFamily, Path]) -> Iterator[FluxEngine]:
    engine = open_engine(folders[FILL], FLUX_FILL)
    yield engine
    engine.close()


def drawn_by(kind: Any, folder: Path, request: GenerationRequest, **more: Any) -> NDArray[np.uint8]:
    pipeline = kind.from_pretrained(folder, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    image = pipeline(
        prompt=request.prompt,
        **arguments_of(request),
        **more,
    ).images[0]
    return np.asarray(image)


@pytest.mark.parametrize("negative_prompt", ["", "night, boat"])
@pytest.mark.parametrize(("width", "height"), [(64, 64), (96, 48), (70, 41)])
def test_pixels_equal_the_kontext_pipelines(
    folders: dict[ModelFamily, Path], kontext: FluxEngine, negative_prompt: str, width: int, height: int
) -> None:
    files: dict[str, bytes] = {}
    source = picture(width, height)
    request = make_request(width=80, height=64, negative_prompt=negative_prompt, image=kept(source, files))
    more = {"negative_prompt": negative_prompt, "true_cfg_scale": 2.0} if negative_prompt else {}
    expected = drawn_by(
        FluxKontextPipeline,
        folders[KONTEXT],
        request,
        image=Image.fromarray(source),
        max_area=80 * 64,
        _auto_resize=False,
        **more,
    )
    ours = draw(kontext, request, files)
    assert np.array_equal(ours, expected)
    other = draw(kontext, make_request(width=80, height=64, image=kept(255 - source, files)), files)
    assert not np.array_equal(ours, other)


def test_kontext_without_a_picture_draws_from_the_prompt_alone(
    folders: dict[ModelFamily, Path], kontext: FluxEngine
) -> None:
    request = make_request()
    expected = drawn_by(FluxKontextPipeline, folders[KONTEXT], request, max_area=64 * 64)
    assert np.array_equal(draw(kontext, request, {}), expected)


@pytest.mark.parametrize(
    ("sides", "read"),
    [
        ((64, 64), (64, 64)),
        ((70, 41), (64, 32)),
        ((1024, 1024), (1024, 1024)),
        ((2048, 1024), (1440, 720)),
        ((2048, 5), (2048, 16)),
    ],
)
def test_a_picture_is_read_in_its_own_size_up_to_a_megapixel(sides: tuple[int, int], read: tuple[int, int]) -> None:
    size = size_read(*sides, 8)
    assert (size.width_px, size.height_px) == read
    assert (size.latent_width, size.latent_height) == (read[0] // 8, read[1] // 8)


@pytest.mark.parametrize("family", [KONTEXT, FILL])
def test_each_is_told_by_its_folder_and_refused_elsewhere(
    folders: dict[ModelFamily, Path], family: ModelFamily
) -> None:
    folder = str(folders[family])
    assert check_source(folder, family, device="cpu").variant == family.value
    for other in set(ModelFamily) - {family}:
        with pytest.raises(CheckpointError, match=rf"this is (FLUX\.1 Kontext|a {family.by_tensors} checkpoint)"):
            check_source(folder, other, device="cpu")


def test_faster_levels_read_the_picture_too(kontext: FluxEngine, fill: FluxEngine) -> None:
    files: dict[str, bytes] = {}
    request = make_request(image=kept(picture(64, 64), files), mask=kept(mask(64, 64), files))
    for engine in (kontext, fill):
        exact = draw(engine, request, files)
        for level, farthest in ((Acceleration.REGULAR, 1), (Acceleration.HIGH, 6)):
            made = finish(engine.generate(replace(request, acceleration=level), files))
            assert made.acceleration is level
            faster = np.asarray(Image.open(io.BytesIO(made.data)))
            assert np.abs(faster.astype(int) - exact).max() <= farthest


def test_company_changes_nothing(kontext: FluxEngine) -> None:
    files: dict[str, bytes] = {}
    requests = [make_request(seed=seed, image=kept(picture(48 + 16 * seed, 64), files)) for seed in range(2)]
    alone = [finish(kontext.generate(request, files)).data for request in requests]
    ours, other = (kontext.generate(request, files) for request in requests)
    assert drawn_beside(ours, other) == alone[0]


@pytest.mark.parametrize(("width", "height", "strength"), [(96, 64, 1.0), (48, 80, 0.5)])
def test_pixels_in_the_hole_equal_the_fill_pipelines(
    folders: dict[ModelFamily, Path],
    fill: FluxEngine,
    width: int,
    height: int,
    strength: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The pipeline draws the picture that it reads by lot, and we take the likeliest.
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda latents, generator=None: latents.mode())
    files: dict[str, bytes] = {}
    source, anew = picture(width, height), mask(width, height)
    # In no line of latents or tokens.
    anew[3:5, 5:9] = 255
    anew[-7:, -9:] = 100
    pictures = {"image": kept(source, files), "mask": kept(anew, files)}
    request = make_request(width=width, height=height, guidance=30.0, strength=strength, **pictures)
    expected = drawn_by(
        FluxFillPipeline,
        folders[FILL],
        request,
        image=Image.fromarray(source),
        mask_image=Image.fromarray(anew),
        strength=strength,
    )
    ours = draw(fill, request, files)
    assert np.array_equal(ours[anew == 255], expected[anew == 255])
    assert np.array_equal(ours[anew == 0], source[anew == 0])


def test_fill_without_a_picture_draws_it_whole(fill: FluxEngine) -> None:
    """As where a step is timed."""
    pixels = draw(fill, make_request(), {})
    assert pixels.shape == (64, 64, 3)
    assert pixels.std() > 10
