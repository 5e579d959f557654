#!/usr/bin/env bash
# diffusers 0.42.1: FluxControlNetPipeline with a negative prompt, and with control_guidance_end.
#
# Expected: with true_cfg_scale the ControlNet reads each prompt for the pass of that prompt, as in the pipelines of
# Stable Diffusion, and in steps beyond control_guidance_end nobody asks it.
# Seen (CPython 3.11, torch 2.13.0): it is asked once a step, with the prompt alone, and what it says for that is added in
# the pass of the negative prompt too. It is asked in all steps: after control_guidance_end what it says is multiplied by
# zero, so that the end saves no time. And making a FluxControlNetModel raises a FutureWarning of a name
# (FluxPosEmbed) that diffusers imports itself.
#
# Ours are equal to its pictures, and do not ask the ControlNet where it does not act.
# Exits non-zero when this changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 diffusers==0.42.1 accelerate==1.15.0 transformers==5.23.0 pillow
"$folder/venv/bin/python" - <<'PY'
import warnings

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    FluxControlNetModel,
    FluxControlNetPipeline,
    FluxTransformer2DModel,
)
from PIL import Image

sizes = {
    "in_channels": 16,
    "num_layers": 1,
    "num_single_layers": 0,
    "attention_head_dim": 8,
    "num_attention_heads": 2,
    "joint_attention_dim": 8,
    "pooled_projection_dim": 8,
    "axes_dims_rope": (2, 2, 4),
}
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    controlnet = FluxControlNetModel(**sizes)
is_told = any("FluxPosEmbed" in str(one.message) for one in told)
transformer = FluxTransformer2DModel(**sizes)
vae = AutoencoderKL(
    block_out_channels=(4,), latent_channels=4, norm_num_groups=2, scaling_factor=0.36, shift_factor=0.1
)
pipeline = FluxControlNetPipeline(
    FlowMatchEulerDiscreteScheduler(), vae, None, None, None, None, transformer, controlnet
)
asked, given = [], []
controlnet.register_forward_pre_hook(
    lambda module, args, inputs: asked.append((float(inputs["encoder_hidden_states"][0, 0, 0]), inputs["conditioning_scale"])),
    with_kwargs=True,
)
transformer.register_forward_pre_hook(
    lambda module, args, inputs: given.append(
        (float(inputs["encoder_hidden_states"][0, 0, 0]), id(inputs["controlnet_block_samples"]))
    ),
    with_kwargs=True,
)
words, pooled = torch.ones(1, 3, 8), torch.ones(1, 8)
pipeline(
    control_image=Image.new("RGB", (16, 16)),
    prompt_embeds=words,
    pooled_prompt_embeds=pooled,
    negative_prompt_embeds=-words,
    negative_pooled_prompt_embeds=-pooled,
    true_cfg_scale=2.0,
    control_guidance_end=0.5,
    num_inference_steps=2,
    width=16,
    height=16,
    output_type="latent",
)
is_one = all(one[1] == other[1] for one, other in zip(given[::2], given[1::2]))
print(f"the ControlNet was asked with {asked}; the transformer with {[one for one, _ in given]}, the same added: {is_one}")
print(f"a warning of its own name: {is_told}")
if (asked, [one for one, _ in given], is_one, is_told) != ([(1.0, 1.0), (1.0, 0.0)], [1.0, -1.0] * 2, True, True):
    raise SystemExit("changed: it hears the negative prompt, is not asked where it does not act, or nothing is warned of")
print("as described")
PY
