"""The pixels of the engine are those of diffusers' own pipeline, bit for bit, in float32 on the CPU."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline, FluxTransformer2DModel
from PIL import Image
from torch.nn.attention import SDPBackend, sdpa_kernel

from flux_endpoint.core.catalog import FLUX_DEV, FLUX_SCHNELL, ModelFamily
from flux_endpoint.core.generation import GenerationRequest
from flux_endpoint.engine.engine import FluxEngine
from flux_endpoint.engine.latents import draw_noise, pack_latents, render_size
from flux_endpoint.engine.sources import DEMO_SCHNELL_TRANSFORMER
from tests.engine.conftest import SPECS, arguments_of, draw, make_request, open_engine, open_pipeline

DEV, SCHNELL = ModelFamily.DEV, ModelFamily.SCHNELL


def pipeline_pixels(pipeline: FluxPipeline, request: GenerationRequest, max_tokens: int, **more: Any) -> np.ndarray:
    if request.negative_prompt:
        more |= {"negative_prompt": request.negative_prompt, "true_cfg_scale": request.true_cfg_scale}
    image = pipeline(
        request.prompt,
        **arguments_of(request),
        max_sequence_length=min(max_tokens, pipeline.tokenizer_2.model_max_length),
        **more,
    ).images[0]
    return np.asarray(image)


def engine_pixels(engine: FluxEngine, request: GenerationRequest) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(draw(engine, request).data)))


@pytest.mark.parametrize("family", [DEV, SCHNELL])
@pytest.mark.parametrize("negative_prompt", ["", "night, boat"])
@pytest.mark.parametrize(("width", "height", "steps"), [(64, 64, 1), (112, 48, 1), (48, 80, 2), (64, 64, 5)])
def test_pixels_equal_the_pipelines(
    engines: dict[ModelFamily, FluxEngine],
    pipelines: dict[ModelFamily, FluxPipeline],
    family: ModelFamily,
    negative_prompt: str,
    width: int,
    height: int,
    steps: int,
) -> None:
    request = make_request(width=width, height=height, num_inference_steps=steps, negative_prompt=negative_prompt)
    ours = engine_pixels(engines[family], request)
    assert ours.shape == (height, width, 3)
    assert ours.std() > 10  # not an empty picture, where everything would be equal
    assert np.array_equal(ours, pipeline_pixels(pipelines[family], request, SPECS[family].max_text_tokens))


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 0},
        {"seed": 2**32 - 1},
        {"guidance": 0.0},
        {"guidance": 10.0},
        {"prompt": "red house " * 400},
        {"prompt": "Ein Häuschen, 山, 🌄 und sonst nichts!"},
        {"negative_prompt": "blue lake", "true_cfg_scale": 6.5},
        {"negative_prompt": "blue lake", "true_cfg_scale": 1.0},
    ],
    ids=str,
)
def test_every_parameter_reaches_the_model_as_in_the_pipeline(
    engines: dict[ModelFamily, FluxEngine], pipelines: dict[ModelFamily, FluxPipeline], changes: dict[str, Any]
) -> None:
    request = make_request(num_inference_steps=2, **changes)
    expected = pipeline_pixels(pipelines[DEV], request, FLUX_DEV.max_text_tokens)
    assert np.array_equal(engine_pixels(engines[DEV], request), expected)


def test_interleaved_pictures_equal_the_pipelines(
    engines: dict[ModelFamily, FluxEngine], pipelines: dict[ModelFamily, FluxPipeline]
) -> None:
    requests = [make_request(seed=1), make_request(seed=2, width=96, negative_prompt="night"), make_request(seed=3)]
    running = [engines[DEV].generate(request) for request in requests]
    pictures: dict[int, bytes] = {}
    while len(pictures) < len(running):
        for number, generator in enumerate(running):
            if number not in pictures:
                try:
                    next(generator)
                except StopIteration as done:
                    pictures[number] = done.value().data
    for number, request in enumerate(requests):
        ours = np.asarray(Image.open(io.BytesIO(pictures[number])))
        assert np.array_equal(ours, pipeline_pixels(pipelines[DEV], request, FLUX_DEV.max_text_tokens))


# torch's fused attention in bfloat16 needs instructions that not every processor has.
@sdpa_kernel([SDPBackend.MATH])
def test_bfloat16_as_on_cuda_equals_the_pipeline_from_the_same_noise(
    checkpoints: dict[ModelFamily, Path],
) -> None:
    engine = open_engine(checkpoints[DEV], FLUX_DEV, memory="low")
    pipeline = FluxPipeline.from_pretrained(checkpoints[DEV], dtype=torch.bfloat16)
    pipeline.set_progress_bar_config(disable=True)
    for module in (pipeline.transformer, pipeline.vae, pipeline.text_encoder, pipeline.text_encoder_2):
        for parameter in module.parameters():
            parameter.data = parameter.data.clone()
    request = make_request(width=112, negative_prompt="night")
    # The pipeline draws in bfloat16 itself, which gives other numbers than rounding float32.
    noise = pack_latents(draw_noise(request.seed, 4, render_size(112, 64, 8))).to(torch.bfloat16)
    expected = pipeline_pixels(pipeline, request, FLUX_DEV.max_text_tokens, latents=noise)
    assert np.array_equal(engine_pixels(engine, request), expected)


@pytest.mark.parametrize("negative_prompt", ["", "night"])
def test_the_embedded_model_equals_the_pipeline(
    demo_engine: FluxEngine, demo_folder: Path, negative_prompt: str
) -> None:
    request = make_request(width=256, height=256, num_inference_steps=4, negative_prompt=negative_prompt)
    expected = pipeline_pixels(open_pipeline(demo_folder), request, FLUX_DEV.max_text_tokens)
    assert np.array_equal(engine_pixels(demo_engine, request), expected)


def test_the_embedded_models_student_equals_the_pipeline(demo_folder: Path) -> None:
    engine = open_engine("demo", FLUX_SCHNELL)
    request = make_request(width=256, height=256, num_inference_steps=2)
    pipeline = open_pipeline(demo_folder)
    pipeline.transformer = FluxTransformer2DModel.from_pretrained(demo_folder / DEMO_SCHNELL_TRANSFORMER)
    assert np.array_equal(engine_pixels(engine, request), pipeline_pixels(pipeline, request, 256))


@pytest.mark.parametrize("shift", [0, 8, 24])
def test_bytes_do_not_depend_on_where_a_float32_file_is_mapped(
    copy_checkpoint: Callable[[ModelFamily], Path], rewrite: Callable[..., None], shift: int
) -> None:
    folder = copy_checkpoint(SCHNELL)
    for file in folder.glob("*/*.safetensors"):
        rewrite(file, lambda tensors: {name: as_float32(tensor) for name, tensor in tensors.items()}, pad=shift)
    request = make_request(num_inference_steps=2)
    pipeline = open_pipeline(folder)
    for module in (pipeline.transformer, pipeline.vae, pipeline.text_encoder, pipeline.text_encoder_2):
        for parameter in module.parameters():
            parameter.data = parameter.data.clone()
    expected = pipeline_pixels(pipeline, request, FLUX_SCHNELL.max_text_tokens)
    assert np.array_equal(engine_pixels(open_engine(folder, FLUX_SCHNELL), request), expected)


def as_float32(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor
