"""Configs for files of FLUX.1 that come without one: counted from the shapes, the rest as published."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from flux_endpoint.core.catalog import ModelFamily
from flux_endpoint.core.errors import CheckpointError
from flux_endpoint.engine.detect import GUIDANCE, Component
from flux_endpoint.files.safetensors_header import Shape

_HEAD_DIM: Final = 128
_CLIP_HEAD_DIM: Final = 64
# No file says how the latents were normalised.
_VAE: Final = {"scaling_factor": 0.3611, "shift_factor": 0.1159, "norm_num_groups": 32, "sample_size": 1024}
_OF_DEV: Final[Mapping[str, Any]] = {
    "use_dynamic_shifting": True,
    "shift": 3.0,
    "base_shift": 0.5,
    "max_shift": 1.15,
    "base_image_seq_len": 256,
    "max_image_seq_len": 4096,
}
_OF_SCHNELL: Final[Mapping[str, Any]] = {"use_dynamic_shifting": False, "shift": 1.0}


def scheduler_config(family: ModelFamily) -> dict[str, Any]:
    """The config of the noise schedule."""
    schedule = _OF_SCHNELL if family is ModelFamily.SCHNELL else _OF_DEV
    return {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, **schedule}


def config_from_shapes(component: Component, shapes: Mapping[str, Shape]) -> dict[str, Any]:
    """The config of one component.

    Args:
        component: which.
        shapes: of its tensors; the transformer's in either naming, the others' in that of diffusers and transformers.

    Raises:
        CheckpointError: a tensor is missing without which the sizes are unknown.
    """
    match component:
        case Component.TRANSFORMER:
            return _transformer(shapes)
        case Component.VAE:
            return _vae(shapes)
        case Component.CLIP:
            return _clip(shapes)
        case Component.T5:
            return _t5(shapes)


def counted_blocks(names: Iterable[str]) -> dict[str, int]:
    """How many blocks of each kind a transformer has, by the names of its tensors: pruned models have fewer."""
    return {
        "num_layers": _count(names, r"(?:double_blocks|transformer_blocks)\.(\d+)\."),
        "num_single_layers": _count(names, r"(?:single_blocks|single_transformer_blocks)\.(\d+)\."),
    }


def _transformer(shapes: Mapping[str, Shape]) -> dict[str, Any]:
    inner, inputs = _shape(shapes, "img_in.weight", "x_embedder.weight")
    _, words = _shape(shapes, "txt_in.weight", "context_embedder.weight")
    _, pooled = _shape(shapes, "vector_in.in_layer.weight", "time_text_embed.text_embedder.linear_1.weight")
    outputs, _ = _shape(shapes, "final_layer.linear.weight", "proj_out.weight")
    head = _first(shapes, r".*\.(query_norm\.scale|norm_q\.weight)")[0]
    if head != _HEAD_DIM:
        raise CheckpointError(
            f"transformer has attention heads of {head} numbers and FLUX.1's have {_HEAD_DIM}: it needs its config.json"
        )
    return {
        "_class_name": "FluxTransformer2DModel",
        "in_channels": inputs,
        "out_channels": outputs,
        **counted_blocks(shapes),
        "attention_head_dim": head,
        "num_attention_heads": inner // head,
        "joint_attention_dim": words,
        "pooled_projection_dim": pooled,
        "guidance_embeds": any(name.startswith(GUIDANCE) for name in shapes),
    }


def _vae(shapes: Mapping[str, Shape]) -> dict[str, Any]:
    levels = _count(shapes, r"encoder\.down_blocks\.(\d+)\.")
    name = "encoder.down_blocks.{}.resnets.0.conv1.weight"
    return {
        "_class_name": "AutoencoderKL",
        "block_out_channels": [_shape(shapes, name.format(level))[0] for level in range(levels)],
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "layers_per_block": _count(shapes, r"encoder\.down_blocks\.0\.resnets\.(\d+)\."),
        "latent_channels": _shape(shapes, "decoder.conv_in.weight")[1],
        "use_quant_conv": False,
        "use_post_quant_conv": False,
        **_VAE,
    }


def _clip(shapes: Mapping[str, Shape]) -> dict[str, Any]:
    vocabulary, width = _shape(shapes, "embeddings.token_embedding.weight")
    return {
        "architectures": ["CLIPTextModel"],
        "vocab_size": vocabulary,
        "hidden_size": width,
        "projection_dim": width,
        "intermediate_size": _shape(shapes, "encoder.layers.0.mlp.fc1.weight")[0],
        "num_hidden_layers": _count(shapes, r"encoder\.layers\.(\d+)\."),
        "num_attention_heads": max(1, width // _CLIP_HEAD_DIM),
        "max_position_embeddings": _shape(shapes, "embeddings.position_embedding.weight")[0],
        "hidden_act": "quick_gelu",
        # As published: 2 stands for "the token with the highest number", which is where the text ends.
        "bos_token_id": 0,
        "eos_token_id": 2,
        "pad_token_id": 1,
    }


def _t5(shapes: Mapping[str, Shape]) -> dict[str, Any]:
    vocabulary, width = _shape(shapes, "shared.weight")
    attention = "encoder.block.0.layer.0.SelfAttention"
    buckets, heads = _shape(shapes, f"{attention}.relative_attention_bias.weight")
    return {
        "architectures": ["T5EncoderModel"],
        "vocab_size": vocabulary,
        "d_model": width,
        "d_kv": _shape(shapes, f"{attention}.q.weight")[0] // max(1, heads),
        "d_ff": _shape(shapes, "encoder.block.0.layer.1.DenseReluDense.wo.weight")[1],
        "num_layers": _count(shapes, r"encoder\.block\.(\d+)\."),
        "num_heads": heads,
        "relative_attention_num_buckets": buckets,
        "relative_attention_max_distance": 128,
        "feed_forward_proj": "gated-gelu",
        "layer_norm_epsilon": 1e-6,
        "is_encoder_decoder": False,
        "use_cache": False,
    }


def _shape(shapes: Mapping[str, Shape], *names: str) -> Shape:
    for name in names:
        if name in shapes and len(shapes[name]) > 1:
            return shapes[name]
    raise CheckpointError(f"it lacks {' or '.join(names)}, and no config.json says how large it is")


def _first(shapes: Mapping[str, Shape], pattern: str) -> Shape:
    shape = next((shape for name, shape in shapes.items() if re.fullmatch(pattern, name)), None)
    if not shape:
        raise CheckpointError("it lacks the norms of its attention, and no config.json says how large it is")
    return shape


def _count(names: Iterable[str], pattern: str) -> int:
    """How many blocks there are: one more than the highest number, so that a lost one is missed by its name."""
    return 1 + max((int(found[1]) for name in names if (found := re.match(pattern, name))), default=-1)
