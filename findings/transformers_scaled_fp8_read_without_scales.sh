#!/usr/bin/env bash
# transformers 5.23.0: an fp8 file whose weights have scales beside them, as ComfyUI writes t5xxl_fp8_e4m3fn_scaled.
#
# Expected: weights are multiplied by their scales, or the file is refused.
# Seen (CPython 3.11, torch 2.13.0, safetensors 0.8.0): T5EncoderModel.from_pretrained reads the 8-bit numbers as if
# they were the weights, and at most prints the scales in a report of unexpected names. With scales of max/448 the
# weights are some thousands of times too large: pictures are noise, and nothing fails.
#
# We read the files ourselves and multiply, whichever of its two names the scale has.
# Exits non-zero when this changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.23.0 safetensors==0.8.0
"$folder/venv/bin/python" - "$folder" <<'PY'
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import T5Config, T5EncoderModel

folder, name = Path(sys.argv[1]) / "t5", "encoder.block.0.layer.1.DenseReluDense.wo.weight"
config = T5Config(vocab_size=64, d_model=32, d_kv=8, d_ff=64, num_layers=1, num_heads=4, feed_forward_proj="gated-gelu")
model = T5EncoderModel(config)
with torch.no_grad():
    model.state_dict()[name].normal_(0, 0.02)
model.save_pretrained(folder)
stored = load_file(folder / "model.safetensors")
scale = stored[name].abs().max() / 448
stored["scaled_fp8"] = torch.zeros(2, dtype=torch.float8_e4m3fn)
stored[name.removesuffix("weight") + "scale_weight"] = scale[None]
stored[name] = (stored[name] / scale).to(torch.float8_e4m3fn)
save_file(stored, folder / "model.safetensors", {"format": "pt"})

read = T5EncoderModel.from_pretrained(folder, dtype=torch.float32).state_dict()[name]
ratio = (read.norm() / model.state_dict()[name].norm()).item()
print(f"{ratio:,.0f} times too large")
if ratio < 1000:
    raise SystemExit("changed: the scales are read")
print("as described")
PY
