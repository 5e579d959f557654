#!/usr/bin/env bash
# diffusers 0.42.1, peft 0.21.2: load_lora_weights of a LoRA in the names of kohya's sd-scripts that also changes layers
# outside of the blocks: img_in, txt_in, time_in, vector_in, guidance_in (network argument in_dims) or final_layer (LyCORIS).
#
# Expected: they act, or the file is refused, as is one with a name that is not known ("Incompatible keys detected").
# The converter knows all of them by name, and its table says which layers of diffusers they are.
# Seen (CPython 3.11, torch 2.13.0): they are renamed, but without the "transformer." that the loader looks for
# afterwards, and are dropped: nothing is logged, at level INFO either. The blocks' layers of the same file act, so
# that the picture changes as one would think. A file with nothing but these layers loads without an error and changes
# nothing at all; a line that no keys were found is called "safe to ignore". Under diffusers' own names the same numbers
# act in all layers.
#
# Our table of names knows all layers, and what a file has beyond it is refused; all layouts are compared layer by layer
# (tests/engine/test_loras.py::test_every_layout_means_the_same_of_all_layers).
# Exits non-zero when this changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 diffusers==0.42.1 peft==0.21.2 accelerate==1.15.0 transformers==5.23.0
"$folder/venv/bin/python" - <<'PY'
import logging

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from diffusers.utils import logging as diffusers_logging

KOHYA = {
    "double_blocks_0_img_attn_proj": "transformer_blocks.0.attn.to_out.0",
    "double_blocks_0_img_mlp_0": "transformer_blocks.0.ff.net.0.proj",
    "single_blocks_0_linear2": "single_transformer_blocks.0.proj_out",
    "img_in": "x_embedder",
    "txt_in": "context_embedder",
    "time_in_in_layer": "time_text_embed.timestep_embedder.linear_1",
    "vector_in_in_layer": "time_text_embed.text_embedder.linear_1",
    "guidance_in_out_layer": "time_text_embed.guidance_embedder.linear_2",
    "final_layer_linear": "proj_out",
}
OUTSIDE = [name for name in KOHYA if "blocks" not in name]
RANK = 2
logged: list[str] = []


class Listener(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        logged.append(record.getMessage())


diffusers_logging.set_verbosity_info()
logging.getLogger("diffusers").addHandler(Listener())


def pipeline() -> FluxPipeline:
    torch.manual_seed(0)
    transformer = FluxTransformer2DModel(
        in_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=8, num_attention_heads=2,
        joint_attention_dim=8, pooled_projection_dim=8, guidance_embeds=True, axes_dims_rope=(2, 2, 4),
    )  # fmt: skip
    vae = AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, latent_channels=1)
    nothing = dict.fromkeys(("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"))
    return FluxPipeline(FlowMatchEulerDiscreteScheduler(), vae, transformer=transformer, **nothing)


weights = dict(pipeline().transformer.named_parameters())
factors = {}
for name, module in KOHYA.items():
    rows, columns = weights[f"{module}.weight"].shape
    factors[name] = torch.randn(RANK, columns), torch.randn(rows, RANK)


def kohya(names: list[str]) -> dict[str, torch.Tensor]:
    file = {}
    for name in names:
        down, up = factors[name]
        file |= {f"lora_unet_{name}.lora_down.weight": down, f"lora_unet_{name}.lora_up.weight": up}
        file[f"lora_unet_{name}.alpha"] = torch.tensor(float(RANK))
    return {name: tensor.clone() for name, tensor in file.items()}


def by_diffusers() -> dict[str, torch.Tensor]:
    parts = zip(("lora_A", "lora_B"), zip(*factors.values()), strict=True)
    modules = list(KOHYA.values())
    return {f"transformer.{modules[at]}.{part}.weight": one for part, all_ in parts for at, one in enumerate(all_)}


@torch.inference_mode()
def loaded(file: dict[str, torch.Tensor]) -> tuple[set[str], torch.Tensor]:
    """Which layers act, and what the transformer then says."""
    flux = pipeline()
    if file:
        flux.load_lora_weights(file, adapter_name="one")
    acting = {
        name
        for name, module in flux.transformer.named_modules()
        if "one" in getattr(module, "lora_B", {}) and module.lora_B["one"].weight.any()
    }
    said = flux.transformer(
        hidden_states=torch.ones(1, 4, 4), encoder_hidden_states=torch.ones(1, 3, 8), pooled_projections=torch.ones(1, 8),
        timestep=torch.ones(1), guidance=torch.ones(1), img_ids=torch.zeros(4, 3), txt_ids=torch.zeros(3, 3),
    ).sample  # fmt: skip
    return acting, said


renamed, _ = loaded(by_diffusers())
logged.clear()
acting, _ = loaded(kohya(list(KOHYA)))
is_same = torch.equal(loaded(kohya(OUTSIDE))[1], loaded({})[1])
left_out = {name for name, module in KOHYA.items() if module not in acting}
told = [line for line in logged for name in OUTSIDE if name in line or KOHYA[name] in line]
print(f"in diffusers' names {len(renamed)} of {len(KOHYA)} layers act")
print(f"in kohya's {len(acting)}; left out: {', '.join(sorted(left_out))}; told: {told}")
print(f"a file of these alone changes nothing: {is_same}")
if renamed != set(KOHYA.values()) or left_out != set(OUTSIDE) or told or not is_same:
    raise SystemExit("changed: layers outside of the blocks act, or it is told that they do not")
print("as described")
PY
