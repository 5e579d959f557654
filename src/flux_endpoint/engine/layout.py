"""Checks a checkpoint's files against the models they must fill, reading headers only."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Any, Final

import torch
from accelerate import init_empty_weights
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from transformers.models.clip.configuration_clip import CLIPTextConfig
from transformers.models.clip.modeling_clip import CLIPTextModel
from transformers.models.t5.configuration_t5 import T5Config
from transformers.models.t5.modeling_t5 import T5EncoderModel

from flux_endpoint.core.catalog import ModelFamily
from flux_endpoint.core.errors import CheckpointError
from flux_endpoint.core.text import listing
from flux_endpoint.engine.components import SCHEDULER, TOKENIZERS, Located
from flux_endpoint.engine.control_lora import merge_control, widened_config
from flux_endpoint.engine.detect import KIND_TEXTS, Component, FileKind, Part
from flux_endpoint.engine.headers import read_json
from flux_endpoint.engine.identify import identify
from flux_endpoint.engine.original_layout import OriginalTensor, is_original, original_tensors
from flux_endpoint.engine.published import config_from_shapes, counted_blocks, scheduler_config
from flux_endpoint.engine.report import ComponentReport
from flux_endpoint.engine.schedule import make_scheduler
from flux_endpoint.engine.sources import FLUX1, Source, packaged_folder
from flux_endpoint.engine.stored import StoredTensor, gather
from flux_endpoint.engine.trouble import reading
from flux_endpoint.engine.variants import Variant
from flux_endpoint.files.control_lora import ControlLora
from flux_endpoint.files.safetensors_header import Shape, TensorHeader

# Said by us, always: a config may name a repository of kernels here, and transformers would fetch and run its code.
ATTENTION: Final = {"attn_implementation": "sdpa"}
# The numbers are made plain while they are read: nobody else is to quantise them again.
_NOT_OURS: Final = (
    "attn_implementation",
    "_attn_implementation",
    "_attn_implementation_internal",
    "quantization_config",
)

_SCHEDULER_CONFIG: Final = "scheduler_config.json"
# Steps and picture tokens: of a small picture by schnell, and of a large one by dev.
_REHEARSED: Final = ((4, 256), (28, 9_216))
_FLOAT_DTYPES: Final = frozenset({"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"})
_CLASSES: Final = {
    Component.TRANSFORMER: "FluxTransformer2DModel",
    Component.VAE: "AutoencoderKL",
    Component.CLIP: "CLIPTextModel",
    Component.T5: "T5EncoderModel",
}


@dataclass(frozen=True, slots=True, eq=False)
class CheckedComponent:
    """One model of a checkpoint, whose files are complete and fit it; no weight has been read.

    Attributes:
        place: its file or folder.
        kind: what that is.
        module: without memory for its tensors (on torch's meta device).
        layout: which of the module's tensors are cut from which of `tensors`.
        tensors: as stored, by the names of `layout`.
    """

    component: Part
    place: Path
    kind: FileKind
    module: Any
    layout: Mapping[str, OriginalTensor]
    tensors: Mapping[str, StoredTensor]

    @property
    def parameters(self) -> int:
        """Number of elements."""
        return sum(tensor.parameters for tensor in self.tensors.values())

    def report(self) -> ComponentReport:
        """What it consists of."""
        # Once each: what a LoRA has for three layers is one tensor of its file.
        headers = {header for tensor in self.tensors.values() for header in tensor.headers}
        return ComponentReport(
            name=self.component,
            files=tuple(sorted({header.file for header in headers})),
            tensors=len(self.tensors),
            parameters=self.parameters,
            size_bytes=sum(header.size_bytes for header in headers),
            dtypes=tuple(sorted({tensor.headers[0].dtype for tensor in self.tensors.values()})),
            kind=", ".join((self.kind.text, *self.kind.details)),
            ways=tuple(sorted({tensor.way for tensor in self.tensors.values()} - {""})),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """A checkpoint whose files are complete and fit together; no weight has been read.

    Attributes:
        variant: what its transformer was trained for.
        components: of the model, and of what is beside it.
        tokenizers: folders of CLIP's and T5's.
        scheduler_config: of the noise schedule.
        picture_processor: makes numbers of the pictures that Redux reads; None without Redux.
    """

    source: Source
    located: Located
    family: ModelFamily
    variant: Variant
    components: Mapping[Part, CheckedComponent]
    tokenizers: tuple[Path, Path]
    scheduler_config: Mapping[str, Any]
    picture_processor: Any = None

    @property
    def vae_config(self) -> Any:
        """The config of the autoencoder, with the defaults of its class."""
        return self.components[Component.VAE].module.config

    def component_reports(self) -> tuple[ComponentReport, ...]:
        """What each component consists of."""
        return tuple(component.report() for component in self.components.values())


def check_layout(source: Source, located: Located, family: ModelFamily) -> Checkpoint:
    """Check that a checkpoint is complete, of the right kind, and fits together.

    Args:
        source: as the operator named it.
        located: its files.
        family: which the endpoint needs.

    Raises:
        CheckpointError: the first problem found, in one line.
    """
    identified = identify(source, located, family)
    tokenizers = _tokenizers(located)
    components: dict[Part, CheckedComponent] = {
        component: _check_component(
            located,
            component,
            *identified.found[component],
            lora=identified.lora if component is Component.TRANSFORMER else None,
        )
        for component in Component
    }
    modules = {component: checked.module for component, checked in components.items()}
    _rehearse(modules[Component.TRANSFORMER], modules[Component.VAE])
    for checked in components.values():
        compare(checked)
    _check_components_fit(family, *modules.values())
    return Checkpoint(
        source, located, family, identified.variant, components, tokenizers, _scheduler_config(located, family)
    )


def _check_component(
    located: Located,
    component: Component,
    kind: FileKind,
    headers: Mapping[str, TensorHeader],
    *,
    lora: ControlLora | None,
) -> CheckedComponent:
    tensors = gather(headers)
    config = _config(located, component, kind, tensors)
    if lora is not None:
        config = widened_config(config, tensors, lora)
    with reading(located.configs.get(component, located.places[component])):
        module = _without_memory(component, config)
    layout = plain_layout(module)
    if component is Component.TRANSFORMER and any(is_original(name) for name in tensors):
        layout = original_tensors({name: tensor.shape for name, tensor in layout.items()})
    tensors = _squeezed(tensors, layout)
    if lora is not None:
        tensors = merge_control(tensors, layout, lora)
    return CheckedComponent(component, located.places[component], kind, module, layout, tensors)


def plain_layout(module: Any) -> dict[str, OriginalTensor]:
    """The layout of files whose tensors are those of a module, one by one."""
    shapes = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    for again in getattr(module, "all_tied_weights_keys", ()):
        shapes.pop(again, None)
    return {name: OriginalTensor(shape, ((name, shape[0]),)) for name, shape in shapes.items()}


def _without_memory(component: Component, config: Mapping[str, Any]) -> Any:
    # Buffers are few and small, come from no file, and so are made for good.
    with init_empty_weights(include_buffers=False):
        match component:
            case Component.TRANSFORMER:
                return FluxTransformer2DModel.from_config(config)
            case Component.VAE:
                return AutoencoderKL.from_config(config)
            case Component.CLIP:
                return CLIPTextModel(CLIPTextConfig.from_dict({**config, **ATTENTION}))
            case Component.T5:
                return T5EncoderModel(T5Config.from_dict({**config, **ATTENTION}))


def _squeezed(tensors: Mapping[str, StoredTensor], layout: Mapping[str, OriginalTensor]) -> dict[str, StoredTensor]:
    """With the original autoencoder's attention, whose products are stored as convolutions of one pixel."""
    return {
        name: replace(tensor, shape=tensor.shape[:2])
        if name in layout and tensor.shape == (*layout[name].shape, 1, 1)
        else tensor
        for name, tensor in tensors.items()
    }


def _tokenizers(located: Located) -> tuple[Path, Path]:
    """Both folders, each whole; where a model brings none, our package's, which are FLUX.1's."""
    folders = [located.others.get(name, packaged_folder(FLUX1) / name) for name in TOKENIZERS]
    clip, t5 = folders
    # Without tokenizer_config.json a tokenizer knows no longest length; without tokenizer.json T5's knows no words.
    absent = [folder / "tokenizer_config.json" for folder in folders]
    if not (clip / "tokenizer.json").is_file():
        absent += [clip / "vocab.json", clip / "merges.txt"]
    absent = [file for file in (*absent, t5 / "tokenizer.json") if not file.is_file()]
    if absent:
        names = [str(file.relative_to(file.parent.parent)) for file in absent]
        raise CheckpointError(f"{located.folder} lacks {listing(names, shown=len(names))}")
    return clip, t5


def _config(
    located: Located, component: Component, kind: FileKind, tensors: Mapping[str, StoredTensor]
) -> dict[str, Any]:
    file = located.configs.get(component)
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    if file is None:
        if component not in kind.components:
            raise CheckpointError(f"{component} is {kind.text}, not {KIND_TEXTS[component]}")
        return config_from_shapes(component, shapes)
    config = read_config(file, _CLASSES[component])
    if component is Component.TRANSFORMER and located.places[component].is_file():
        # The config beside a lone file may be of a model that was not pruned.
        config |= counted_blocks(shapes)
    return config


def read_config(file: Path, wanted: str) -> dict[str, Any]:
    """The config of a module, without what is not its maker's to say.

    Args:
        file: of the config.
        wanted: name of the class that it must describe.

    Raises:
        CheckpointError: it cannot be read, or describes something else.
    """
    config = {name: value for name, value in read_json(file).items() if name not in _NOT_OURS}
    named = config.get("_class_name", config.get("architectures"))
    found = [name for name in (named if isinstance(named, list) else [named]) if isinstance(name, str)]
    if wanted not in found:
        raise CheckpointError(f"{file} describes a {' or '.join(found) or 'model of unknown kind'}, not a {wanted}")
    return config


def empty_pass(config: Any) -> dict[str, torch.Tensor | None]:
    """What a transformer, or a ControlNet, of this config reads in a pass: 4 image tokens and 3 of text, unfilled."""
    return {
        "hidden_states": torch.empty(1, 4, config.in_channels),
        "timestep": torch.empty(1),
        "guidance": torch.empty(1) if config.guidance_embeds else None,
        "pooled_projections": torch.empty(1, config.pooled_projection_dim),
        "encoder_hidden_states": torch.empty(1, 3, config.joint_attention_dim),
        "txt_ids": torch.empty(3, 3),
        "img_ids": torch.empty(4, 3),
    }


@torch.inference_mode()
def _rehearse(transformer: FluxTransformer2DModel, vae: AutoencoderKL) -> None:
    """Draw without numbers, which costs nothing: it finds what is wrong in a config that only a picture would find."""
    with reading(f"{Component.TRANSFORMER}/config.json"), torch.device("meta"):
        transformer(**empty_pass(transformer.config))
    with reading(f"{Component.VAE}/config.json"), torch.device("meta"):
        vae.decode(torch.empty(1, vae.config.latent_channels, 2, 2))


def compare(checked: CheckedComponent) -> None:
    """Check that a component's files have the tensors of its module, no others, and in plain or known numbers.

    Raises:
        CheckpointError: the first problem found, in one line.
    """
    component, expected, found = checked.component, checked.layout, checked.tensors
    missing = [name for name in expected if name not in found]
    if 2 * len(missing) > len(expected) and component not in checked.kind.components:
        raise CheckpointError(f"{component} is {checked.kind.text}, not {KIND_TEXTS[component]}")
    if missing:
        raise CheckpointError(f"{component} lacks {len(missing)} of {len(expected)} tensors: {listing(missing)}")
    extra = [name for name in found if name not in expected]
    if extra:
        raise CheckpointError(f"{component} has {len(extra)} tensors that FLUX.1 has not: {listing(extra)}")
    wrong = [name for name in found if found[name].shape != expected[name].shape]
    if wrong:
        shapes = [f"{name} is {_by(found[name].shape)} instead of {_by(expected[name].shape)}" for name in wrong]
        raise CheckpointError(f"{component} has {len(wrong)} tensors of a wrong shape: {listing(shapes)}")
    odd = {name: tensor.headers[0].dtype for name, tensor in found.items() if not tensor.way}
    quantised = [f"{name} ({dtype})" for name, dtype in odd.items() if dtype not in _FLOAT_DTYPES]
    if quantised:
        raise CheckpointError(
            f"{component} has {len(quantised)} tensors that are not plain numbers: {listing(quantised)}"
        )


def _by(shape: Shape) -> str:
    return "x".join(str(length) for length in shape) or "a single number"


def _check_components_fit(
    family: ModelFamily,
    transformer: FluxTransformer2DModel,
    vae: AutoencoderKL,
    clip: CLIPTextModel,
    t5: T5EncoderModel,
) -> None:
    """Refuse components of different models: each alone is fine, together they would fail at the first job."""
    latents = 4 * vae.config.latent_channels
    if family is ModelFamily.FILL:
        # Beside the noisy picture it reads one with a hole, and the pixels of the hole.
        latents = 2 * latents + 4 ** len(vae.config.block_out_channels)
    elif family.reads_map:
        latents = 2 * latents
    pairs = (
        (Component.T5, t5.config.d_model, "numbers a token", transformer.config.joint_attention_dim),
        (Component.CLIP, clip.config.hidden_size, "numbers", transformer.config.pooled_projection_dim),
        (Component.VAE, latents, "numbers a token", transformer.config.in_channels),
    )
    for component, given, what, read in pairs:
        if given != read:
            raise CheckpointError(
                f"{component} is of another model: it gives {given} {what}, the transformer reads {read}"
            )
    for name, number in vae.config.items():
        if name in ("scaling_factor", "shift_factor") and not (type(number) in (int, float) and isfinite(number)):
            raise CheckpointError(f"vae/config.json: {name} is {number!r}, not a number")


def _scheduler_config(located: Located, family: ModelFamily) -> dict[str, Any]:
    if SCHEDULER not in located.others:
        return scheduler_config(family)
    file = located.others[SCHEDULER] / _SCHEDULER_CONFIG
    config = read_json(file)
    kind = config.get("_class_name")
    if kind != "FlowMatchEulerDiscreteScheduler":
        raise CheckpointError(f"{file} describes a {kind}, not a FlowMatchEulerDiscreteScheduler")
    with reading(file):
        # Most of what may be wrong in it would else be found by the first job.
        for steps, tokens in _REHEARSED:
            sigmas = make_scheduler(config, steps, tokens, torch.device("cpu")).sigmas
            if len(sigmas) != steps + 1 or not torch.isfinite(sigmas).all():
                raise CheckpointError(f"{file} gives no noise levels for {steps} steps")
    return config
