"""Draw pictures with an exported model through the stock `FluxPipeline`, as the server does."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import FluxPipeline, FluxTransformer2DModel

from training.export import STUDENT_FOLDER
from training.flow import DEFAULT_GUIDANCE
from training.train_student import STEPS as STUDENT_STEPS

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
