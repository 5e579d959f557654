"""What a file of weights is, by the names and shapes in its header: people have many that have to do with FLUX.1."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from flux_endpoint.core.catalog import ModelFamily
from flux_endpoint.engine.headers import TensorHeader

# Some tools wrap all names of a file in one of these.
WRAPPINGS: Final = ("model.diffusion_model.", "diffusion_model.", "base_model.model.", "transformer.", "model.")
GUIDANCE: Final = ("guidance_in.", "time_text_embed.guidance_embedder.")
# Guidance lies beside it: where this is missing, too, nothing can be said.
_TIME: Final = ("time_in.", "time_text_embed.timestep_embedder.")
_BLOCKS: Final = ("double_blocks.", "single_blocks.", "transformer_blocks.", "single_transformer_blocks.")
_ADAPTER: Final = re.compile(
    r"(^|\.)(lora_(A|B|down|up)(\.\w+)?\.(weight|bias)|(down|up)\.weight|alpha|dora_scale|lora_magnitude_vector"
    r"|hada_\w+|lokr_\w+|diff(_b)?)$"
)
_ADAPTERS: Final = {"lokr_": "a LoKr", "hada_": "a LoHa", "dora_scale": "a DoRA", "lora_magnitude_vector": "a DoRA"}
_T5: Final = ("encoder.block.0.layer.0.SelfAttention.", "shared.weight")
_CLIP: Final = ("text_model.", "embeddings.token_embedding.", "encoder.layers.0.self_attn.")

# In this order: the first of them whose mark begins a name is it.
_OTHERS: Final = (
    ("redux_up.", "a Redux image encoder"),
    ("ip_adapter_proj_model.", "an IP-Adapter"),
    ("controlnet_", "a ControlNet"),
    ("input_hint_block.", "a ControlNet"),
    ("distilled_guidance_layer.", "a Chroma transformer"),
    ("single_stream_modulation.", "a FLUX.2 transformer"),
    ("double_stream_modulation", "a FLUX.2 transformer"),
    ("joint_blocks.", "a Stable Diffusion 3 transformer"),
    ("input_blocks.", "the U-Net of a Stable Diffusion model"),
    ("down_blocks.", "the U-Net of a Stable Diffusion model"),
)
_QUANTISED: Final = (
    (".scale_weight", "scaled fp8"),
    ("scaled_fp8", "scaled fp8"),
    (".comfy_quant", "scaled fp8"),
    (".weight_scale", "scaled fp8"),
    (".wscales", "SVDQuant"),
    (".absmax", "4-bit bitsandbytes"),
    (".SCB", "8-bit bitsandbytes"),
    ("_weight_qdata", "torchao"),
    (".weight._data", "quanto"),
)
# How many times wider the input of these is than the output: what they read beside the noisy picture.
_WIDER: Final = {1: "", 2: "Depth or Canny ", 6: "Fill "}


@dataclass(frozen=True, slots=True)
class FileKind:
    """What a file is.

    Attributes:
        text: for people, with its article: `an autoencoder`.
        family: of a FLUX.1 transformer that draws from text alone, in plain numbers; None for everything else.
    """

    text: str
    family: ModelFamily | None = None


def detect(tensors: Mapping[str, TensorHeader]) -> FileKind:
    """What a file is.

    Args:
        tensors: as its header names them.
    """
    if _has(tensors, "text_encoders.", "conditioner.") and _has(tensors, "vae.", "first_stage_model."):
        return FileKind("an all-in-one checkpoint: transformer, text encoders and autoencoder in one file")
    adapting = [name for name in tensors if _ADAPTER.search(name)]
    if 2 * len(adapting) > len(tensors):
        return FileKind(next((kind for mark, kind in _ADAPTERS.items() if any(mark in n for n in adapting)), "a LoRA"))
    plain = {unwrapped(name): tensor for name, tensor in tensors.items()}
    for mark, text in _OTHERS:
        if _has(plain, mark):
            return FileKind(text)
    if _has(plain, *_BLOCKS):
        return _transformer(plain)
    if _has(plain, "encoder.down", "decoder.up"):
        return FileKind("an autoencoder")
    if _has(plain, *_T5):
        return FileKind("a T5 text encoder")
    if _has(tensors, *_CLIP):
        return FileKind("a CLIP text encoder")
    return FileKind("of a kind unknown here" if tensors else "empty")


def unwrapped(name: str) -> str:
    """A tensor's name without the wrapping some tools add."""
    for wrapping in WRAPPINGS:
        if name.startswith(wrapping):
            return name.removeprefix(wrapping)
    return name


def _transformer(tensors: Mapping[str, TensorHeader]) -> FileKind:
    family = ModelFamily.DEV if _has(tensors, *GUIDANCE) else ModelFamily.SCHNELL
    quantised = next((way for end, way in _QUANTISED if any(name.endswith(end) for name in tensors)), None)
    if quantised:
        return FileKind(f"a FLUX.1 transformer in {quantised}")
    if not _has(tensors, *_TIME):
        return FileKind("a part of a FLUX.1 transformer")
    wider = _wider(tensors)
    if wider != 1:
        kind = _WIDER.get(wider, "")
        return FileKind(f"a FLUX.1 {kind}transformer that reads {wider} times as much as it draws")
    return FileKind(f"a FLUX.1 {family} transformer", family)


def _wider(tensors: Mapping[str, TensorHeader]) -> int:
    """How many times wider the input is than the output; 1 where the header does not tell."""
    read, drawn = (
        next((tensors[name].shape for name in names if name in tensors and len(tensors[name].shape) == 2), None)
        for names in (("img_in.weight", "x_embedder.weight"), ("final_layer.linear.weight", "proj_out.weight"))
    )
    return max(1, read[1] // max(1, drawn[0])) if read and drawn else 1


def _has(names: Iterable[str], *starts: str) -> bool:
    return any(name.startswith(starts) for name in names)
