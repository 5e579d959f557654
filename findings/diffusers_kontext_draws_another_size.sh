#!/usr/bin/env bash
# diffusers 0.42.1: FluxKontextPipeline with a width and a height.
#
# Expected: a picture of that width and height, as from every other pipeline of FLUX; or an error.
# Seen (CPython 3.11, torch 2.13.0): width and height count as a shape only. The picture has about a megapixel of that
# shape (asked 128 x 64, got 1440 x 720), 127 times the pixels that were asked for, and a logged warning is
# all that tells. The source is squeezed into one of 17 shapes of about a megapixel, also when it is 16 x 16 pixels.
# With max_area=width * height and _auto_resize=False, which begins with an underscore, both stay as they are.
#
# Our engine draws the size that was asked for, and reads the source in its own size, up to a megapixel.
# Exits non-zero when this changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 diffusers==0.42.1 accelerate==1.15.0 transformers==5.23.0
"$folder/venv/bin/python" - <<'PY'
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxKontextPipeline, FluxTransformer2DModel
from PIL import Image

torch.manual_seed(0)
transformer = FluxTransformer2DModel(
    in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=1,
    joint_attention_dim=8, pooled_projection_dim=8, guidance_embeds=True, axes_dims_rope=(4, 6, 6),
)
vae = AutoencoderKL(
    down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4, block_out_channels=(2,) * 4,
    layers_per_block=1, latent_channels=4, norm_num_groups=1, scaling_factor=0.36, shift_factor=0.12,
)
pipeline = FluxKontextPipeline(FlowMatchEulerDiscreteScheduler(), vae, None, None, None, None, transformer)
pipeline.set_progress_bar_config(disable=True)
tokens = []
transformer.x_embedder.register_forward_hook(lambda layer, inputs, output: tokens.append(inputs[0].shape[1]))


def draw(**more):
    return pipeline(
        image=Image.new("RGB", (16, 16)), prompt_embeds=torch.zeros(1, 4, 8), pooled_prompt_embeds=torch.zeros(1, 8),
        width=128, height=64, num_inference_steps=1, **more,
    ).images[0].size


asked, kept = draw(), draw(max_area=128 * 64, _auto_resize=False)
print(f"asked for 128 x 64: got {asked}, from {tokens[0]} tokens; told not to: {kept}, from {tokens[1]} tokens")
if asked != (1440, 720) or kept != (128, 64) or tokens[1] != 8 * 4 + 1:
    raise SystemExit("changed: the sizes are others")
print("as described")
PY
