"""Pictures as prompts: equal to diffusers' pipelines, bit for bit, in float32 on the CPU."""

import io
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline, FluxPriorReduxPipeline
from numpy.typing import NDArray
from PIL import Image
from transformers import SiglipImageProcessorPil

from flux_endpoint.core.acceleration import Acceleration
from flux_endpoint.core.catalog import ModelFamily
from flux_endpoint.core.errors import CheckpointError
from flux_endpoint.core.generation import GenerationRequest
from flux_endpoint.core.negative_mode import NegativeMode
from flux_endpoint.engine.add_ons import AddOns
from flux_endpoint.engine.engine import FluxEngine
from flux_endpoint.engine.factory import build_engines, check_source, refuse_unloadable_add_ons
from flux_endpoint.engine.protocol import finish
from tests.engine.conftest import SPECS, arguments_of, drawn_beside, make_request
from tests.engine.redux_files import PATCHES, build_redux
from tests.engine.test_editing import draw, kept, picture

DEV, SCHNELL = ModelFamily.DEV, ModelFamily.SCHNELL
Engines = Mapping[ModelFamily, FluxEngine]
Pipelines = Mapping[ModelFamily, FluxPipeline]


@pytest.fixture(scope="module")
def redux(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_redux(tmp_path_factory.mktemp("redux") / "FLUX.1-Redux-dev", 3)


@pytest.fixture(scope="module")
def readers(checkpoints: dict[ModelFamily, Path], redux: Path) -> Iterator[Engines]:
    """Both models, with Redux beside them."""
    sources = {SPECS[family].endpoint_id: str(folder) for family, folder in checkpoints.items()}
    catalog = {spec.endpoint_id: spec for spec in SPECS.values()}
    engines = build_engines(sources, catalog, device="cpu", add_ons=AddOns(str(redux)))
    for engine in engines.values():
        engine.load()
    yield {family: engines[spec.endpoint_id] for family, spec in SPECS.items()}
    for engine in engines.values():
        engine.close()


def words_of(pipeline: FluxPipeline, prompt: str, length: int) -> dict[str, torch.Tensor]:
    """With gradients the last bits would be others."""
    with torch.no_grad():
        words, pooled, _ = pipeline.encode_prompt(prompt, None, max_sequence_length=length)
    return {"prompt_embeds": words, "pooled_prompt_embeds": pooled}


def prior(redux: Path, pipeline: FluxPipeline) -> FluxPriorReduxPipeline:
    """diffusers' own, with the text encoders of a pipeline, and with the image processor that needs no torchvision."""
    encoders = ("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2")
    more = {name: getattr(pipeline, name) for name in encoders}
    processor = SiglipImageProcessorPil.from_pretrained(redux / "feature_extractor")
    return FluxPriorReduxPipeline.from_pretrained(redux, dtype=torch.float32, feature_extractor=processor, **more)


def drawn_by(pipeline: FluxPipeline, request: GenerationRequest, **embeds: Any) -> NDArray[np.uint8]:
    pipeline.set_progress_bar_config(disable=True)
    image = pipeline(
        **arguments_of(request),
        **embeds,
    ).images[0]
    return np.asarray(image)


@pytest.mark.parametrize(("width", "height"), [(64, 64), (130, 41)])
def test_pixels_equal_those_of_the_prior_and_the_pipeline(
    redux: Path, readers: Engines, pipelines: Pipelines, width: int, height: int
) -> None:
    files: dict[str, bytes] = {}
    source = picture(width, height)
    request = make_request(width=96, image_prompt=kept(source, files))
    read = prior(redux, pipelines[DEV])(Image.fromarray(source), prompt=request.prompt)
    assert read.prompt_embeds.shape[1] == 512 + PATCHES
    expected = drawn_by(pipelines[DEV], request, **read)
    ours = draw(readers[DEV], request, files)
    assert np.array_equal(ours, expected)
    other = draw(readers[DEV], replace(request, image_prompt=kept(255 - source, files)), files)
    assert not np.array_equal(ours, other)


def test_schnell_reads_pictures_behind_its_own_number_of_words(
    redux: Path, readers: Engines, pipelines: Pipelines
) -> None:
    files: dict[str, bytes] = {}
    source = picture(64, 48)
    request = make_request(image_prompt=kept(source, files), num_inference_steps=2)
    # The prior pads words to dev's length, whatever the model.
    words = words_of(pipelines[SCHNELL], request.prompt, 256)
    made = prior(redux, pipelines[SCHNELL])(Image.fromarray(source), **words)
    assert np.array_equal(draw(readers[SCHNELL], request, files), drawn_by(pipelines[SCHNELL], request, **made))


def test_the_scale_is_that_of_the_picture_alone(redux: Path, readers: Engines, pipelines: Pipelines) -> None:
    """That of diffusers is of the words as well: without any it is the picture's own."""
    files: dict[str, bytes] = {}
    source = picture(64, 64)
    request = make_request(image_prompt=kept(source, files), image_prompt_scale=0.25)
    words = words_of(pipelines[DEV], request.prompt, 512)
    nothing = {name: torch.zeros_like(one) for name, one in words.items()}
    made = prior(redux, pipelines[DEV])(Image.fromarray(source), prompt_embeds_scale=0.25, **nothing)
    both = torch.cat([words["prompt_embeds"], made.prompt_embeds[:, 512:]], dim=1)
    ours = draw(readers[DEV], request, files)
    expected = drawn_by(pipelines[DEV], request, **words | {"prompt_embeds": both})
    assert np.array_equal(ours, expected)
    assert not np.array_equal(ours, draw(readers[DEV], replace(request, image_prompt_scale=1.0), files))


def test_a_negative_prompt_has_the_picture_beside_it_too(redux: Path, readers: Engines, pipelines: Pipelines) -> None:
    files: dict[str, bytes] = {}
    source = picture(64, 64)
    request = make_request(image_prompt=kept(source, files), negative_prompt="night, boat")
    towards, away = (
        prior(redux, pipelines[DEV])(Image.fromarray(source), prompt=prompt)
        for prompt in (request.prompt, request.negative_prompt)
    )
    negative = {f"negative_{name}": one for name, one in away.items()} | {"true_cfg_scale": request.true_cfg_scale}
    assert np.array_equal(draw(readers[DEV], request, files), drawn_by(pipelines[DEV], request, **towards, **negative))


def test_negative_prompts_in_the_attention_and_faster_levels_read_the_picture_too(readers: Engines) -> None:
    files: dict[str, bytes] = {}
    request = make_request(image_prompt=kept(picture(64, 64), files))
    with_nag = replace(request, negative_prompt="night, boat", negative_mode=NegativeMode.NAG, true_cfg_scale=4.0)
    other = kept(picture(32, 64), files)
    for one in (request, with_nag):
        exact = draw(readers[DEV], one, files)
        assert not np.array_equal(exact, draw(readers[DEV], replace(one, image_prompt=other), files))
    assert not np.array_equal(draw(readers[DEV], request, files), draw(readers[DEV], with_nag, files))
    exact = draw(readers[DEV], request, files)
    for level, farthest in ((Acceleration.REGULAR, 1), (Acceleration.HIGH, 6)):
        made = finish(readers[DEV].generate(replace(request, acceleration=level), files))
        assert made.acceleration is level
        assert np.abs(np.asarray(Image.open(io.BytesIO(made.data))).astype(int) - exact).max() <= farthest


def test_it_can_start_from_one_picture_and_read_another(readers: Engines) -> None:
    files: dict[str, bytes] = {}
    start, read = kept(picture(64, 64), files), kept(picture(48, 64), files)
    both = make_request(image=start, strength=0.4, image_prompt=read)
    made = draw(readers[DEV], both, files)
    for one in (replace(both, image_prompt=None), replace(both, image=None, strength=1.0)):
        assert not np.array_equal(made, draw(readers[DEV], one, files))


def test_without_a_picture_nothing_changes(readers: Engines, engines: Engines) -> None:
    request = make_request()
    assert np.array_equal(draw(readers[DEV], request, {}), draw(engines[DEV], request, {}))


def test_company_changes_nothing(readers: Engines) -> None:
    files: dict[str, bytes] = {}
    requests = [make_request(seed=seed, image_prompt=kept(picture(48 + 16 * seed, 64), files)) for seed in range(2)]
    alone = finish(readers[DEV].generate(requests[0], files)).data
    ours, other = (readers[DEV].generate(request, files) for request in requests)
    assert drawn_beside(ours, other) == alone


def test_a_picture_is_read_once_while_it_is_among_the_last_few(readers: Engines) -> None:
    files: dict[str, bytes] = {}
    pictures = [kept(picture(32 + number, 32), files) for number in range(6)]
    encoder = readers[DEV]._model.pictures._encoder
    passes: list[None] = []
    hook = encoder.register_forward_hook(lambda *_: passes.append(None))
    for number, expected in ((0, 1), (0, 1), (1, 2), (2, 3), (3, 4), (0, 4), (4, 5), (3, 5), (0, 6)):
        draw(readers[DEV], make_request(seed=len(passes), num_inference_steps=1, image_prompt=pictures[number]), files)
        assert len(passes) == expected
    hook.remove()


def test_a_worker_without_redux_says_so(engines: Engines) -> None:
    files: dict[str, bytes] = {}
    with pytest.raises(CheckpointError, match="started without REDUX_MODEL"):
        draw(engines[DEV], make_request(image_prompt=kept(picture(64, 64), files)), files)


def test_both_models_share_one_redux_and_its_memory_is_counted(
    checkpoints: dict[ModelFamily, Path], redux: Path, readers: Engines
) -> None:
    encoders = {id(readers[family]._model.pictures._encoder) for family in SPECS}
    assert len(encoders) == 1
    without = check_source(str(checkpoints[DEV]), DEV, device="cpu")
    beside = check_source(str(checkpoints[DEV]), DEV, device="cpu", add_ons=AddOns(str(redux)))
    parts = [one for one in beside.components if one not in without.components]
    assert [one.name for one in parts] == ["image_encoder", "image_embedder"]
    more = beside.memory.peak_bytes - without.memory.peak_bytes
    assert more == 4 * sum(one.parameters for one in parts) > 0


def test_models_that_read_no_picture_prompts_leave_it_out(redux: Path) -> None:
    assert check_source("demo", DEV, device="cpu", add_ons=AddOns(str(redux))).components


@pytest.mark.parametrize(
    ("file", "change", "problem"),
    [
        ("image_encoder/config.json", {"image_size": 112}, "tensors of a wrong shape: embeddings.position_embedding"),
        ("image_encoder/config.json", {"architectures": ["CLIPVisionModel"]}, "not a SiglipVisionModel"),
        ("image_encoder/config.json", {"num_hidden_layers": 3}, "lacks 16 of "),
        ("image_embedder/config.json", {"_class_name": "Other"}, "not a ReduxImageEncoder"),
        ("image_embedder/config.json", {"txt_in_features": 16}, "tensors of a wrong shape"),
        ("feature_extractor/preprocessor_config.json", {"size": {"height": 64, "width": 104}}, "with the pictures of"),
    ],
)
def test_what_does_not_fit_is_refused_before_weights_are_read(
    checkpoints: dict[ModelFamily, Path], redux: Path, tmp_path: Path, file: str, change: dict[str, Any], problem: str
) -> None:
    folder = Path(shutil.copytree(redux, tmp_path / "copy"))
    config = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(config | change))
    with pytest.raises(CheckpointError, match=problem) as refused:
        check_source(str(checkpoints[DEV]), DEV, device="cpu", add_ons=AddOns(str(folder)))
    assert str(refused.value).startswith(f"Redux {folder}: ")


@pytest.mark.parametrize("gone", ["image_encoder", "image_embedder", "feature_extractor"])
def test_a_missing_part_is_named(checkpoints: dict[ModelFamily, Path], redux: Path, tmp_path: Path, gone: str) -> None:
    folder = Path(shutil.copytree(redux, tmp_path / "copy"))
    shutil.rmtree(folder / gone)
    with pytest.raises(CheckpointError, match=gone):
        check_source(str(checkpoints[DEV]), DEV, device="cpu", add_ons=AddOns(str(folder)))
    refuse_unloadable_add_ons(AddOns(str(redux)), str(checkpoints[DEV]), DEV)
    with pytest.raises(CheckpointError, match=f"^Redux {folder}: .*{gone} is missing"):
        refuse_unloadable_add_ons(AddOns(str(folder)), str(checkpoints[DEV]), DEV)


def test_a_place_that_is_none_is_refused(checkpoints: dict[ModelFamily, Path], redux: Path) -> None:
    file = redux / "flux1-redux-dev.safetensors"
    for place in ("./nowhere/at/all", str(file)):
        with pytest.raises(CheckpointError, match="neither a folder nor a Hugging Face id"):
            check_source(str(checkpoints[DEV]), DEV, device="cpu", add_ons=AddOns(place))
        with pytest.raises(CheckpointError, match="neither a folder nor a Hugging Face id"):
            refuse_unloadable_add_ons(AddOns(place), str(checkpoints[DEV]), DEV)
