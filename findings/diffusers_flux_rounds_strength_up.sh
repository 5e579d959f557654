#!/usr/bin/env bash
# diffusers 0.42.1: strength of FluxImg2ImgPipeline where there are few steps, as for FLUX.1 schnell.
#
# Expected: steps x strength, rounded down, of the last steps are drawn, as by StableDiffusionImg2ImgPipeline and its
# XL sister: of 4 steps at strength 0.8 the last three; a strength below 1 keeps something of the picture.
# Seen (CPython 3.11, torch 2.13.0): FLUX's pipelines round up. At 0.8 all four steps are drawn, from noise alone: two
# quite different pictures give the same result to the last bit, with any strength above 0.75, and there is no warning.
# The same in FluxInpaintPipeline, which counts alike. The last bit of a product rounds up as well: 25 steps at 0.56 are
# 15 and not 14, because 25 x 0.56 is 14.000000000000002; 50 at 0.28 are 14.
#
# We count steps as FLUX's pipelines do, for the same pictures, and say in the answer's warnings that nothing of the
# picture is kept (tests/unit/test_core_endpoint.py::test_a_strength_that_keeps_nothing_is_told).
# Exits non-zero when this changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 diffusers==0.42.1 accelerate==1.15.0 transformers==5.23.0 pillow
"$folder/venv/bin/python" - <<'PY'
from types import SimpleNamespace

import torch
from diffusers import AutoencoderKL, DDIMScheduler, FlowMatchEulerDiscreteScheduler, FluxImg2ImgPipeline
from diffusers import FluxTransformer2DModel, StableDiffusionImg2ImgPipeline
from PIL import Image

transformer = FluxTransformer2DModel(
    in_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=8, num_attention_heads=1,
    joint_attention_dim=8, pooled_projection_dim=8, axes_dims_rope=(2, 2, 4),
).eval()  # fmt: skip
nothing = dict.fromkeys(("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"))
vae = AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, latent_channels=1, shift_factor=0.1)
flux = FluxImg2ImgPipeline(FlowMatchEulerDiscreteScheduler(), vae, transformer=transformer, **nothing)
flux.set_progress_bar_config(disable=True)
sources = [Image.new("RGB", (32, 32), colour) for colour in ("navy", "orange")]


def draw(source: Image.Image, steps: int, strength: float) -> tuple[int, torch.Tensor]:
    """How many steps were drawn, and the latents after them."""
    counted = []
    made = flux(
        prompt_embeds=torch.ones(1, 3, 8), pooled_prompt_embeds=torch.ones(1, 8), image=source,
        num_inference_steps=steps, strength=strength, output_type="latent", generator=torch.Generator().manual_seed(0),
        callback_on_step_end=lambda _, step, __, kept: counted.append(step) or kept,
    )  # fmt: skip
    return len(counted), made.images


def steps_of_stable_diffusion(steps: int, strength: float) -> int:
    scheduler = DDIMScheduler()
    scheduler.set_timesteps(steps)
    return StableDiffusionImg2ImgPipeline.get_timesteps(SimpleNamespace(scheduler=scheduler), steps, strength, "cpu")[1]


seen = {}
for steps, strength in ((4, 0.75), (4, 0.8), (25, 0.56), (50, 0.28)):
    drawn = [draw(source, steps, strength) for source in sources]
    ignored = torch.equal(drawn[0][1], drawn[1][1])
    seen[steps, strength] = drawn[0][0], steps_of_stable_diffusion(steps, strength), ignored
    print(f"{steps} steps at {strength}: FLUX draws {drawn[0][0]}, Stable Diffusion {seen[steps, strength][1]};", end=" ")
    print(f"FLUX from either picture the same: {ignored}")
if list(seen.values()) != [(3, 3, False), (4, 3, True), (15, 14, False), (14, 14, False)]:
    raise SystemExit("changed: FLUX's pipelines round strength another way")
print("as described")
PY
