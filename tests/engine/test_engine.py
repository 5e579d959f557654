import io
import math
import re
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from flux_endpoint.core.catalog import CATALOG, FLUX_DEV, FLUX_SCHNELL, ModelFamily
from flux_endpoint.core.errors import CheckpointError, NonFinite
from flux_endpoint.core.image_formats import IMAGE_FORMATS, JPEG, PNG, ImageFormat
from flux_endpoint.core.marks import parameters_in
from flux_endpoint.engine.engine import FluxEngine
from flux_endpoint.engine.factory import build_engines
from flux_endpoint.engine.parameters import picture_parameters
from flux_endpoint.engine.protocol import StepDone, finish
from flux_endpoint.engine.sources import parse_source
from tests.engine.conftest import draw, make_request, open_engine

DEV, SCHNELL = ModelFamily.DEV, ModelFamily.SCHNELL


@pytest.mark.parametrize("image_format", IMAGE_FORMATS.values(), ids=IMAGE_FORMATS)
@pytest.mark.parametrize("family", [DEV, SCHNELL])
def test_same_request_same_bytes_with_another_picture_between_its_steps(
    engines: dict[ModelFamily, FluxEngine], family: ModelFamily, image_format: ImageFormat
) -> None:
    request = make_request(image_format=image_format, negative_prompt="night")
    alone = draw(engines[family], request).data
    disturbed = engines[family].generate(request)
    next(disturbed)
    draw(engines[family], make_request(seed=8, width=80, prompt="something else"))
    torch.manual_seed(1)  # the global generator must not matter either
    assert finish(disturbed).data == alone


def test_a_fresh_engine_gives_the_same_bytes(
    engines: dict[ModelFamily, FluxEngine], checkpoints: dict[ModelFamily, Path]
) -> None:
    fresh = open_engine(checkpoints[DEV], FLUX_DEV)
    assert draw(fresh, make_request()).data == draw(engines[DEV], make_request()).data


def test_seeds_draw_different_pictures(engines: dict[ModelFamily, FluxEngine]) -> None:
    pictures = {draw(engines[DEV], make_request(seed=seed, num_inference_steps=1)).data for seed in (0, 1, 2**32 - 1)}
    assert len(pictures) == 3


def test_the_global_random_state_is_left_alone(engines: dict[ModelFamily, FluxEngine]) -> None:
    before = torch.get_rng_state()
    draw(engines[DEV], make_request(num_inference_steps=1))
    assert torch.equal(torch.get_rng_state(), before)


def test_yields_once_a_step(engines: dict[ModelFamily, FluxEngine]) -> None:
    generator, steps = engines[DEV].generate(make_request(num_inference_steps=3)), []
    # The prompt is a slice of its own.
    assert next(generator) is None
    image = finish(generator, steps.append)
    assert steps == [StepDone(1, 3), StepDone(2, 3), StepDone(3, 3)]
    assert (image.width, image.height, image.image_format, image.warnings) == (64, 64, PNG, ())


def test_closing_between_steps_abandons_the_picture(engines: dict[ModelFamily, FluxEngine]) -> None:
    generator = engines[DEV].generate(make_request())
    next(generator)
    generator.close()
    with pytest.raises(StopIteration):
        next(generator)


@pytest.mark.parametrize("image_format", IMAGE_FORMATS.values(), ids=IMAGE_FORMATS)
@pytest.mark.parametrize(("width", "height", "rendered"), [(50, 33, (64, 48)), (64, 47, (64, 48)), (65, 64, (80, 64))])
def test_other_sizes_are_cut_from_the_middle_of_the_next_workable_one(
    engines: dict[ModelFamily, FluxEngine],
    image_format: ImageFormat,
    width: int,
    height: int,
    rendered: tuple[int, int],
) -> None:
    cut = draw(engines[DEV], make_request(width=width, height=height, image_format=image_format))
    picture = Image.open(io.BytesIO(cut.data))
    assert picture.size == (width, height)
    assert (cut.width, cut.height) == (width, height)
    if image_format is PNG:
        whole = Image.open(io.BytesIO(draw(engines[DEV], make_request(width=rendered[0], height=rendered[1])).data))
        left, top = (rendered[0] - width) // 2, (rendered[1] - height) // 2
        assert np.array_equal(np.asarray(picture), np.asarray(whole.crop((left, top, left + width, top + height))))


@pytest.mark.parametrize("image_format", IMAGE_FORMATS.values(), ids=IMAGE_FORMATS)
def test_the_request_is_inside_the_file(engines: dict[ModelFamily, FluxEngine], image_format: ImageFormat) -> None:
    request = make_request(image_format=image_format, prompt="Häuschen 山 🌄", num_inference_steps=1)
    data = draw(engines[DEV], request).data
    read = parameters_in(data)
    assert read == picture_parameters(request, engines[DEV].info)
    assert read["model"] == "FLUX.1-dev"
    assert re.fullmatch(r"[0-9a-f]{8} \(device cpu, dtype float32, threads 1, .*\)", read["fingerprint"])


@pytest.mark.parametrize(("family", "limit"), [(DEV, 512), (SCHNELL, 256)])
def test_a_long_prompt_is_cut_with_a_warning(
    engines: dict[ModelFamily, FluxEngine], family: ModelFamily, limit: int
) -> None:
    # One token a word, and the end mark.
    long, fits = " ".join(["a"] * limit), " ".join(["a"] * (limit - 1))
    assert draw(engines[family], make_request(prompt=fits, num_inference_steps=1)).warnings == ()
    image = draw(engines[family], make_request(prompt=long, negative_prompt=f"{long} a", num_inference_steps=1))
    assert image.warnings == (
        f"prompt was cut: it has {limit + 1} tokens and the model reads the first {limit}.",
        f"negative_prompt was cut: it has {limit + 2} tokens and the model reads the first {limit}.",
    )


def test_a_negative_prompt_that_does_not_act_gives_no_warning(engines: dict[ModelFamily, FluxEngine]) -> None:
    request = make_request(negative_prompt="house " * 600, true_cfg_scale=1.0, num_inference_steps=1)
    assert draw(engines[DEV], request).warnings == ()


def test_what_is_cut_off_has_no_effect(engines: dict[ModelFamily, FluxEngine]) -> None:
    prompts = [" ".join(["house"] * 600 + [last]) for last in ("red", "blue")]
    pictures = [draw(engines[DEV], make_request(prompt=prompt, image_format=JPEG)) for prompt in prompts]
    pixels = [np.asarray(Image.open(io.BytesIO(picture.data))) for picture in pictures]
    assert np.array_equal(*pixels)


def test_the_embedded_model_reads_fewer_tokens(demo_engine: FluxEngine) -> None:
    request = make_request(prompt="house " * 100, width=256, height=256, num_inference_steps=1)
    assert draw(demo_engine, request).warnings == (
        "prompt was cut: it has 101 tokens and the model reads the first 64.",
    )


@pytest.mark.parametrize(
    ("family", "changes", "is_same"),
    [
        (DEV, {"guidance": 1.0}, False),
        (SCHNELL, {"guidance": 1.0}, True),
        (DEV, {"negative_prompt": "night"}, False),
        (SCHNELL, {"negative_prompt": "night"}, False),
        (DEV, {"negative_prompt": "night", "true_cfg_scale": 1.0}, True),
        (DEV, {"true_cfg_scale": 5.0}, True),
    ],
)
def test_which_parameters_change_the_picture(
    engines: dict[ModelFamily, FluxEngine], family: ModelFamily, changes: dict[str, object], is_same: bool
) -> None:
    pictures = [draw(engines[family], make_request(**some)).data for some in ({}, changes)]
    pixels = [np.asarray(Image.open(io.BytesIO(picture))) for picture in pictures]
    assert np.array_equal(*pixels) is is_same


def test_the_embedded_model_has_a_transformer_of_its_own_for_schnell() -> None:
    engines = build_engines(dict.fromkeys(list(CATALOG)[:2], "demo"), CATALOG, device="cpu")
    dev, schnell = engines[FLUX_DEV.endpoint_id], engines[FLUX_SCHNELL.endpoint_id]
    assert isinstance(dev, FluxEngine)
    assert isinstance(schnell, FluxEngine)
    dev.load()
    schnell.load()
    assert dev._loaded()[0].has_guidance
    assert not schnell._loaded()[0].has_guidance
    dev.close()
    dev.close()
    with pytest.raises(RuntimeError, match="after close"):
        draw(dev, make_request())
    draw(schnell, make_request(num_inference_steps=1))
    schnell.close()


@pytest.mark.parametrize(
    ("name", "number", "part"),
    [
        ("transformer", math.nan, "transformer"),
        ("text_encoder", math.nan, "transformer"),
        ("text_encoder_2", math.inf, "transformer"),
        ("vae", math.nan, "autoencoder"),
        ("vae", math.inf, "autoencoder"),
    ],
)
def test_numbers_that_are_none_are_no_picture(
    checkpoints: dict[ModelFamily, Path], name: str, number: float, part: str
) -> None:
    engine = open_engine(checkpoints[DEV], FLUX_DEV)
    model = engine._loaded()[0]
    spoilt = {
        "transformer": model.transformer.x_embedder.bias,
        "text_encoder": model.text._clip.final_layer_norm.bias,
        "text_encoder_2": model.text._t5.encoder.final_layer_norm.weight,
        "vae": model.vae.decoder.conv_in.bias,
    }
    # In memory: a file with such numbers is refused when it is read.
    spoilt[name].data[0] = number
    try:
        with pytest.raises(NonFinite, match=f"the model's {part} produced NaN or infinite numbers"):
            draw(engine, make_request())
    finally:
        engine.close()


def test_closing_frees_the_weights(checkpoints: dict[ModelFamily, Path]) -> None:
    engine = open_engine(checkpoints[SCHNELL], FLUX_SCHNELL)
    draw(engine, make_request(num_inference_steps=1))
    model = engine._loaded()[0]
    watched = [weakref.ref(module) for module in (model.transformer, model.vae, model.text._t5, model.text._clip)]
    del model
    engine.close()
    assert [watch() for watch in watched] == [None] * 4


def test_generate_before_load_is_refused(checkpoints: dict[ModelFamily, Path]) -> None:
    engine = build_engines({FLUX_DEV.endpoint_id: str(checkpoints[DEV])}, CATALOG, device="cpu")
    with pytest.raises(RuntimeError, match="before load"):
        next(engine[FLUX_DEV.endpoint_id].generate(make_request()))


def test_too_little_memory_is_told_at_load(checkpoints: dict[ModelFamily, Path]) -> None:
    source = parse_source(str(checkpoints[DEV]))
    engine = FluxEngine(FLUX_DEV, source, torch.device("cpu"), available_bytes=1_000_000)
    with pytest.raises(CheckpointError, match=r"it needs 0\.0 GiB of memory and 0\.0 GiB are available"):
        engine.load()


@pytest.mark.parametrize(("family", "has_notice"), [(DEV, True), (SCHNELL, False)])
def test_the_licence_is_told_for_dev_weights_only(
    engines: dict[ModelFamily, FluxEngine], family: ModelFamily, has_notice: bool
) -> None:
    info = engines[family].info
    assert (info.name, info.family, info.device) == (f"FLUX.1-{family}", family, "cpu")
    assert ("FLUX.1 [dev] Non-Commercial License" in info.notice) is has_notice
    assert bool(info.notice) is has_notice


def test_the_embedded_model_says_what_it_is(demo_engine: FluxEngine) -> None:
    assert demo_engine.info.name == "demo"
    assert "FLUX_ENDPOINT_MODEL=black-forest-labs/FLUX.1-dev" in demo_engine.info.notice


def test_threads_are_set_at_load(checkpoints: dict[ModelFamily, Path]) -> None:
    before = torch.get_num_threads()
    sources = {FLUX_SCHNELL.endpoint_id: str(checkpoints[SCHNELL])}
    try:
        engine = build_engines(sources, CATALOG, device="cpu", threads=before + 1)[FLUX_SCHNELL.endpoint_id]
        assert torch.get_num_threads() == before
        engine.load()
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)
