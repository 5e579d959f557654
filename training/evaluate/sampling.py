"""Draw pictures with an exported model through the stock `FluxPipeline`, as the server does."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import FluxPipeline, FluxTransformer2DModel

from training.ae.autoencoder import LATENT_CHANNELS
from training.export.folder import STUDENT_FOLDER
from training.flow.transformer import (
    DEFAULT_GUIDANCE,
    PIXELS_PER_TOKEN,
    guidance_step,
    guidance_strength,
    pack,
    position_ids,
    predict,
    schedule,
    unpack,
)
from training.student.train import STEPS as STUDENT_STEPS

STEPS = 28
T5_LENGTH = 64


def load_pipeline(folder: Path, student: bool = False) -> FluxPipeline:
    """The exported model in float32, without a progress bar; with `student`, the one for schnell."""
    pipeline = FluxPipeline.from_pretrained(folder, dtype=torch.float32)
    if student:
        pipeline.transformer = FluxTransformer2DModel.from_pretrained(folder / STUDENT_FOLDER, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def sample(
    pipeline: FluxPipeline,
    prompts: Sequence[str],
    seeds: Sequence[int],
    size: tuple[int, int],
    guidance: float = DEFAULT_GUIDANCE,
    negative: str | None = None,
    true_cfg: float = 1.0,
) -> list[np.ndarray]:
    """Make one picture per prompt and seed: (height, width, 3) uint8 each; `size` is width and height.

    A model without a guidance input is a student and gets the few steps that it was made for.
    """
    steps = STEPS if pipeline.transformer.config.guidance_embeds else STUDENT_STEPS
    width, height = size
    batch = max(512 * 512 // (width * height), 1) * 2
    pictures: list[np.ndarray] = []
    for start in range(0, len(prompts), batch):
        some = list(prompts[start : start + batch])
        images = pipeline(
            prompt=some,
            negative_prompt=None if negative is None else [negative] * len(some),
            true_cfg_scale=true_cfg,
            width=width,
            height=height,
            num_inference_steps=steps,
            guidance_scale=guidance,
            max_sequence_length=T5_LENGTH,
            generator=[torch.Generator().manual_seed(s) for s in seeds[start : start + batch]],
        ).images
        pictures += [np.asarray(image) for image in images]
    return pictures


@torch.no_grad()
def sample_taught(
    pipeline: FluxPipeline, prompts: Sequence[str], seeds: Sequence[int], size: tuple[int, int]
) -> list[np.ndarray]:
    """Draw as the guidance stage teaches the default guidance: in two passes at guidance 1, see `guidance_step`.

    What the stage can reach at best; no pipeline draws so. Arguments and result as for `sample`.
    """
    width, height = size
    tokens, positions = width * height // PIXELS_PER_TOKEN**2, position_ids(width, height, torch.device("cpu"))
    shape, count = (1, LATENT_CHANNELS, height // 32, width // 32), len(prompts)
    noisy = pack(torch.cat([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]))
    states, pooled, _ = pipeline.encode_prompt([*prompts, ""], None, max_sequence_length=T5_LENGTH)
    captions = pooled[:count], states[:count]
    nothing = pooled[count:].expand(count, -1), states[count:].expand(count, -1, -1)
    ones, strength = torch.ones(count), guidance_strength(torch.full((count,), DEFAULT_GUIDANCE))
    for level, next_level in itertools.pairwise(schedule(tokens, STEPS)):
        sigma = level * ones
        velocity = predict(pipeline.transformer, noisy, sigma, ones, *captions, positions)
        without = predict(pipeline.transformer, noisy, sigma, ones, *nothing, positions)
        noisy = noisy + (next_level - level) * (velocity + guidance_step(velocity, without, noisy, sigma, strength))
    vae = pipeline.vae
    latents = unpack(noisy, width, height) / vae.config.scaling_factor + vae.config.shift_factor
    images = pipeline.image_processor.postprocess(vae.decode(latents).sample)
    return [np.asarray(image) for image in images]
