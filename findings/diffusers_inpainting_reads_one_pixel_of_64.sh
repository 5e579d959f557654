#!/usr/bin/env bash
# diffusers 0.42.1: FluxInpaintPipeline, with masks of thin strokes and of soft edges.
#
# Expected: a stroke that touches a latent (8 x 8 pixels) has it drawn anew, at least where it covers half of it; and the
# mask that pipeline.mask_processor.blur gives, which is there to soften edges, softens them.
# Seen (CPython 3.11, torch 2.13.0): of each 8 x 8 pixels of the mask the first one is read, and no other. A stroke 7
# pixels wide is lost where it lies between two of them: every pixel of the picture is as with a black mask, and no error or
# warning says that nothing was drawn. White that begins one pixel behind such a point leaves 7 pixels of what was to go.
# A blurred mask is cut at one half right afterwards, as the mask of all Flux pipelines is: 0 and 1 are all that is left of
# it, so it moves the edge and softens nothing.
#
# Our engine draws a latent anew where any of its pixels is white, and puts the source back by pixels, by shares where
# the mask is grey (tests/engine/test_editing.py::test_a_stroke_is_drawn_anew_wherever_it_lies).
# Exits non-zero when this changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 diffusers==0.42.1 accelerate==1.15.0 transformers==5.23.0 pillow==13.0.0
"$folder/venv/bin/python" - <<'PY'
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxInpaintPipeline, FluxTransformer2DModel
from PIL import Image, ImageDraw

SIDE = 64
torch.manual_seed(0)
transformer = FluxTransformer2DModel(
    in_channels=64, num_layers=1, num_single_layers=1, attention_head_dim=8, num_attention_heads=1,
    joint_attention_dim=8, pooled_projection_dim=8, axes_dims_rope=(2, 2, 4),
).eval()  # fmt: skip
vae = AutoencoderKL(
    down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
    block_out_channels=(4,) * 4, norm_num_groups=2, latent_channels=16, scaling_factor=0.3611, shift_factor=0.1159,
    use_quant_conv=False, use_post_quant_conv=False,
).eval()  # fmt: skip
nothing = dict.fromkeys(("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"))
pipeline = FluxInpaintPipeline(FlowMatchEulerDiscreteScheduler(), vae, transformer=transformer, **nothing)
pipeline.set_progress_bar_config(disable=True)
source = Image.radial_gradient("L").resize((SIDE, SIDE)).convert("RGB")
words = {"prompt_embeds": torch.ones(1, 3, 8), "pooled_prompt_embeds": torch.ones(1, 8)}


def mask(left: int, width: int) -> Image.Image:
    """White from top to bottom."""
    made = Image.new("L", (SIDE, SIDE))
    if width:
        ImageDraw.Draw(made).rectangle((left, 0, left + width - 1, SIDE), fill=255)
    return made


def draw(anew: Image.Image) -> torch.Tensor:
    return pipeline(
        **words, image=source, mask_image=anew, height=SIDE, width=SIDE, strength=0.9, num_inference_steps=4,
        generator=torch.Generator().manual_seed(0), output_type="pt",
    ).images  # fmt: skip


black = draw(mask(0, 0))
drawn = {f"{width} from {left}": not torch.equal(draw(mask(left, width)), black) for left, width in [(17, 7), (16, 1)]}
print(f"strokes of so many pixels, and whether anything was drawn: {drawn}")
soft = pipeline.mask_processor.blur(mask(16, 24), blur_factor=8)
levels = len(set(soft.tobytes()))
read = pipeline.mask_processor.preprocess(soft, SIDE, SIDE).unique().tolist()
print(f"a blurred mask of {levels} levels of grey is read as {read}")
if drawn != {"7 from 17": False, "1 from 16": True} or levels < 10 or read != [0.0, 1.0]:
    raise SystemExit("changed: the pipeline reads more of a mask")
print("as described")
PY
