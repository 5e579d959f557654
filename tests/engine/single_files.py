"""Small models in the layouts of single files: FLUX.1's names, head size and vocabularies, and little else."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

import gguf
import numpy as np
import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel
from gguf import GGMLQuantizationType as Quantised
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from flux_endpoint.core.catalog import ModelFamily
from flux_endpoint.engine.detect import Component
from flux_endpoint.engine.original_layout import original_tensors

Tensors = dict[str, Tensor]
Components = dict[ModelFamily, dict[Component, Tensors]]
# Where ComfyUI and Black Forest Labs have the files of a model.
COMFY = {
    Component.TRANSFORMER: "diffusion_models/flux1.safetensors",
    Component.VAE: "vae/ae.safetensors",
    Component.CLIP: "text_encoders/clip_l.safetensors",
    Component.T5: "text_encoders/t5xxl_fp16.safetensors",
}
BFL = {
    Component.TRANSFORMER: "flux1.sft",
    Component.VAE: "ae.sft",
    Component.CLIP: "clip_l.SAFETENSORS",
    Component.T5: "t5xxl.safetensors",
}
# What an all-in-one checkpoint puts before the names of each component.
PREFIXES = {
    Component.TRANSFORMER: "model.diffusion_model.",
    Component.VAE: "vae.",
    Component.CLIP: "text_encoders.clip_l.transformer.text_model.",
    Component.T5: "text_encoders.t5xxl.transformer.",
}
_ORIGINAL_VAE = (
    (r"\.down_blocks\.(\d+)\.resnets\.", r".down.\1.block."),
    (r"\.down_blocks\.(\d+)\.downsamplers\.0\.", r".down.\1.downsample."),
    (r"\.up_blocks\.(\d+)\.resnets\.", r".up.\1.block."),
    (r"\.up_blocks\.(\d+)\.upsamplers\.0\.", r".up.\1.upsample."),
    (r"mid_block\.resnets\.0", "mid.block_1"),
    (r"mid_block\.resnets\.1", "mid.block_2"),
    (r"mid_block\.attentions\.0\.group_norm", "mid.attn_1.norm"),
    (r"mid_block\.attentions\.0\.to_([qkv])\b", r"mid.attn_1.\1"),
    (r"mid_block\.attentions\.0\.to_out\.0", "mid.attn_1.proj_out"),
    ("conv_shortcut", "nin_shortcut"),
    ("conv_norm_out", "norm_out"),
)


def without(absent: Component) -> dict[Component, str]:
    """ComfyUI's files but for one."""
    return {component: name for component, name in COMFY.items() if component is not absent}


def random_components(family: ModelFamily, double_blocks: int = 1, seed: int = 0) -> dict[Component, Tensors]:
    """The tensors of the four components in bfloat16, under the names of diffusers and transformers."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        modules = {
            Component.VAE: AutoencoderKL(
                down_block_types=["DownEncoderBlock2D"] * 4,
                up_block_types=["UpDecoderBlock2D"] * 4,
                block_out_channels=(32, 32, 64, 64),
                layers_per_block=1,
                latent_channels=16,
                use_quant_conv=False,
                use_post_quant_conv=False,
            ),
            Component.CLIP: CLIPTextModel(
                CLIPTextConfig(
                    vocab_size=49408, hidden_size=64, intermediate_size=128, num_hidden_layers=1, num_attention_heads=1
                )
            ),
            Component.T5: T5EncoderModel(
                T5Config(
                    vocab_size=32128,
                    d_model=64,
                    d_kv=16,
                    d_ff=128,
                    num_layers=2,
                    num_heads=4,
                    use_cache=False,
                    feed_forward_proj="gated-gelu",
                    is_encoder_decoder=False,
                )
            ),
        }
        torch.manual_seed(seed + 1)
        modules[Component.TRANSFORMER] = FluxTransformer2DModel(
            in_channels=64,
            num_layers=double_blocks,
            num_single_layers=2,
            attention_head_dim=128,
            num_attention_heads=2,
            joint_attention_dim=64,
            pooled_projection_dim=64,
            guidance_embeds=family is ModelFamily.DEV,
        )
    return {component: plain_numbers(modules[component].to(torch.bfloat16).state_dict()) for component in Component}


def plain_numbers(tensors: Mapping[str, Tensor]) -> Tensors:
    return {name: tensor.clone() for name, tensor in tensors.items() if not name.endswith("embed_tokens.weight")}


def in_original_names(component: Component, tensors: Tensors) -> Tensors:
    """Under the names of Black Forest Labs' files."""
    if component is Component.TRANSFORMER:
        original = {}
        for name, layout in original_tensors({name: tuple(t.shape) for name, t in tensors.items()}).items():
            tensor = torch.cat([tensors[piece] for piece, _ in layout.parts])
            original[name] = torch.cat(tensor.chunk(2)[::-1]) if "adaLN_modulation" in name else tensor
        return original
    return {_original_vae_name(name): _as_convolution(name, tensor) for name, tensor in tensors.items()}


def _original_vae_name(name: str) -> str:
    for pattern, replacement in _ORIGINAL_VAE:
        name = re.sub(pattern, replacement, name)
    return re.sub(r"\.up\.(\d+)\.", lambda found: f".up.{3 - int(found[1])}.", name)


def _as_convolution(name: str, tensor: Tensor) -> Tensor:
    return tensor[:, :, None, None] if ".attentions.0.to_" in name and name.endswith("weight") else tensor


def in_clip_names(tensors: Tensors) -> Tensors:
    """clip_l.safetensors as it is in the wild, with what belongs to the whole of CLIP."""
    more = {"text_projection.weight": torch.zeros(64, 64), "logit_scale": torch.tensor(4.6)}
    positions = {"text_model.embeddings.position_ids": torch.arange(77)[None]}
    return {f"text_model.{name}": tensor for name, tensor in tensors.items()} | more | positions


def write_single_files(folder: Path, components: Mapping[Component, Tensors], places: Mapping[Component, str]) -> None:
    """One file for each component."""
    for component, name in places.items():
        tensors = components[component]
        if component in (Component.TRANSFORMER, Component.VAE):
            tensors = in_original_names(component, tensors)
        save(in_clip_names(tensors) if component is Component.CLIP else tensors, folder / name)


def all_in_one(components: Mapping[Component, Tensors]) -> Tensors:
    tensors = {}
    for component, prefix in PREFIXES.items():
        named = (
            in_original_names(component, components[component])
            if component in (Component.TRANSFORMER, Component.VAE)
            else components[component]
        )
        tensors |= {prefix + name: tensor for name, tensor in named.items()}
    # ComfyUI gives both text encoders what only CLIP has.
    return tensors | {f"text_encoders.{name}.logit_scale": torch.tensor(4.6) for name in ("clip_l", "t5xxl")}


def save(tensors: Tensors, file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}, file)
    return file


def as_bytes(table: Mapping[str, object]) -> Tensor:
    """JSON in a tensor, as several tools keep it."""
    return torch.tensor(list(json.dumps(table).encode()), dtype=torch.uint8)


def is_quantised(name: str, tensor: Tensor) -> bool:
    """Whether tools quantise it: the large products."""
    return name.endswith("weight") and tensor.ndim == 2 and tensor.shape[1] % 256 == 0


def in_scaled_fp8(tensors: Tensors, *, newer: bool) -> tuple[Tensors, Tensors]:
    """As ComfyUI writes it in either kind, and the numbers that this stands for."""
    stored: Tensors = {} if newer else {"scaled_fp8": torch.zeros(2, dtype=torch.float8_e4m3fn)}
    meant = dict(tensors)
    for name, tensor in tensors.items():
        if not is_quantised(name, tensor):
            stored[name] = tensor
            continue
        scale = tensor.abs().max().float() / 448
        stored[name] = (tensor.float() / scale).to(torch.float8_e4m3fn)
        meant[name] = stored[name].float() * scale
        module = name.removesuffix(".weight")
        if newer:
            note = json.dumps({"format": "float8_e4m3fn"}).encode()
            stored |= {
                f"{module}.weight_scale": scale,
                f"{module}.comfy_quant": torch.tensor(list(note), dtype=torch.uint8),
            }
        else:
            stored |= {f"{module}.scale_weight": scale[None], f"{module}.scale_input": torch.ones(1)}
    return stored, meant


def in_torchao(tensors: Tensors, dtype: torch.dtype) -> tuple[Tensors, Tensors]:
    """As torchao's 8-bit kinds are written, one scale a row, and the numbers that this stands for."""
    largest = 127 if dtype is torch.int8 else 448
    stored, meant = {}, dict(tensors)
    for name, tensor in tensors.items():
        if not is_quantised(name, tensor):
            stored[name] = tensor
            continue
        scale = tensor.abs().amax(dim=1, keepdim=True).float() / largest
        scaled = tensor.float() / scale
        numbers = scaled.round().to(dtype) if dtype is torch.int8 else scaled.to(dtype)
        stem = name.removesuffix("weight") + "_weight"
        stored |= {f"{stem}_qdata": numbers, f"{stem}_scale": scale}
        if dtype is torch.int8:
            stored[f"{stem}_zero_point"] = torch.zeros_like(scale, dtype=torch.int8)
        meant[name] = numbers.float() * scale
    return stored, meant


def in_int8(tensors: Tensors) -> tuple[Tensors, Tensors]:
    """As 8-bit bitsandbytes writes it, and the numbers that this stands for."""
    stored, meant = {}, dict(tensors)
    for name, tensor in tensors.items():
        if not is_quantised(name, tensor):
            stored[name] = tensor
            continue
        row_maxima = tensor.abs().amax(dim=1).float()
        numbers = (tensor.float() / row_maxima[:, None] * 127).round().to(torch.int8)
        module = name.removesuffix(".weight")
        stored |= {
            name: numbers,
            f"{module}.SCB": row_maxima,
            f"{module}.weight_format": torch.tensor(0, dtype=torch.uint8),
        }
        meant[name] = numbers.float() * (row_maxima[:, None] / 127)
    return stored, meant


def in_nf4(tensors: Tensors, *, nested: bool) -> tuple[Tensors, Tensors]:
    """As 4-bit bitsandbytes writes it, with sizes of blocks plain or packed again, and what this stands for."""
    levels = torch.linspace(-1, 1, 16) ** 3
    stored, meant = {}, dict(tensors)
    for name, tensor in tensors.items():
        if not is_quantised(name, tensor):
            stored[name] = tensor
            continue
        state = {"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": list(tensor.shape)}
        blocks = tensor.float().reshape(-1, 64)
        sizes = blocks.abs().amax(dim=1)
        if nested:
            offset = sizes.mean().item()
            state |= {"nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": offset}
            groups = -(-len(sizes) // 256)
            nested_sizes = torch.stack([(sizes - offset)[256 * i : 256 * (i + 1)].abs().max() for i in range(groups)])
            table = torch.linspace(-1, 1, 256)
            spread = nested_sizes.repeat_interleave(256)[: len(sizes)]
            packed_sizes = (((sizes - offset) / spread)[:, None] - table).abs().argmin(dim=1)
            stored |= {f"{name}.nested_absmax": nested_sizes, f"{name}.nested_quant_map": table}
            stored[f"{name}.absmax"] = packed_sizes.to(torch.uint8)
            sizes = table[packed_sizes] * spread + offset
        else:
            stored[f"{name}.absmax"] = sizes
        codes = ((blocks / sizes[:, None])[..., None] - levels).abs().argmin(dim=-1).flatten()
        stored[name] = ((codes[::2] << 4) | codes[1::2]).to(torch.uint8)[:, None]
        stored[f"{name}.quant_map"] = levels
        stored[f"{name}.quant_state.bitsandbytes__nf4"] = torch.tensor(
            list(json.dumps(state).encode()), dtype=torch.uint8
        )
        meant[name] = (levels[codes].reshape(-1, 64) * sizes[:, None]).reshape(tensor.shape)
    return stored, meant


# Where the half-precision scales of a block lie whose other bytes may be anything.
_SCALES_AT = {"Q2_K": (80, 82), "Q3_K": (108,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,)}


def write_gguf(file: Path, tensors: Tensors, kind: str, architecture: str = "flux") -> Tensors:
    """A GGUF file whose large products are of one kind; returns the numbers it stands for."""
    file.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(file, architecture)
    quantised, meant = Quantised[kind], {}
    for name, tensor in tensors.items():
        numbers = tensor.float().numpy()
        if not is_quantised(name, tensor):
            writer.add_tensor(name, numbers)
            meant[name] = tensor.float()
            continue
        data = _k_blocks(numbers.shape, kind) if kind in _SCALES_AT else gguf.quants.quantize(numbers, quantised)
        writer.add_tensor(name, data, raw_dtype=quantised)
        meant[name] = torch.from_numpy(gguf.quants.dequantize(data, quantised).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return meant


def _k_blocks(shape: tuple[int, ...], kind: str) -> np.ndarray:
    """Blocks made by hand: the library reads these kinds and writes none of them."""
    numbers_a_block, bytes_a_block = gguf.GGML_QUANT_SIZES[Quantised[kind]]
    generator = np.random.default_rng(0)
    blocks = generator.integers(0, 256, (shape[0], shape[1] // numbers_a_block, bytes_a_block), dtype=np.uint8)
    # So small that no model of such weights gets out of the range of its numbers: Q5_K's became NaN at ten times that.
    for place in _SCALES_AT[kind]:
        blocks[..., place : place + 2] = np.frombuffer(np.float16(0.0001).tobytes(), dtype=np.uint8)
    return blocks.reshape(shape[0], -1)
