#!/usr/bin/env bash
# torch 2.13.0 on a CPU: convolutions of one picture, whose pixels lie with their channels side by side.
#
# Expected: two tensors of equal shape and values that torch's own is_contiguous(memory_format=channels_last) calls
# channels-last are computed alike. The stride of a dimension of length one says where nothing is.
# Seen (CPython 3.11, x86-64): that stride decides. `pixels.permute(2, 0, 1)[None]` gives a result whose pixels lie
# channel after channel, `pixels[None].permute(0, 3, 1, 2)` one whose channels lie side by side. The convolutions' bits
# agree here, but a group norm of the two results does not: 1e-5 apart.
#
# A picture that is to equal another program's to the last bit must be laid out as there, stride of the batch included:
# `engine/encoded_source.py` does so for diffusers' pipelines.
# Exits non-zero when this changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy
"$folder/venv/bin/python" - <<'PY'
import torch
from torch import Tensor, nn

torch.manual_seed(0)
pixels = torch.randn(256, 256, 3)
convolution, norm = nn.Conv2d(3, 128, 3, padding=1), nn.GroupNorm(32, 128)
batch_last, batch_first = pixels.permute(2, 0, 1)[None], pixels[None].permute(0, 3, 1, 2)
assert torch.equal(batch_last, batch_first)
for one in (batch_last, batch_first):
    assert one.is_contiguous(memory_format=torch.channels_last) and not one.is_contiguous()


@torch.inference_mode()
def convolved(one: Tensor) -> tuple[Tensor, Tensor]:
    result = convolution(one)
    return result, norm(result)


(plain, normed), (other, other_normed) = convolved(batch_last), convolved(batch_first)
for one, result in ((batch_last, plain), (batch_first, other)):
    beside = result.is_contiguous(memory_format=torch.channels_last)
    print(f"strides {one.stride()}: result {result.stride()}, channels {'side by side' if beside else 'apart'}")
print(f"results equal: {torch.equal(plain, other)}; normed apart by {float((normed - other_normed).abs().max()):.0e}")
if not plain.is_contiguous() or not other.is_contiguous(memory_format=torch.channels_last):
    raise SystemExit("changed: the results lie otherwise")
if torch.equal(normed, other_normed):
    raise SystemExit("changed: the norms are equal")
print("as described")
PY
