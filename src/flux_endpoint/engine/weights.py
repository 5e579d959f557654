"""Reads a checked checkpoint onto its device."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from torch import Tensor, nn
from transformers.models.clip.tokenization_clip import CLIPTokenizer
from transformers.models.t5.tokenization_t5 import T5Tokenizer

from flux_endpoint.core.catalog import ModelFamily
from flux_endpoint.core.errors import CheckpointError
from flux_endpoint.engine.detect import Component
from flux_endpoint.engine.identify import check_kind
from flux_endpoint.engine.layout import CheckedComponent, Checkpoint, check_layout
from flux_endpoint.engine.memory import available_bytes
from flux_endpoint.engine.original_layout import split_original
from flux_endpoint.engine.preview import Previewer
from flux_endpoint.engine.report import CheckReport
from flux_endpoint.engine.rope import RopeCache
from flux_endpoint.engine.sharing import SharedComponents
from flux_endpoint.engine.sources import Source, SourceKind, fetch_kind, locate, naming, parse_source
from flux_endpoint.engine.stored import TensorReader
from flux_endpoint.engine.text import TextEncoder
from flux_endpoint.engine.trouble import reading
from flux_endpoint.engine.variants import Variant

_LOG = logging.getLogger(__name__)

# Decoding at 1024x1024 is the peak: about this many feature maps of the second level at full size live at once.
_DECODER_MAPS = 3
_PIXELS = 1024 * 1024
# torch's own allocations on the CPU start at multiples of this.
_ALIGNMENT_BYTES = 64
# transformers makes a tokenizer that knows nothing, without a word, when it does not like the file.
_LONGEST_PROMPT = 10_000
_ORDINARY_WORDS = "a photo of a house and a tree"


@dataclass(frozen=True, slots=True, eq=False)
class LoadedModel:
    """The modules of one checkpoint on one device, in one dtype."""

    text: TextEncoder
    transformer: FluxTransformer2DModel
    vae: AutoencoderKL
    previewer: Previewer
    scheduler_config: Mapping[str, Any]
    device: torch.device
    dtype: torch.dtype

    @property
    def vae_scale_factor(self) -> int:
        """Pixels per latent along one side: each level of the autoencoder but the last halves the picture."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    @property
    def latent_channels(self) -> int:
        """Channels of the latents before 2x2 patches are packed into tokens."""
        return int(self.transformer.config.in_channels // 4)

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
    if family is ModelFamily.DEV:
        return (
            "FLUX.1 [dev] weights are for non-commercial use: FLUX.1 [dev] Non-Commercial License, "
            "https://huggingface.co/black-forest-labs/FLUX.1-dev/blob/main/LICENSE.md"
        )
    return ""


def dtype_for(device: torch.device) -> torch.dtype:
    """bfloat16 on CUDA, as FLUX.1 was trained; float32 on the CPU, where it is exact and fast everywhere."""
    return torch.bfloat16 if device.type == "cuda" else torch.float32


def needed_bytes(
    checkpoint: Checkpoint, dtype: torch.dtype, components: Iterable[CheckedComponent] | None = None
) -> int:
    """Memory for weights and for drawing one 1024x1024 picture.

    Args:
        checkpoint: what is drawn with.
        dtype: of all numbers.
        components: those to be loaded; None for all.
    """
    channels = checkpoint.vae_config.block_out_channels
    widest_at_full_size = int(channels[min(1, len(channels) - 1)])
    working = _DECODER_MAPS * widest_at_full_size * _PIXELS
    loaded = checkpoint.components.values() if components is None else components
    return (sum(component.parameters for component in loaded) + working) * dtype.itemsize


def check_source(
    text: str, family: ModelFamily, *, device: torch.device, download: bool, available: int | None = None
) -> CheckReport:
    """Check that a model could be loaded, without reading its weights.

    Args:
        text: a source, see `sources.parse_source`.
        family: which the endpoint needs.
        device: where it would run.
        download: whether missing files are fetched from the hub first.
        available: bytes free on the device; None to ask it.

    Raises:
        CheckpointError: it could not be loaded.
    """
    source = parse_source(text)
    checkpoint = check_checkpoint(source, family, device, download=download, available=available)
    return CheckReport(
        source=text,
        name=source.name,
        location=str(checkpoint.located.folder),
        family=checkpoint.family,
        variant=checkpoint.variant,
        components=checkpoint.component_reports(),
        needed_bytes=needed_bytes(checkpoint, dtype_for(device)),
        device=str(device),
        notice=notice_for(source, checkpoint.family, checkpoint.variant),
    )


def check_checkpoint(
    source: Source,
    family: ModelFamily,
    device: torch.device,
    *,
    download: bool,
    available: int | None = None,
    shared: SharedComponents | None = None,
) -> Checkpoint:
    """Find a model's files, check them, and check that what is not loaded yet fits into memory.

    Raises:
        CheckpointError: the first problem found.
    """
    if source.kind is SourceKind.HUB and download:
        kind_folder = fetch_kind(source)
        with naming(source):
            check_kind(kind_folder, family)
    located = locate(source, family, download=download)
    with naming(source):
        checkpoint = check_layout(source, located, family)
        free = available_bytes(device) if available is None else available
        dtype = dtype_for(device)
        components = (shared or SharedComponents()).missing(checkpoint.components.values(), device, dtype)
        needed = needed_bytes(checkpoint, dtype, components)
        if needed > free:
            memory = f"memory on {device}" if device.type == "cuda" else "memory"
            raise CheckpointError(f"it needs {_gib(needed)} of {memory} and {_gib(free)} are available")
    return checkpoint


def load_checkpoint(checkpoint: Checkpoint, device: torch.device, shared: SharedComponents) -> LoadedModel:
    """Read a checked checkpoint onto a device. The checkpoint's own modules are filled.

    Args:
        checkpoint: what to read.
        device: where to.
        shared: text encoders and autoencoders that are there already.

    Raises:
        CheckpointError: a file changed since it was checked, a number is NaN or infinite, or a tokenizer does not
            know ordinary words.
    """
    dtype = dtype_for(device)
    components = checkpoint.components
    size_gb = sum(component.size_bytes for component in checkpoint.component_reports()) / 1e9
    _LOG.info("Reading %.2f GB of %s onto %s", size_gb, checkpoint.source.name, device)
    transformer, vae, clip, t5 = (
        shared.get(components[component], device, dtype, partial(load_component, components[component], device, dtype))
        for component in Component
    )
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
    return LoadedModel(
        text=TextEncoder(clip, clip_tokenizer, t5, t5_tokenizer),
        transformer=transformer,
        vae=vae,
        previewer=Previewer(vae),
        scheduler_config=checkpoint.scheduler_config,
        device=device,
        dtype=dtype,
    )


def load_component(checked: CheckedComponent, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """Read one component onto a device; its own module gets the numbers.

    Raises:
        CheckpointError: as `load_checkpoint`.
    """
    module: nn.Module = checked.module
    reader = TensorReader(device)
    with reading(checked.place):
        tensors: dict[str, Tensor] = {}
        for name, layout in checked.layout.items():
            tensors |= split_original(name, checked.tensors[name].read(reader, dtype), layout)
        for again, first in getattr(module, "all_tied_weights_keys", {}).items():
            tensors[again] = tensors[first]
        module.load_state_dict(tensors, strict=True, assign=True)
        module.to(device).eval().requires_grad_(False)
        if checked.component in (Component.CLIP, Component.T5):
            checked.module.tie_weights()
        _align(module)
        if checked.component in (Component.CLIP, Component.T5):
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
        if parameter.data_ptr() % _ALIGNMENT_BYTES:
            parameter.data = parameter.data.clone()


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
