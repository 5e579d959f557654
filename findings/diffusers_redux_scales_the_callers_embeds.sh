#!/usr/bin/env bash
# diffusers 0.42.1: FluxPriorReduxPipeline, called with embeds of one's own and a scale.
#
# Expected: prompt_embeds_scale weighs what is read from the picture, and tensors that the caller hands in stay as they
# are, so that the same call gives the same result.
# Seen (CPython 3.11, torch 2.13.0, transformers 5.23.0): the scale multiplies the words as well as the picture, which
# for one picture is next to nothing: their proportion stays. And pooled_prompt_embeds is scaled in place: after a call
# with pooled_prompt_embeds_scale=0.5 the caller's own tensor is half of what it was, after two a quarter, and the second
# result is half of the first. prompt_embeds is spared, because it is joined to the picture's before.
#
# Our image_prompt_scale is of the picture alone, and nothing is scaled in place.
# Exits non-zero when this changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 diffusers==0.42.1 accelerate==1.15.0 transformers==5.23.0 pillow
"$folder/venv/bin/python" - <<'PY'
import torch
from diffusers import FluxPriorReduxPipeline
from diffusers.pipelines.flux.modeling_flux import ReduxImageEncoder
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel, SiglipImageProcessorPil, SiglipVisionConfig, SiglipVisionModel

narrow = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
pipeline = FluxPriorReduxPipeline(
    SiglipVisionModel(SiglipVisionConfig(**narrow, image_size=28, patch_size=14)),
    SiglipImageProcessorPil(size={"height": 28, "width": 28}),
    ReduxImageEncoder(redux_dim=16, txt_in_features=8),
    text_encoder=CLIPTextModel(CLIPTextConfig(**narrow, vocab_size=16)),
)
words, pooled = torch.ones(1, 3, 8), torch.ones(1, 16)
results = [
    pipeline(
        Image.new("RGB", (28, 28)),
        prompt_embeds=words,
        pooled_prompt_embeds=pooled,
        prompt_embeds_scale=0.5,
        pooled_prompt_embeds_scale=0.5,
    )
    for _ in range(2)
]
seen = [float(one.prompt_embeds[0, 0, 0]) for one in results], float(words.max()), float(pooled[0, 0])
print(f"words in two results: {seen[0]}; the caller's own words: {seen[1]}, and pooled embeds: {seen[2]}")
if seen != ([0.5, 0.5], 1.0, 0.25):
    raise SystemExit("changed: words are not scaled, or what the caller handed in stays as it was")
print("as described")
PY
