#!/usr/bin/env bash
# torch 2.13.0 on a CPU: a layer whose weights are on the device "meta", which has shapes and no numbers. Loaders put models
# there that are to be filled (accelerate's init_empty_weights, low_cpu_mem_usage, device_map with offloading).
#
# Expected: an error about two devices, as a sum gives one ("Tensor on device meta is not on the expected device cpu"),
# or a result on "meta".
# Seen (CPython 3.11, x86-64): linear layers, matmul and conv2d give a result on the CPU that nobody has computed: memory as
# it was found, other numbers at each call, often zeros, sometimes NaN. No error, no warning. So one name that a
# loader did not find makes a model that draws noise, or nearly what it should, instead of one that fails. It is met in
# earnest where accelerate 1.15.0, diffusers 0.42.1 and peft 0.21.2 meet: a LoRA that load_lora_adapter puts into a model
# after accelerate.cpu_offload(model) follows its layer to "meta", where its numbers are gone. A UserWarning that
# copying "is a no-op" is all; the model goes on with whatever comes.
#
# Our loader compares all names before it reads a weight (tests/engine/test_checkpoints.py::test_missing_tensors).
# Exits non-zero when this changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 diffusers==0.42.1 peft==0.21.2 accelerate==1.15.0 transformers==5.23.0
"$folder/venv/bin/python" - <<'PY'
import accelerate
import torch
from diffusers import FluxTransformer2DModel
from torch.nn import functional

rows, picture = torch.ones(64, 64), torch.ones(1, 4, 16, 16)
products = {
    "linear": lambda: functional.linear(rows, torch.empty(64, 64, device="meta")),
    "matmul": lambda: rows @ torch.empty(64, 64, device="meta"),
    "conv2d": lambda: functional.conv2d(picture, torch.empty(4, 4, 3, 3, device="meta")),
}
for name, product in products.items():
    # Nothing is computed: what other tensors held, which are gone, is still there.
    found = []
    for left in (3.0, 5.0):
        others = [torch.full(product().shape, left) for _ in range(64)]
        del others
        results = [product() for _ in range(64)]
        assert all(result.device.type == "cpu" for result in results)
        found.append(sum((result == left).any().item() for result in results))
    print(f"{name}: a result on the CPU; of 64, {found[0]} hold threes and {found[1]} fives that other tensors had left")
    if min(found) == 0:
        raise SystemExit(f"changed: {name} does not hand out memory as it was found")
try:
    rows + torch.empty(64, 64, device="meta")
    raise SystemExit("changed: a sum takes both")
except RuntimeError as error:
    print(f"sum: {str(error)[:60]}")

torch.manual_seed(0)
transformer = FluxTransformer2DModel(
    in_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=8, num_attention_heads=1,
    joint_attention_dim=8, pooled_projection_dim=8, axes_dims_rope=(2, 2, 4),
).eval()  # fmt: skip
LAYER = "transformer.transformer_blocks.0.attn.to_v"
accelerate.cpu_offload(transformer, "cpu")
changes = {f"{LAYER}.lora_A.weight": torch.ones(2, 8), f"{LAYER}.lora_B.weight": torch.ones(8, 2)}
transformer.load_lora_adapter(changes, adapter_name="film")
where = {one.device.type for name, one in transformer.named_parameters() if "lora_" in name}
with torch.no_grad():
    velocity = transformer(
        hidden_states=torch.ones(1, 4, 4), encoder_hidden_states=torch.ones(1, 3, 8),
        pooled_projections=torch.ones(1, 8), timestep=torch.tensor([0.5]), img_ids=torch.zeros(4, 3),
        txt_ids=torch.zeros(3, 3), return_dict=False,
    )[0]  # fmt: skip
print(f"a LoRA in an offloaded model is on {where}, and the model gives a result on {velocity.device}")
if where != {"meta"} or velocity.device.type != "cpu":
    raise SystemExit("changed: a LoRA in an offloaded model keeps its numbers, or the model refuses")
print("as described")
PY
