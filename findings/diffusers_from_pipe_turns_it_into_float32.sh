#!/usr/bin/env bash
# diffusers 0.42.1: FluxImg2ImgPipeline.from_pipe of a pipeline in bfloat16, to draw from pictures with the same weights.
#
# Expected: what its docstring says: the components are those of the first pipeline, "without reallocating additional
# memory"; in the number format that they have.
# Seen (CPython 3.11, torch 2.13.0): from_pipe has a dtype of its own, float32 where it is not said, and
# casts the new pipeline to it. The modules are shared, so the first pipeline is float32 from then on, too: twice the
# memory (the transformer of FLUX.1 goes from 22 to 44 GiB), slower, and other pictures for its seeds. Nothing is
# logged. AutoPipelineForImage2Image.from_pipe leaves the dtype as it is, though the two are documented side by side.
#
# We build no pipelines: one engine has all modes (`engine/sources.py`).
# Exits non-zero when this changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 diffusers==0.42.1 accelerate==1.15.0 transformers==5.23.0 pillow
"$folder/venv/bin/python" - <<'PY'
import torch
from diffusers import AutoencoderKL, AutoPipelineForImage2Image, FlowMatchEulerDiscreteScheduler
from diffusers import FluxImg2ImgPipeline, FluxPipeline, FluxTransformer2DModel


def in_bfloat16() -> FluxPipeline:
    transformer = FluxTransformer2DModel(
        in_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=8, num_attention_heads=1,
        joint_attention_dim=8, pooled_projection_dim=8, axes_dims_rope=(2, 2, 4),
    )  # fmt: skip
    vae = AutoencoderKL(block_out_channels=(8,), norm_num_groups=4)
    nothing = dict.fromkeys(("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"))
    pipeline = FluxPipeline(FlowMatchEulerDiscreteScheduler(), vae, transformer=transformer, **nothing)
    return pipeline.to(torch.bfloat16)


def dtypes(pipeline: FluxPipeline) -> list[str]:
    return [str(module.dtype).removeprefix("torch.") for module in (pipeline.transformer, pipeline.vae)]


seen = {}
for name, derived in {
    "FluxImg2ImgPipeline.from_pipe(pipeline)": FluxImg2ImgPipeline.from_pipe,
    "FluxImg2ImgPipeline.from_pipe(pipeline, dtype=bfloat16)": lambda one: FluxImg2ImgPipeline.from_pipe(
        one, dtype=torch.bfloat16
    ),
    "AutoPipelineForImage2Image.from_pipe(pipeline)": AutoPipelineForImage2Image.from_pipe,
}.items():
    pipeline = in_bfloat16()
    assert derived(pipeline).transformer is pipeline.transformer
    seen[name] = dtypes(pipeline)
    print(f"{name}: transformer and autoencoder of the first pipeline are {' and '.join(seen[name])} afterwards")
if list(seen.values()) != [["float32"] * 2, ["bfloat16"] * 2, ["bfloat16"] * 2]:
    raise SystemExit("changed: from_pipe leaves the number format as it is")
print("as described")
PY
