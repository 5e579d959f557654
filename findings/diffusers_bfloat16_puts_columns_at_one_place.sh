#!/usr/bin/env bash
# diffusers 0.42.1: FluxPipeline in bfloat16, with a picture wider or higher than 4096 pixels (a panorama, or what a
# ControlNet for upscaling draws).
#
# Expected: each column of tokens (16 pixels) has a place of its own. Places are whole numbers that are made as
# float32, and the rotary embedding computes in float64, as if it mattered.
# Seen (CPython 3.11, torch 2.13.0): between the two they are cast to the dtype of the prompt's embeds, for which the
# pipelines have bfloat16, and that holds no odd number above 256. From pixel 4096 on three columns of each four are
# at one place (259, 260 and 261 at 260), and 258 alone at its own: the attention cannot tell such columns apart by
# where they are. The same with rows. Nothing is logged. In float16 all is right up to 32768 pixels, and in float32
# beyond, so that a test in float32 does not show it.
#
# Our engine keeps places in float32 whatever it computes in (`engine/forward.py`), and draws 1536 pixels a side at most.
# Exits non-zero when this changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 diffusers==0.42.1 accelerate==1.15.0 transformers==5.23.0 pillow
"$folder/venv/bin/python" - <<'PY'
from typing import Any

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel

COLUMNS = 384
transformer = FluxTransformer2DModel(
    in_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=1,
    joint_attention_dim=8, pooled_projection_dim=8, axes_dims_rope=(4, 4, 8),
).eval()  # fmt: skip
vae = AutoencoderKL(
    down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
    block_out_channels=(2,) * 4, norm_num_groups=1, latent_channels=1,
)  # fmt: skip
nothing = dict.fromkeys(("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"))
pipeline = FluxPipeline(FlowMatchEulerDiscreteScheduler(), vae, transformer=transformer, **nothing)
pipeline.set_progress_bar_config(disable=True)
told: list[torch.Tensor] = []
turned: list[torch.Tensor] = []
transformer.register_forward_pre_hook(lambda _, __, named: told.append(named["img_ids"]), with_kwargs=True)
transformer.pos_embed.register_forward_hook(lambda _, __, angles: turned.append(angles[0][3:]))


def places(dtype: torch.dtype) -> tuple[int, int, list[Any]]:
    """Of the columns of a picture: different places, different angles, and places from 254 on."""
    pipeline.to(dtype)
    pipeline(
        prompt_embeds=torch.ones(1, 3, 8, dtype=dtype), pooled_prompt_embeds=torch.ones(1, 8, dtype=dtype),
        height=16, width=16 * COLUMNS, num_inference_steps=1, output_type="latent",
    )  # fmt: skip
    columns = told[-1][:, 2]
    assert len(columns) == len(turned[-1]) == COLUMNS
    return len(columns.unique()), len(turned[-1].unique(dim=0)), columns[254:264].int().tolist()


seen = {dtype: places(dtype) for dtype in (torch.float32, torch.float16, torch.bfloat16)}
for dtype, (different, angles, some) in seen.items():
    print(f"{dtype}: {different} places for {COLUMNS} columns, {angles} after the embedding; from the 255th on: {some}")
if [one[:2] for one in seen.values()] != [(384, 384), (384, 384), (321, 321)]:
    raise SystemExit("changed: each column has its place")
print("as described")
PY
