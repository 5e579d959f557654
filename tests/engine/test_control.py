"""Models that draw along a map: equal to diffusers' own pipeline, bit for bit, in float32 on the CPU."""

import hashlib
import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import FluxControlPipeline
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from PIL import Image

from flux_endpoint.core.acceleration import Acceleration
from flux_endpoint.core.catalog import FLUX_CANNY, FLUX_DEPTH, ModelFamily
from flux_endpoint.core.errors import CheckpointError
from flux_endpoint.core.lora import Lora
from flux_endpoint.core.marks import parameters_in
from flux_endpoint.core.negative_mode import NegativeMode
from flux_endpoint.engine.control import map_numbers
from flux_endpoint.engine.engine import FluxEngine
from flux_endpoint.engine.factory import build_engines, check_source
from flux_endpoint.engine.latents import render_size
from flux_endpoint.engine.protocol import finish
from tests.engine.checkpoints import build_checkpoint
from tests.engine.conftest import make_request, open_engine
from tests.engine.lora_files import diffusers, linear_sizes, random_changes, save
from tests.engine.test_drafts import in_two_goes
from tests.engine.test_editing import draw, kept, picture
from tests.engine.test_kontext_and_fill import drawn_by

CANNY, DEPTH = ModelFamily.CANNY, ModelFamily.DEPTH


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_checkpoint(tmp_path_factory.mktemp("control") / "FLUX.1-Canny-dev", CANNY, 5)


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[FluxEngine]:
    engine = open_engine(folder, FLUX_CANNY)
    yield engine
    engine.close()


@pytest.mark.parametrize(("width", "height"), [(64, 64), (96, 64), (48, 80)])
def test_pixels_equal_the_control_pipelines(
    folder: Path, engine: FluxEngine, width: int, height: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The pipeline draws the map that it reads by lot, and we take the likeliest.
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda latents, generator=None: latents.mode())
    files: dict[str, bytes] = {}
    edges = picture(width, height)
    request = make_request(width=width, height=height, guidance=30.0, control_image=kept(edges, files))
    expected = drawn_by(FluxControlPipeline, folder, request, control_image=Image.fromarray(edges))
    ours = draw(engine, request, files)
    assert np.array_equal(ours, expected)
    other = replace(request, control_image=kept(255 - edges, files))
    assert not np.array_equal(draw(engine, other, files), ours)


def test_a_map_lies_in_memory_as_the_control_pipeline_has_it(folder: Path) -> None:
    """Where one convolution is as exact as another, pixels cannot tell."""
    pipeline = FluxControlPipeline.from_pretrained(folder, dtype=torch.float32)
    files: dict[str, bytes] = {}
    edges = picture(96, 64)
    request = make_request(width=96, height=64, control_image=kept(edges, files))
    theirs = pipeline.prepare_image(Image.fromarray(edges), 96, 64, 1, 1, torch.device("cpu"), torch.float32)
    ours = map_numbers(request, files, render_size(96, 64, 8))
    assert torch.equal(ours, theirs)
    assert ours.stride() == theirs.stride()


def test_a_map_of_another_size_is_cut_to_the_shape_asked_for(engine: FluxEngine) -> None:
    files: dict[str, bytes] = {}
    edges = picture(192, 64)
    whole = draw(engine, make_request(control_image=kept(edges, files)), files)
    middle = draw(engine, make_request(control_image=kept(edges[:, 64:128], files)), files)
    assert np.array_equal(whole, middle)


def test_faster_levels_and_negative_prompts_follow_the_map_too(engine: FluxEngine) -> None:
    files: dict[str, bytes] = {}
    request = make_request(control_image=kept(picture(64, 64), files))
    exact = draw(engine, request, files)
    for level, farthest in ((Acceleration.REGULAR, 1), (Acceleration.HIGH, 6)):
        made = finish(engine.generate(replace(request, acceleration=level), files))
        assert made.acceleration is level
        faster = np.asarray(Image.open(io.BytesIO(made.data)))
        assert np.abs(faster.astype(int) - exact).max() <= farthest
    for mode in NegativeMode:
        other = draw(engine, replace(request, negative_prompt="night", negative_mode=mode), files)
        assert other.shape == exact.shape
        assert not np.array_equal(other, exact)


def test_a_draft_is_finished_along_its_map(engine: FluxEngine) -> None:
    files: dict[str, bytes] = {}
    request = make_request(num_inference_steps=4, control_image=kept(picture(64, 64), files))
    assert in_two_goes(engine, request, 2, files) == finish(engine.generate(request, files))


def test_loras_act_along_a_map(folder: Path, engine: FluxEngine, tmp_path: Path) -> None:
    files: dict[str, bytes] = {}
    model, _ = engine._loaded()
    changes = random_changes(linear_sizes(model.transformer))
    file = save(diffusers(changes), tmp_path / "film.safetensors")
    lora = Lora("film", 1.0, hashlib.sha256(file.read_bytes()).hexdigest())
    sources, catalog = {FLUX_CANNY.endpoint_id: str(folder)}, {FLUX_CANNY.endpoint_id: FLUX_CANNY}
    with_loras = build_engines(sources, catalog, device="cpu", lora_dir=tmp_path)[FLUX_CANNY.endpoint_id]
    with_loras.load()
    try:
        request = make_request(control_image=kept(picture(64, 64), files))
        data = finish(with_loras.generate(replace(request, loras=(lora,)), files)).data
        assert not np.array_equal(np.asarray(Image.open(io.BytesIO(data))), draw(engine, request, files))
    finally:
        with_loras.close()


def test_the_file_says_which_map_it_was_drawn_along(engine: FluxEngine) -> None:
    files: dict[str, bytes] = {}
    request = make_request(control_image=kept(picture(64, 64), files))
    parameters = parameters_in(finish(engine.generate(request, files)).data)
    assert parameters["control_image"] == next(iter(files))
    assert "strength" not in parameters


def test_without_a_map_a_step_takes_as_long(engine: FluxEngine) -> None:
    """As where a step is timed: the map is black."""
    files: dict[str, bytes] = {}
    black = make_request(control_image=kept(np.zeros((64, 64, 3), np.uint8), files))
    assert np.array_equal(draw(engine, make_request(), {}), draw(engine, black, files))


@pytest.mark.parametrize(
    ("called", "words", "family", "problem"),
    [
        ("FLUX.1-Canny-dev", "", CANNY, ""),
        ("FLUX.1-Depth-dev", "", DEPTH, ""),
        ("mine", "kind=depth", DEPTH, ""),
        ("FLUX.1-Depth-dev", "kind=canny", CANNY, ""),
        ("mine", "", CANNY, r"nothing says that this is FLUX\.1 Canny \(kind=canny does\), which the endpoint needs"),
        ("FLUX.1-Depth-dev", "", CANNY, r"this is FLUX\.1 Depth and not \(kind=canny says otherwise\) FLUX\.1 Canny"),
        ("mine", "kind=canny", DEPTH, r"kind=canny says that this is not FLUX\.1 Depth, which the endpoint needs"),
        ("mine", "kind=dev", DEPTH, r"kind=dev does not fit: by its inputs this is a canny or depth transformer"),
        ("mine", "", ModelFamily.DEV, r"this is a canny or depth checkpoint \(it has inputs for a map\)"),
        ("mine", "", ModelFamily.FILL, r"this is a canny or depth checkpoint .*, and the endpoint needs fill"),
    ],
)
def test_whether_edges_or_distances_a_name_tells(
    folder: Path, tmp_path: Path, called: str, words: str, family: ModelFamily, problem: str
) -> None:
    (tmp_path / called).symlink_to(folder)
    source = f"{tmp_path / called} {words}".strip()
    if problem:
        with pytest.raises(CheckpointError, match=problem):
            check_source(source, family, device="cpu")
    else:
        assert check_source(source, family, device="cpu").variant == family.value


def test_depth_reads_a_map_as_canny_does(folder: Path, engine: FluxEngine) -> None:
    files: dict[str, bytes] = {}
    request = make_request(control_image=kept(picture(64, 64), files))
    depth = open_engine(f"{folder} kind=depth", FLUX_DEPTH)
    try:
        assert np.array_equal(draw(depth, request, files), draw(engine, request, files))
    finally:
        depth.close()
