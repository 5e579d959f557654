"""Pictures that start from another: equal to diffusers' own pipelines, bit for bit, in float32 on the CPU."""

import hashlib
import io
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxImg2ImgPipeline, FluxInpaintPipeline, FluxPipeline
from numpy.typing import NDArray
from PIL import Image

from flux_endpoint.core.catalog import ModelFamily
from flux_endpoint.core.generation import GenerationRequest
from flux_endpoint.core.source_picture import SourcePicture
from flux_endpoint.engine.decode import Slices
from flux_endpoint.engine.encoded_source import encode
from flux_endpoint.engine.engine import FluxEngine
from flux_endpoint.engine.protocol import StepDone, finish
from tests.engine.conftest import SPECS, arguments_of, drawn_beside, make_request

DEV, SCHNELL = ModelFamily.DEV, ModelFamily.SCHNELL
Pipelines = Mapping[ModelFamily, FluxPipeline]
Engines = Mapping[ModelFamily, FluxEngine]


def picture(width: int, height: int, channels: int = 3) -> NDArray[np.uint8]:
    """Something smooth: each channel rises in another direction."""
    rows, columns = np.mgrid[0:height, 0:width]
    waves = [np.sin(columns / (9 + channel) + rows / (13 - channel)) for channel in range(channels)]
    return np.stack([np.rint(127 + 120 * wave) for wave in waves], axis=-1).astype(np.uint8)


def mask(width: int, height: int) -> NDArray[np.uint8]:
    """Anew in the right half."""
    pixels = np.zeros((height, width), np.uint8)
    pixels[:, width // 2 :] = 255
    return pixels


def kept(pixels: NDArray[np.uint8], files: dict[str, bytes]) -> SourcePicture:
    """As a gateway keeps it; its bytes go into `files`."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    sha256 = hashlib.sha256(stream.getvalue()).hexdigest()
    files[sha256] = stream.getvalue()
    return SourcePicture(f"{sha256}.png", sha256, pixels.shape[1], pixels.shape[0])


def draw(engine: FluxEngine, request: GenerationRequest, files: Mapping[str, bytes]) -> NDArray[np.uint8]:
    data = finish(engine.generate(request, files)).data
    return np.asarray(Image.open(io.BytesIO(data)))


def latents_of(pipeline: FluxPipeline, pixels: NDArray[np.uint8]) -> torch.Tensor:
    """What diffusers' autoencoder holds for the likeliest."""
    image = FluxImg2ImgPipeline.from_pipe(pipeline).image_processor.preprocess(Image.fromarray(pixels))
    with torch.no_grad():
        mean = pipeline.vae.encode(image).latent_dist.mode()
    return (mean - pipeline.vae.config.shift_factor) * pipeline.vae.config.scaling_factor


def drawn_by(kind: type, pipeline: FluxPipeline, request: GenerationRequest, **more: Any) -> NDArray[np.uint8]:
    editing = kind.from_pipe(pipeline)
    editing.set_progress_bar_config(disable=True)
    if request.negative_prompt:
        more |= {"negative_prompt": request.negative_prompt, "true_cfg_scale": request.true_cfg_scale}
    image = editing(
        request.prompt,
        strength=request.strength,
        **arguments_of(request),
        max_sequence_length=min(SPECS[DEV].max_text_tokens, pipeline.tokenizer_2.model_max_length),
        **more,
    ).images[0]
    return np.asarray(image)


def end_of(slices: Slices) -> torch.Tensor:
    while True:
        try:
            next(slices)
        except StopIteration as end:
            return end.value


@pytest.mark.parametrize("strength", [0.3, 0.6, 1.0])
@pytest.mark.parametrize("negative_prompt", ["", "night, boat"])
def test_pixels_equal_the_img2img_pipelines(
    engines: Engines, pipelines: Pipelines, strength: float, negative_prompt: str
) -> None:
    files: dict[str, bytes] = {}
    source = picture(96, 64)
    request = make_request(
        width=96,
        height=64,
        num_inference_steps=5,
        negative_prompt=negative_prompt,
        image=kept(source, files),
        strength=strength,
    )
    expected = drawn_by(FluxImg2ImgPipeline, pipelines[DEV], request, image=latents_of(pipelines[DEV], source))
    assert np.array_equal(draw(engines[DEV], request, files), expected)


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_pixels_that_are_drawn_anew_equal_the_inpainting_pipelines(
    engines: Engines, pipelines: Pipelines, strength: float
) -> None:
    files: dict[str, bytes] = {}
    source, anew = picture(96, 64), mask(96, 64)
    request = make_request(
        width=96, height=64, num_inference_steps=4, image=kept(source, files), mask=kept(anew, files), strength=strength
    )
    latents = latents_of(pipelines[DEV], source)
    expected = drawn_by(
        FluxInpaintPipeline,
        pipelines[DEV],
        request,
        image=latents,
        mask_image=Image.fromarray(anew),
        # Of no use to this transformer.
        masked_image_latents=torch.zeros(1, 3, 64, 96),
    )
    ours = draw(engines[DEV], request, files)
    assert np.array_equal(ours[:, 48:], expected[:, 48:])
    # No autoencoder between: what stays is the client's own.
    assert np.array_equal(ours[:, :48], source[:, :48])
    assert not np.array_equal(ours[:, 48:], source[:, 48:])


def test_a_stroke_is_drawn_anew_wherever_it_lies(engines: Engines) -> None:
    files: dict[str, bytes] = {}
    source, thin, wide = picture(64, 64), np.zeros((64, 64), np.uint8), np.zeros((64, 64), np.uint8)
    # diffusers reads one pixel of 8 x 8, and would draw nothing here
    # (findings/diffusers_inpainting_reads_one_pixel_of_64.sh).
    thin[:, 43:46], wide[:, 40:48] = 255, 255
    request = make_request(image=kept(source, files), mask=kept(thin, files), strength=0.8)
    ours, expected = (draw(engines[DEV], replace(request, mask=kept(one, files)), files) for one in (thin, wide))
    assert np.array_equal(ours, np.where(thin[..., None] > 0, expected, source))
    assert not np.array_equal(expected, source)


def test_latents_are_those_of_the_autoencoder_when_it_is_called(pipelines: Pipelines) -> None:
    source = picture(48, 80)
    numbers = 2.0 * torch.from_numpy(source[None].astype(np.float32) / 255.0).permute(0, 3, 1, 2) - 1.0
    vae = pipelines[DEV].vae
    assert torch.equal(end_of(encode(vae, numbers)), latents_of(pipelines[DEV], source))


@pytest.mark.parametrize("family", [DEV, SCHNELL])
def test_at_full_strength_nothing_of_the_source_is_left(engines: Engines, family: ModelFamily) -> None:
    files: dict[str, bytes] = {}
    request = make_request(num_inference_steps=2)
    edited = replace(request, image=kept(picture(32, 32), files), strength=1.0)
    assert np.array_equal(draw(engines[family], edited, files), draw(engines[family], request, {}))


def test_the_last_step_is_drawn_even_without_strength(engines: Engines) -> None:
    files: dict[str, bytes] = {}
    source = picture(64, 64)
    request = make_request(num_inference_steps=50, image=kept(source, files), strength=0.0)
    steps: list[StepDone] = []
    finish(engines[DEV].generate(request, files), steps.append)
    assert [(step.step, step.total) for step in steps] == [(1, 1)]


def test_a_source_of_another_shape_is_cut_and_not_stretched(engines: Engines) -> None:
    files: dict[str, bytes] = {}
    wide = np.zeros((32, 96, 3), np.uint8)
    wide[:, 32:64] = 200
    request = make_request(width=64, height=64, image=kept(wide, files), mask=kept(np.zeros((32, 96), np.uint8), files))
    # Its middle third, and nothing of the margins.
    assert (draw(engines[DEV], replace(request, strength=0.5), files)[:, 8:56] == 200).all()


def test_sizes_that_no_model_draws_are_cut_out_of_larger_ones(engines: Engines) -> None:
    files: dict[str, bytes] = {}
    source = picture(60, 52)
    stays = kept(np.zeros((52, 60), np.uint8), files)
    request = make_request(width=60, height=52, image=kept(source, files), mask=stays, strength=0.5)
    assert np.array_equal(draw(engines[DEV], request, files), source)


def test_company_changes_nothing(engines: Engines) -> None:
    files: dict[str, bytes] = {}
    request = make_request(num_inference_steps=4, image=kept(picture(64, 64), files), strength=0.7)
    alone = finish(engines[DEV].generate(request, files)).data
    ours, other = engines[DEV].generate(request, files), engines[DEV].generate(make_request(num_inference_steps=4))
    assert drawn_beside(ours, other) == alone
