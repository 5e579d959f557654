"""Reads a checked checkpoint onto its device."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.controlnets.controlnet_flux import FluxControlNetModel
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from torch import Tensor, nn
from transformers.models.clip.tokenization_clip import CLIPTokenizer
from transformers.models.t5.tokenization_t5 import T5Tokenizer

from flux_endpoint.core.catalog import ModelFamily
from flux_endpoint.core.errors import CheckpointError
from flux_endpoint.core.vocabulary import Vocabulary
from flux_endpoint.engine.add_ons import NO_ADD_ONS, AddOns
from flux_endpoint.engine.controlnet_files import check_controlnet
from flux_endpoint.engine.detect import Component, ControlNetPart, Part, ReduxPart
from flux_endpoint.engine.identify import check_kind
from flux_endpoint.engine.layout import CheckedComponent, Checkpoint, check_layout
from flux_endpoint.engine.memory import available_bytes
from flux_endpoint.engine.memory_plan import (
    AUTO,
    ComponentSize,
    MemoryPlan,
    Needs,
    Placement,
    choose_placement,
    placements_on,
)
from flux_endpoint.engine.original_layout import split_original
from flux_endpoint.engine.preview import Previewer
from flux_endpoint.engine.redux import PicturePrompts, check_redux
from flux_endpoint.engine.report import CheckReport
from flux_endpoint.engine.rope import RopeCache
from flux_endpoint.engine.sharing import SharedComponents
from flux_endpoint.engine.sources import Source, SourceKind, fetch_kind, locate, naming, parse_source, with_add_ons
from flux_endpoint.engine.step_estimate import TEXT_TOKENS, step_operations
from flux_endpoint.engine.stored import TensorReader
from flux_endpoint.engine.stored_layers import ALIGNMENT_BYTES, keep_stored, size_of
from flux_endpoint.engine.streaming import stream
from flux_endpoint.engine.text import TextEncoder
from flux_endpoint.engine.trouble import reading
from flux_endpoint.engine.variants import Variant

_LOG = logging.getLogger(__name__)

# Decoding at 1024x1024 is the peak: about this many feature maps of the second level at full size live at once.
_DECODER_MAPS = 3
_SIDE_PX = 1024
_PIXELS = _SIDE_PX * _SIDE_PX
_TEXT = (Component.CLIP, Component.T5)
# transformers makes a tokenizer that knows nothing, without a word, when it does not like the file.
_LONGEST_PROMPT = 10_000
_ORDINARY_WORDS = "a photo of a house and a tree"
_VOCABULARY = "vocabulary.json"


@dataclass(frozen=True, slots=True, eq=False)
class LoadedModel:
    """The modules of one checkpoint on one device, in one dtype.

    Attributes:
        vocabulary: the words that it knows, where it is so small that they can be listed.
        pictures: reads pictures as prompts; None without Redux.
        controlnet: None for none.
    """

    text: TextEncoder
    transformer: FluxTransformer2DModel
    vae: AutoencoderKL
    previewer: Previewer
    scheduler_config: Mapping[str, Any]
    device: torch.device
    dtype: torch.dtype
    vocabulary: Vocabulary | None = None
    pictures: PicturePrompts | None = None
    controlnet: FluxControlNetModel | None = None

    @property
    def vae_scale_factor(self) -> int:
        """Pixels per latent along one side: each level of the autoencoder but the last halves the picture."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    @property
    def latent_channels(self) -> int:
        """Channels of the latents before 2x2 patches are packed into tokens."""
        return int(self.vae.config.latent_channels)

    @property
    def has_guidance(self) -> bool:
        """Whether the transformer reads a distilled guidance."""
        return bool(self.transformer.config.guidance_embeds)


def notice_for(source: Source, family: ModelFamily, variant: Variant | None = None) -> str:
    """What a user must be told when a model is loaded."""
    if source.kind is SourceKind.DEMO:
        return (
            "This is the small embedded model: simple pictures for trying things out. For FLUX.1 itself set "
            "FLUX_ENDPOINT_MODEL=black-forest-labs/FLUX.1-dev."
        )
    if family is not ModelFamily.SCHNELL:
        return (
            "FLUX.1 [dev] weights are for non-commercial use: FLUX.1 [dev] Non-Commercial License, "
            "https://huggingface.co/black-forest-labs/FLUX.1-dev/blob/main/LICENSE.md"
        )
    return ""


def check_source(
    text: str,
    family: ModelFamily,
    *,
    device: torch.device,
    download: bool,
    available: int | None = None,
    memory: str = AUTO,
    add_ons: AddOns = NO_ADD_ONS,
) -> CheckReport:
    """Check that a model could be loaded, without reading its weights.

    Args:
        text: a source, see `sources.parse_source`.
        family: which the endpoint needs.
        device: where it would run.
        download: whether missing files are fetched from the hub first.
        available: bytes free on the device; None to ask it.
        memory: a mode of keeping it, or `auto`.
        add_ons: what is loaded beside those models that can use it.

    Raises:
        CheckpointError: it could not be loaded.
    """
    source = with_add_ons(parse_source(text), family, add_ons)
    checkpoint = check_checkpoint(source, family, download=download)
    needs = needs_of(checkpoint, device, SharedComponents())
    plan = plan_memory(checkpoint, needs, device, memory, available)
    return CheckReport(
        source=text,
        name=source.name,
        location=str(checkpoint.located.folder),
        family=checkpoint.family,
        variant=checkpoint.variant,
        components=checkpoint.component_reports(),
        memory=plan,
        step_operations=_step_operations(checkpoint),
        device=str(device),
        notice=notice_for(source, checkpoint.family, checkpoint.variant),
    )


def _step_operations(checkpoint: Checkpoint) -> int:
    transformer = checkpoint.components[Component.TRANSFORMER].module
    shapes = {name: tuple(tensor.shape) for name, tensor in transformer.state_dict().items()}
    # Each level of the autoencoder but the last halves the picture, and a token is 2 x 2 latents.
    scale = 2 ** len(checkpoint.vae_config.block_out_channels)
    return step_operations(shapes, (_SIDE_PX // scale) ** 2, TEXT_TOKENS)


def check_checkpoint(source: Source, family: ModelFamily, *, download: bool) -> Checkpoint:
    """Find a model's files and check them.

    Raises:
        CheckpointError: the first problem found.
    """
    if source.kind is SourceKind.HUB and download:
        kind_folder = fetch_kind(source)
        with naming(source):
            check_kind(source, kind_folder, family)
    located = locate(source, family, download=download)
    with naming(source):
        checkpoint = check_layout(source, located, family)
    return _with_add_ons(checkpoint, source.add_ons, download=download)


def _with_add_ons(checkpoint: Checkpoint, add_ons: AddOns, *, download: bool) -> Checkpoint:
    transformer = checkpoint.components[Component.TRANSFORMER].module
    components, processor = dict(checkpoint.components), None
    if add_ons.redux is not None:
        redux = check_redux(add_ons.redux, transformer.config.joint_attention_dim, download=download)
        components |= redux.components
        processor = redux.processor
    if add_ons.controlnet is not None:
        checked = check_controlnet(add_ons.controlnet, transformer, download=download)
        components[checked.component] = checked
    return replace(checkpoint, components=components, picture_processor=processor)


def needs_of(checkpoint: Checkpoint, device: torch.device, shared: SharedComponents) -> Needs:
    """What a model needs on a device, as far as it is not loaded yet."""
    sizes: dict[str, dict[str, ComponentSize]] = {}
    for name in {placement.dtype for placement in placements_on(device.type)}:
        dtype = dtype_named(name)
        missing = shared.missing(checkpoint.components.values(), device, dtype)
        sizes[name] = {checked.component: size_of(checked, device, dtype) for checked in missing}
    return Needs(sizes, numbers_at_work(checkpoint.vae_config))


def numbers_at_work(vae_config: Any) -> int:
    """How many numbers are alive at once while 1024x1024 pixels are decoded."""
    channels = vae_config.block_out_channels
    return _DECODER_MAPS * int(channels[min(1, len(channels) - 1)]) * _PIXELS


def plan_memory(
    checkpoint: Checkpoint, needs: Needs, device: torch.device, wanted: str, available: int | None = None
) -> MemoryPlan:
    """How to keep a model in the memory that a device has free.

    Args:
        checkpoint: whose name is told when it does not fit.
        needs: of the model.
        device: where to.
        wanted: a mode, or `auto`.
        available: bytes free on the device; None to ask it.

    Raises:
        CheckpointError: it does not fit.
    """
    free = available_bytes(device) if available is None else available
    with naming(checkpoint.source):
        return choose_placement(wanted, needs, device.type, free)


def dtype_named(name: str) -> torch.dtype:
    """The dtype of a placement."""
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[name]


def load_checkpoint(
    checkpoint: Checkpoint, device: torch.device, shared: SharedComponents, placement: Placement
) -> LoadedModel:
    """Read a checked checkpoint onto a device. The checkpoint's own modules are filled.

    Args:
        checkpoint: what to read.
        device: where to.
        shared: text encoders and autoencoders that are there already.
        placement: how the weights are kept.

    Raises:
        CheckpointError: a file changed since it was checked, a number is NaN or infinite, or a tokenizer does not
            know ordinary words.
    """
    dtype = dtype_named(placement.dtype)
    components = checkpoint.components

    def load(component: Part) -> Any:
        checked = components[component]
        return shared.get(checked, device, dtype, partial(load_component, checked, device, placement))

    size_gb = sum(component.size_bytes for component in checkpoint.component_reports()) / 1e9
    _LOG.info("Reading %.2f GB of %s onto %s", size_gb, checkpoint.source.name, device)
    transformer, vae, clip, t5 = map(load, Component)
    transformer.pos_embed = RopeCache(transformer.pos_embed, device)
    clip_tokenizer, t5_tokenizer = (
        _tokenizer(kind, folder)
        for kind, folder in zip((CLIPTokenizer, T5Tokenizer), checkpoint.tokenizers, strict=True)
    )
    if t5_tokenizer.unk_token_id in t5_tokenizer(_ORDINARY_WORDS).input_ids:
        raise CheckpointError(f"{checkpoint.tokenizers[1]}/tokenizer.json does not know ordinary English words")
    for component, tokenizer, encoder in ((Component.CLIP, clip_tokenizer, clip), (Component.T5, t5_tokenizer, t5)):
        words = encoder.config.vocab_size
        if len(tokenizer) > words:
            raise CheckpointError(
                f"{component} knows {words} words and its tokenizer {len(tokenizer)}: they do not fit"
            )
    pictures = None
    if checkpoint.picture_processor is not None:
        encoder, embedder = map(load, ReduxPart)
        pictures = PicturePrompts(encoder, embedder, checkpoint.picture_processor)
    controlnet = None
    if ControlNetPart.CONTROLNET in components:
        controlnet = load(ControlNetPart.CONTROLNET)
        controlnet.pos_embed = RopeCache(controlnet.pos_embed, device)
    return LoadedModel(
        text=TextEncoder(clip, clip_tokenizer, t5, t5_tokenizer),
        transformer=transformer,
        vae=vae,
        previewer=Previewer(vae),
        scheduler_config=checkpoint.scheduler_config,
        device=device,
        dtype=dtype,
        vocabulary=_vocabulary(checkpoint),
        pictures=pictures,
        controlnet=controlnet,
    )


def _vocabulary(checkpoint: Checkpoint) -> Vocabulary | None:
    """Of the embedded model only: nobody has listed what a model of billions of weights knows."""
    if checkpoint.source.kind is not SourceKind.DEMO:
        return None
    return Vocabulary.read((checkpoint.located.folder / _VOCABULARY).read_bytes())


def load_component(checked: CheckedComponent, device: torch.device, placement: Placement) -> nn.Module:
    """Read one component onto a device; its own module gets the numbers.

    Args:
        checked: what to read.
        device: where it works.
        placement: how its weights are kept.

    Raises:
        CheckpointError: as `load_checkpoint`.
    """
    module: nn.Module = checked.module
    dtype = dtype_named(placement.dtype)
    is_streamed = checked.component in placement.streamed
    home = torch.device("cpu") if is_streamed else device
    reader = TensorReader(home)
    with reading(checked.place):
        kept: frozenset[str] = frozenset()
        if checked.component in placement.stored:
            kept = keep_stored(checked, module, device, dtype, home)
        tensors: dict[str, Tensor] = {}
        for name, layout in checked.layout.items():
            if name not in kept:
                tensors |= split_original(name, checked.tensors[name].read(reader, dtype), layout)
        for again, first in getattr(module, "all_tied_weights_keys", {}).items():
            tensors[again] = tensors[first]
        module.load_state_dict(tensors, strict=True, assign=True)
        module.to(home).eval().requires_grad_(False)
        if checked.component in _TEXT:
            checked.module.tie_weights()
        if dtype == torch.float32:
            _align(module)
        if is_streamed:
            stream(module, device)
        if checked.component in _TEXT:
            with torch.inference_mode():
                # What is wrong in its config would else be found by the first job.
                module(torch.ones(1, 8, dtype=torch.long, device=device))
    return module


def _tokenizer(kind: Any, folder: Path) -> Any:
    with reading(folder):
        tokenizer = kind.from_pretrained(folder, local_files_only=True)
        longest = tokenizer.model_max_length
        if type(longest) is not int or not 0 < longest <= _LONGEST_PROMPT:
            problem = f"model_max_length must be a whole number from 1 to {_LONGEST_PROMPT}"
            raise CheckpointError(f"{folder}/tokenizer_config.json: {problem}")
        tokenizer(_ORDINARY_WORDS, padding="max_length", max_length=longest, truncation=True)
    return tokenizer


def _align(module: nn.Module) -> None:
    """Copy weights out of mapped files: there they start at any address, which changes the last bits of a product."""
    for parameter in module.parameters():
        if parameter.data_ptr() % ALIGNMENT_BYTES:
            parameter.data = parameter.data.clone()
