#!/usr/bin/env bash
# peft 0.21.2 and optimum-quanto 0.2.7: a LoRA merged into a model whose weights are quantised (quantize, freeze), as is usual
# for FLUX.1 on small devices; by merge_and_unload(), or by fuse_lora() of diffusers 0.42.1.
#
# Expected: the weights take the LoRA up, for which peft has code of its own for bitsandbytes and torchao, or an error;
# most of all with safe_merge=True, which is there to look at the result before it is kept.
# Seen (CPython 3.11, torch 2.13.0): beside the weights the LoRA acts, and merged it is gone: the layer computes to the
# last bit what it did without, with 8-bit integers and with fp8, safe_merge or not. Nothing is raised and nothing is logged. peft
# takes quanto's layer for an nn.Linear and assigns to `weight.data`, which leaves the numbers within quanto's tensor
# alone. unmerge then takes off as little, so that who merges and takes apart again sees nothing amiss.
#
# Our LoRAs act beside quantised weights, and are merged into copies of plain ones alone
# (decision 0047; tests/engine/test_loras.py::test_packed_layers_are_changed_as_plain_ones_are).
# Exits non-zero when this changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 diffusers==0.42.1 peft==0.21.2 optimum-quanto==0.2.7 accelerate==1.15.0 \
  transformers==5.23.0
"$folder/venv/bin/python" - <<'PY'
import copy
import warnings
from typing import Any

import torch
from diffusers import FluxTransformer2DModel
from optimum.quanto import freeze, qfloat8, qint8, quantize
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

torch.manual_seed(0)
rows = torch.randn(4, 128)
plain = nn.Sequential(nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 128))
flux = FluxTransformer2DModel(
    in_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=4,
    joint_attention_dim=64, pooled_projection_dim=64, axes_dims_rope=(4, 4, 8),
).eval()  # fmt: skip
LAYERS = ["transformer_blocks.0.attn.to_q", "transformer_blocks.0.ff.net.2", "single_transformer_blocks.0.proj_out"]
lora = {}
for name in LAYERS:
    out, into = flux.get_submodule(name).weight.shape
    lora[f"transformer.{name}.lora_A.weight"] = torch.randn(4, into) * 0.3
    lora[f"transformer.{name}.lora_B.weight"] = torch.randn(out, 4) * 0.3


def stored(model: nn.Module, kind: Any) -> Any:
    model = copy.deepcopy(model)
    if kind is not None:
        quantize(model, weights=kind)
        freeze(model)
    return model


def by_peft(kind: Any, *, safe: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Without the LoRA, with it beside the weights, and with it merged."""
    model = stored(plain, kind)
    without = model(rows)
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules=["0", "2"], init_lora_weights=False))
    beside = adapted(rows)
    return without, beside, adapted.merge_and_unload(safe_merge=safe)(rows)


def velocity(model: FluxTransformer2DModel) -> Tensor:
    return model(
        hidden_states=torch.ones(1, 4, 4), encoder_hidden_states=torch.ones(1, 3, 64), timestep=torch.ones(1),
        pooled_projections=torch.ones(1, 64), img_ids=torch.zeros(4, 3), txt_ids=torch.zeros(3, 3),
    ).sample  # fmt: skip


def by_diffusers(kind: Any) -> tuple[Tensor, Tensor, Tensor]:
    model = stored(flux, kind)
    without = velocity(model)
    model.load_lora_adapter(dict(lora), adapter_name="one")
    beside = velocity(model)
    model.fuse_lora()
    return without, beside, velocity(model)


wrong = []
with torch.no_grad(), warnings.catch_warnings(record=True) as warned:
    warnings.simplefilter("always")
    for kind in (None, qint8, qfloat8):
        found = {"peft": by_peft(kind, safe=False), "peft, safe": by_peft(kind, safe=True), "diffusers": by_diffusers(kind)}
        for way, (without, beside, merged) in found.items():
            acts, lost = ((one - without).norm() / without.norm() for one in (beside, merged))
            name = "plain" if kind is None else kind.name
            print(f"{name}, {way}: the LoRA changes {acts:.2f} beside the weights, merged {lost:.2f}")
            as_described = torch.equal(merged, without) if kind else torch.allclose(merged, beside, atol=1e-4)
            wrong += [] if as_described and acts > 0.01 else [f"{name}, {way}"]
told = [str(one.message) for one in warned if "merge" in str(one.message).lower()]
if wrong or told:
    raise SystemExit(f"changed: {wrong} {told}")
print("as described")
PY
