"""What a file of weights is, by the names and shapes in its header: people have many that have to do with FLUX.1."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from flux_endpoint.core.catalog import ModelFamily
from flux_endpoint.core.text import listing
from flux_endpoint.files.safetensors_header import Shape, TensorHeader


class Component(StrEnum):
    """The four models that FLUX.1 is made of, under the names of their folders in the layout of diffusers."""

    TRANSFORMER = "transformer"
    VAE = "vae"
    CLIP = "text_encoder"
    T5 = "text_encoder_2"


class ReduxPart(StrEnum):
    """The two models that Redux is made of, under the names of their folders in the layout of diffusers."""

    IMAGE_ENCODER = "image_encoder"
    IMAGE_EMBEDDER = "image_embedder"


class ControlNetPart(StrEnum):
    """The one model that a ControlNet is."""

    CONTROLNET = "controlnet"


# Of a model, or of what is beside it.
Part = Component | ReduxPart | ControlNetPart

# Some tools put one or more of these before all names of a component.
_WRAPPINGS: Final[Mapping[str, Component | None]] = {
    "model.diffusion_model.": Component.TRANSFORMER,
    "diffusion_model.": Component.TRANSFORMER,
    "base_model.model.": None,
    "transformer.": None,
    "model.": None,
    "vae.": Component.VAE,
    "first_stage_model.": Component.VAE,
    "text_encoders.clip_l.": Component.CLIP,
    "text_encoders.t5xxl.": Component.T5,
}
GUIDANCE: Final = ("guidance_in.", "time_text_embed.guidance_embedder.")
# Guidance lies beside it: where this is missing, too, nothing can be said.
_TIME: Final = ("time_in.", "time_text_embed.timestep_embedder.")
_DOUBLE: Final = re.compile(r"(?:double_blocks|transformer_blocks)\.(\d+)\.")
_SINGLE: Final = re.compile(r"(?:single_blocks|single_transformer_blocks)\.(\d+)\.")
_ADAPTER: Final = re.compile(
    r"(^|\.)(lora_(A|B|down|up)(\.\w+)?\.(weight|bias)|(down|up)\.weight|alpha|dora_scale|lora_magnitude_vector"
    r"|hada_\w+|lokr_\w+|diff(_b)?)$"
)
_ADAPTERS: Final = {
    "lokr_": "a LoKr",
    "hada_": "a LoHa",
    "dora_scale": "a DoRA",
    "lora_magnitude_vector": "a DoRA",
    ".query_norm.scale": "a control LoRA (lora=FILE behind a FLUX.1 dev)",
    ".norm_q.weight": "a control LoRA (lora=FILE behind a FLUX.1 dev)",
}
_T5: Final = ("encoder.block.0.layer.0.SelfAttention.", "shared.weight")
_CLIP: Final = ("text_model.", "embeddings.token_embedding.", "encoder.layers.0.self_attn.")
KIND_TEXTS: Final[Mapping[Part, str]] = {
    Component.TRANSFORMER: "a FLUX.1 transformer",
    Component.VAE: "an autoencoder",
    Component.CLIP: "a CLIP text encoder",
    Component.T5: "a T5 text encoder",
    ReduxPart.IMAGE_ENCODER: "a SigLIP image encoder",
    ReduxPart.IMAGE_EMBEDDER: "a Redux image encoder",
    ControlNetPart.CONTROLNET: "a ControlNet",
}

# In this order: the first of them whose mark begins a name is it.
_OTHERS: Final = (
    ("redux_up.", "a Redux image encoder"),
    ("ip_adapter_proj_model.", "an IP-Adapter"),
    ("controlnet_", "a ControlNet"),
    ("input_hint_block.", "a ControlNet"),
    ("distilled_guidance_layer.", "a Chroma transformer"),
    ("early_stream_modulations.", "a FLUX.3 transformer"),
    ("single_stream_modulation.", "a FLUX.2 transformer"),
    ("double_stream_modulation", "a FLUX.2 transformer"),
    ("joint_blocks.", "a Stable Diffusion 3 transformer"),
    ("pos_embed.proj.", "a Stable Diffusion 3 transformer"),
    ("transformer_blocks.0.img_mod.", "a Qwen-Image transformer"),
    ("txt_in.individual_token_refiner.", "a HunyuanVideo transformer"),
    ("adaln_single.", "a PixArt or LTX transformer"),
    ("input_blocks.", "the U-Net of a Stable Diffusion model"),
    ("down_blocks.", "the U-Net of a Stable Diffusion model"),
    ("quant_conv.", "the autoencoder of another model"),
    ("encoder.block.1.layer.0.SelfAttention.relative_attention_bias.", "a UMT5 text encoder"),
    # FLUX.1's has 12 layers.
    ("text_model.encoder.layers.12.", "a CLIP text encoder of another size"),
)
_NUNCHAKU: Final = (".qweight", ".wscales")
_QUANTISED: Final = (
    (".scale_weight", "scaled fp8"),
    (".weight_scale", "scaled fp8"),
    (".absmax", "4-bit bitsandbytes"),
    (".SCB", "8-bit bitsandbytes"),
    ("_weight_qdata", "torchao"),
    (".weight._data", "quanto"),
)
_PLAIN_NUMBERS: Final = {"F32": "fp32", "F16": "fp16", "BF16": "bf16", "F8_E4M3": "fp8", "F8_E5M2": "fp8 (e5m2)"}
# What the Fill transformer reads of a mask for each token: 2x2 latents of 8x8 pixels.
_MASK_WIDTH: Final = 2 * 2 * 8 * 8


@dataclass(frozen=True, slots=True)
class FileKind:
    """What a file is.

    Attributes:
        text: for people, with its article: `an autoencoder`.
        components: of FLUX.1 that it holds and that can be loaded.
        family: that a transformer's tensors tell (see `ModelFamily.by_tensors`); None for everything else.
        details: more about a component: names, numbers, how many blocks.
    """

    text: str
    components: frozenset[Component] = frozenset()
    family: ModelFamily | None = None
    details: tuple[str, ...] = ()


def detect(tensors: Mapping[str, TensorHeader]) -> FileKind:
    """What a file is.

    Args:
        tensors: as its header names them.
    """
    adapting = [name for name in tensors if _ADAPTER.search(name)]
    if 2 * len(adapting) > len(tensors):
        return FileKind(next((kind for mark, kind in _ADAPTERS.items() if any(mark in n for n in tensors)), "a LoRA"))
    by_component = split_components(tensors)
    if len(by_component) > 1:
        return _several(by_component)
    return _kind_of({unwrapped(name): tensor for name, tensor in tensors.items()})


def unwrapped(name: str) -> str:
    """A tensor's name without what some tools put before it."""
    for wrapping in _WRAPPINGS:
        if name.startswith(wrapping):
            return unwrapped(name.removeprefix(wrapping))
    return name


def split_components(tensors: Mapping[str, TensorHeader]) -> dict[Component, dict[str, TensorHeader]]:
    """The tensors whose names say which component they belong to, as in all-in-one checkpoints, by component."""
    components: dict[Component, dict[str, TensorHeader]] = {}
    for name, tensor in tensors.items():
        component = next(
            (component for wrapping, component in _WRAPPINGS.items() if component and name.startswith(wrapping)), None
        )
        if component is not None:
            components.setdefault(component, {})[unwrapped(name)] = tensor
    return components


def _several(by_component: Mapping[Component, Mapping[str, TensorHeader]]) -> FileKind:
    """What a file is whose names say which component a tensor belongs to; any of them may be there."""
    components = frozenset(by_component)
    if Component.TRANSFORMER not in components:
        return FileKind(
            listing([KIND_TEXTS[component] for component in Component if component in components]), components
        )
    transformer = _kind_of(by_component[Component.TRANSFORMER])
    if not transformer.components:
        return FileKind(f"an all-in-one checkpoint with {transformer.text}")
    if len(components) == len(Component):
        text = "an all-in-one checkpoint: transformer, text encoders and autoencoder in one file"
    else:
        absent = listing([KIND_TEXTS[component] for component in Component if component not in components])
        text = f"an all-in-one checkpoint without {absent}"
    return FileKind(text, components, transformer.family, (transformer.text, *transformer.details))


def _kind_of(plain: Mapping[str, TensorHeader]) -> FileKind:
    other = next((text for mark, text in _OTHERS if _has(plain, mark)), None)
    if other is not None:
        return FileKind(other)
    doubles, singles = ({found[1] for name in plain if (found := block.match(name))} for block in (_DOUBLE, _SINGLE))
    if doubles or singles:
        return _transformer(plain, f"{len(doubles)} double and {len(singles)} single blocks")
    numbers = numbers_of(plain)
    if _has(plain, "encoder.down.", "encoder.down_blocks.", "decoder.up.", "decoder.up_blocks."):
        names = "BFL names" if _has(plain, "encoder.down.") else "diffusers names"
        return _component(Component.VAE, names, numbers)
    if _has(plain, *_T5):
        return _component(Component.T5, numbers)
    if _has(plain, *_CLIP):
        return _component(Component.CLIP, numbers)
    return FileKind("of a kind unknown here" if plain else "empty")


def _component(component: Component, *details: str) -> FileKind:
    return FileKind(KIND_TEXTS[component], frozenset({component}), None, details)


def _transformer(tensors: Mapping[str, TensorHeader], blocks: str) -> FileKind:
    if any(name.endswith(_NUNCHAKU) for name in tensors):
        return FileKind("a FLUX.1 transformer in SVDQuant, which only Nunchaku's own kernels read")
    numbers = numbers_of(tensors)
    if numbers == "quanto":
        return FileKind("a FLUX.1 transformer in quanto, whose files do not read back as they were")
    if not _has(tensors, *_TIME):
        return FileKind("a part of a FLUX.1 transformer")
    read, drawn = _widths(tensors)
    family = family_of(read, drawn, has_guidance=_has(tensors, *GUIDANCE))
    if read >= 2 * drawn > 0 and family not in (ModelFamily.FILL, ModelFamily.CANNY):
        return FileKind(f"a FLUX.1 transformer that reads {read // drawn} times as much as it draws")
    names = "BFL names" if _has(tensors, "double_blocks.", "single_blocks.") else "diffusers names"
    return FileKind(
        f"a FLUX.1 {family.by_tensors_words} transformer",
        frozenset({Component.TRANSFORMER}),
        family,
        (names, numbers, blocks),
    )


def numbers_of(tensors: Mapping[str, TensorHeader]) -> str:
    """How most of a file's numbers are stored: `bf16`, `scaled fp8`, `GGUF Q4_K`."""
    for ending, way in _QUANTISED:
        if any(name.endswith(ending) for name in tensors):
            return way
    sizes: Counter[str] = Counter()
    for tensor in tensors.values():
        sizes[tensor.dtype] += tensor.size_bytes
    most = sizes.most_common(1)[0][0] if sizes else ""
    return _PLAIN_NUMBERS.get(most, f"GGUF {most}" if re.match(r"I?Q\d", most) else most)


def family_of(read: int, drawn: int, *, has_guidance: bool) -> ModelFamily:
    """The family of a transformer, as far as its inputs tell.

    Args:
        read: numbers a token.
        drawn: numbers a token.
        has_guidance: whether it reads a distilled guidance.
    """
    if read == 2 * drawn + _MASK_WIDTH:
        return ModelFamily.FILL
    if read == 2 * drawn > 0:
        return ModelFamily.CANNY
    return ModelFamily.DEV if has_guidance else ModelFamily.SCHNELL


def _widths(tensors: Mapping[str, TensorHeader]) -> tuple[int, int]:
    """How many numbers are read and drawn for a token; the same where the header does not tell."""
    read, drawn = _shape(tensors, "img_in", "x_embedder"), _shape(tensors, "final_layer.linear", "proj_out")
    return (read[1], drawn[0]) if read and drawn else (0, 0)


def _shape(tensors: Mapping[str, TensorHeader], *modules: str) -> Shape | None:
    """Of the product that has one of some names, by rows and columns; None where the header does not tell."""
    for module in modules:
        weight = tensors.get(f"{module}.weight", tensors.get(f"{module}._weight_qdata"))
        bias = tensors.get(f"{module}.bias")
        if weight is None:
            continue
        if f"{module}.weight.absmax" not in tensors:
            return weight.shape if len(weight.shape) == 2 else None
        # Two numbers a byte, in one column.
        rows = bias.shape[0] if bias is not None and bias.shape else 0
        return (rows, 2 * weight.parameters // rows) if rows else None
    return None


def _has(names: Iterable[str], *starts: str) -> bool:
    return any(name.startswith(starts) for name in names)
