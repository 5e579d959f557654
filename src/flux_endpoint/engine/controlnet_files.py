"""Finds a ControlNet and checks it against the model that it is for, reading headers only."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from accelerate import init_empty_weights
from diffusers.models.controlnets.controlnet_flux import FluxControlNetModel
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel

from flux_endpoint.core.controlnet import ControlMode, ControlNetKind, NamedControlNet
from flux_endpoint.core.errors import CheckpointError
from flux_endpoint.engine.add_on_files import CONFIG, controlnet_folder, controlnet_headers
from flux_endpoint.engine.detect import ControlNetPart
from flux_endpoint.engine.layout import CheckedComponent, compare, empty_pass, plain_layout, read_config
from flux_endpoint.engine.stored import gather
from flux_endpoint.engine.trouble import reading

_PART: Final = ControlNetPart.CONTROLNET
# What must be equal in both configs: whose numbers one adds to the other's, and what both read.
_SHARED: Final = (
    "in_channels",
    "attention_head_dim",
    "num_attention_heads",
    "joint_attention_dim",
    "pooled_projection_dim",
    "axes_dims_rope",
)


def check_controlnet(
    named: NamedControlNet, transformer: FluxTransformer2DModel, *, download: bool
) -> CheckedComponent:
    """Find a ControlNet and check it, reading headers only.

    Args:
        named: as the settings name it.
        transformer: that it is for.
        download: whether the hub may be asked; otherwise only what was downloaded before is used.

    Raises:
        CheckpointError: the first problem found, in one line that begins with the place.
    """
    try:
        checked = _checked(controlnet_folder(named.place, download=download))
        _check_kind(named.kind, checked.module.config)
        _check_fits(checked.module, transformer)
    except CheckpointError as error:
        raise CheckpointError(f"ControlNet {named.place}: {error}") from error
    return checked


def _checked(folder: Path) -> CheckedComponent:
    kind, headers = controlnet_headers(folder)
    module = _without_memory(folder / CONFIG)
    checked = CheckedComponent(_PART, folder, kind, module, plain_layout(module), gather(headers))
    compare(checked)
    return checked


def _without_memory(file: Path) -> FluxControlNetModel:
    config = read_config(file, FluxControlNetModel.__name__)
    # As in `layout`: buffers come from no file.
    with reading(file), init_empty_weights(include_buffers=False), warnings.catch_warnings():
        # diffusers 0.42 warns here of a name that it uses itself.
        warnings.filterwarnings("ignore", "`FluxPosEmbed` is deprecated", FutureWarning)
        return FluxControlNetModel.from_config(config)


def _check_kind(said: ControlNetKind, config: Mapping[str, Any]) -> None:
    modes = config["num_mode"]
    if modes is None:
        if said is ControlNetKind.UNION:
            raise CheckpointError(f"kind={said} does not fit: it reads one kind of map (config.json has no num_mode)")
    elif said is not ControlNetKind.UNION:
        raise CheckpointError(f"it reads several kinds of maps: add kind={ControlNetKind.UNION} behind its name")
    elif modes < len(ControlMode):
        raise CheckpointError(f"it reads {modes} kinds of maps, and {len(ControlMode)} are known here")


@torch.inference_mode()
def _check_fits(controlnet: FluxControlNetModel, transformer: FluxTransformer2DModel) -> None:
    """Refuse one of another model, then let it work without numbers, which finds what else is wrong in its config."""
    for name in _SHARED:
        ours, theirs = controlnet.config[name], transformer.config[name]
        if (list(ours) if isinstance(ours, list | tuple) else ours) != (
            list(theirs) if isinstance(theirs, list | tuple) else theirs
        ):
            raise CheckpointError(f"it is of another model: {name} is {ours}, and that of the transformer is {theirs}")
    side_px = 8 * 2 * 2
    with reading(CONFIG), torch.device("meta"):
        read = empty_pass(controlnet.config)
        seen = read["hidden_states"] if controlnet.input_hint_block is None else torch.empty(1, 3, side_px, side_px)
        mode = torch.zeros(1, 1, dtype=torch.long) if controlnet.union else None
        controlnet(controlnet_cond=seen, controlnet_mode=mode, **read)
