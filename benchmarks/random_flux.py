"""Modules of FLUX.1's shape with random weights, made where they are to stay: nothing is downloaded or written."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, T5Config, T5EncoderModel, T5Tokenizer

from flux_endpoint.core.catalog import FLUX_DEV, ModelFamily
from flux_endpoint.engine.sources import DEMO, locate, parse_source

# The layers that say how much of a block's result is added to what it read: smaller, so that 57 blocks stay O(1).
MODULATION, MODULATION_GAIN = ".linear.weight", 0.3


@dataclass(frozen=True)
class Sizes:
    """What the modules are made with."""

    transformer: Mapping[str, Any]
    vae: Mapping[str, Any]
    clip: Mapping[str, Any]
    t5: Mapping[str, Any]


TRUE_SIZES = Sizes(
    transformer={},  # the defaults of diffusers' class are FLUX.1's sizes
    vae={"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2},
    clip={"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12},
    t5={"d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64},
)
TINY_SIZES = Sizes(
    transformer={
        "num_layers": 2,
        "num_single_layers": 2,
        "attention_head_dim": 16,
        "num_attention_heads": 2,
        "joint_attention_dim": 32,
        "pooled_projection_dim": 24,
        "axes_dims_rope": (4, 6, 6),
    },
    vae={"block_out_channels": (8, 8, 16, 16), "layers_per_block": 1, "norm_num_groups": 4},
    clip={"hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2},
    t5={"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4},
)
# Layers half as wide as FLUX.1's and few of them: .3 billion weights in the transformer, as many in the rest.
REDUCED_SIZES = Sizes(
    transformer={
        "num_layers": 2,
        "num_single_layers": 4,
        "num_attention_heads": 12,
        "joint_attention_dim": 1024,
    },
    vae=TRUE_SIZES.vae,
    clip=TRUE_SIZES.clip,
    t5={"d_model": 1024, "d_kv": 64, "d_ff": 2816, "num_layers": 6, "num_heads": 16},
)


def meta_transformer(sizes: Sizes, family: ModelFamily) -> FluxTransformer2DModel:
    """A transformer without memory yet, see `fill` and `sharing`."""
    with torch.device("meta"):
        return FluxTransformer2DModel(**sizes.transformer, guidance_embeds=family is ModelFamily.DEV)


def meta_vae(sizes: Sizes) -> AutoencoderKL:
    """An autoencoder without memory yet, see `fill`."""
    with torch.device("meta"):
        return AutoencoderKL(
            down_block_types=["DownEncoderBlock2D"] * 4,
            up_block_types=["UpDecoderBlock2D"] * 4,
            latent_channels=16,
            scaling_factor=0.3611,
            shift_factor=0.1159,
            use_quant_conv=False,
            use_post_quant_conv=False,
            sample_size=1024,
            **sizes.vae,
        )


def meta_clip(sizes: Sizes, **marks: int) -> CLIPTextModel:
    """CLIP with FLUX.1's vocabulary, without memory yet; `marks` are ids of its tokenizer."""
    with torch.device("meta"):
        return CLIPTextModel(CLIPTextConfig(vocab_size=49408, **marks, **sizes.clip))


def meta_t5(sizes: Sizes) -> T5EncoderModel:
    """T5 with FLUX.1's vocabulary, without memory yet."""
    with torch.device("meta"):
        return T5EncoderModel(T5Config(vocab_size=32128, feed_forward_proj="gated-gelu", **sizes.t5))


def make_scheduler(family: ModelFamily) -> FlowMatchEulerDiscreteScheduler:
    """The schedule that FLUX.1 of this family comes with."""
    shift = {"use_dynamic_shifting": True, "shift": 3.0} if family is ModelFamily.DEV else {"shift": 1.0}
    return FlowMatchEulerDiscreteScheduler(**shift)


def text_parts(
    sizes: Sizes, device: torch.device, dtype: torch.dtype
) -> tuple[CLIPTextModel, CLIPTokenizer, T5EncoderModel, T5Tokenizer]:
    """Text encoders with FLUX.1's vocabularies; the tokenizers are the embedded model's, which use the first part."""
    folder = locate(parse_source(DEMO), ModelFamily.DEV, download=False).folder
    clip_tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    t5_tokenizer = T5Tokenizer.from_pretrained(
        folder / "tokenizer_2", local_files_only=True, model_max_length=FLUX_DEV.max_text_tokens
    )
    marks = {name: getattr(clip_tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    clip, t5 = meta_clip(sizes, **marks), meta_t5(sizes)
    fill(clip, device, dtype)
    fill(t5, device, dtype)
    # Making room for the tensors took the two tables of words apart, which are one.
    t5.set_input_embeddings(t5.shared)
    return clip, clip_tokenizer, t5, t5_tokenizer


@torch.no_grad()
def fill(module: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """Give a module from the meta device random weights that keep the numbers between its layers near 1."""
    module.to(dtype).to_empty(device=device)
    generator = torch.Generator(device).manual_seed(0)
    for name, parameter in module.named_parameters():
        if parameter.ndim > 1:
            gain = MODULATION_GAIN if name.endswith(MODULATION) else 1.0
            fan_in = parameter.numel() // parameter.shape[0]
            parameter.normal_(0.0, gain * fan_in**-0.5, generator=generator)
        elif name.endswith("weight"):
            parameter.normal_(1.0, 0.05, generator=generator)
        else:
            parameter.normal_(0.0, 0.02, generator=generator)
    for name, buffer in module.named_buffers():
        if not name.endswith("position_ids"):
            raise ValueError(f"{type(module).__name__} has a buffer {name} that nothing fills")
        buffer.copy_(torch.arange(buffer.shape[-1], device=device).expand_as(buffer))
    return module.eval().requires_grad_(False)


def sharing(module: nn.Module, other: nn.Module) -> Any:
    """Let a module use another one's weights; the other may have more."""
    weights = other.state_dict()
    module.load_state_dict({name: weights[name] for name in module.state_dict()}, strict=True, assign=True)
    return module.eval().requires_grad_(False)
