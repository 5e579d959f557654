"""Reads a checked checkpoint onto its device."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from safetensors import safe_open
from torch import Tensor, nn
from transformers.models.clip.modeling_clip import CLIPTextModel
from transformers.models.clip.tokenization_clip import CLIPTokenizer
from transformers.models.t5.modeling_t5 import T5EncoderModel
from transformers.models.t5.tokenization_t5 import T5Tokenizer
from transformers.utils import logging as transformers_logging

from flux_endpoint.core.catalog import ModelFamily
from flux_endpoint.core.errors import CheckpointError
from flux_endpoint.engine.detect import unwrapped
from flux_endpoint.engine.headers import TensorHeader
from flux_endpoint.engine.layout import ATTENTION, CLIP, T5, VAE, Checkpoint, check_kind, check_layout
from flux_endpoint.engine.memory import available_bytes
from flux_endpoint.engine.original_layout import original_tensors, split_original
from flux_endpoint.engine.preview import Previewer
from flux_endpoint.engine.report import CheckReport
from flux_endpoint.engine.rope import RopeCache
from flux_endpoint.engine.sources import TRANSFORMER, Source, SourceKind, fetch_kind, locate, naming, parse_source
from flux_endpoint.engine.text import TextEncoder
from flux_endpoint.engine.trouble import reading

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


def notice_for(source: Source, family: ModelFamily) -> str:
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


def needed_bytes(checkpoint: Checkpoint, dtype: torch.dtype) -> int:
    """Memory for all weights and for drawing one 1024x1024 picture."""
    channels = checkpoint.vae.config.block_out_channels
    widest_at_full_size = int(channels[min(1, len(channels) - 1)])
    working = _DECODER_MAPS * widest_at_full_size * _PIXELS
    return (checkpoint.parameters + working) * dtype.itemsize


def check_source(
    text: str, family: ModelFamily, *, device: torch.device, download: bool, available: int | None = None
) -> CheckReport:
    """Check that a model could be loaded, without reading its weights.

    Args:
        text: a source: `demo`, a hub id, a folder or a .safetensors file.
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
        location=str(checkpoint.located.transformer_file or checkpoint.located.folder),
        family=checkpoint.family,
        components=checkpoint.component_reports(),
        needed_bytes=needed_bytes(checkpoint, dtype_for(device)),
        device=str(device),
        notice=notice_for(source, checkpoint.family),
    )


def check_checkpoint(
    source: Source, family: ModelFamily, device: torch.device, *, download: bool, available: int | None = None
) -> Checkpoint:
    """Find a model's files, check them, and check that it fits into memory.

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
        needed = needed_bytes(checkpoint, dtype_for(device))
        if needed > free:
            memory = f"memory on {device}" if device.type == "cuda" else "memory"
            raise CheckpointError(f"it needs {_gib(needed)} of {memory} and {_gib(free)} are available")
    return checkpoint


def load_checkpoint(checkpoint: Checkpoint, device: torch.device) -> LoadedModel:
    """Read all weights of a checked checkpoint onto a device. The checkpoint's own modules are filled.

    Raises:
        CheckpointError: a file changed since it was checked, or a tokenizer does not know ordinary words.
    """
    dtype = dtype_for(device)
    folder = checkpoint.located.folder
    size_gb = sum(component.size_bytes for component in checkpoint.component_reports()) / 1e9
    _LOG.info("Reading %.2f GB of %s onto %s", size_gb, checkpoint.source.name, device)
    with reading(checkpoint.located.transformer_file or checkpoint.located.transformer_folder):
        _fill(checkpoint.transformer, _transformer_tensors(checkpoint, device, dtype))
        checkpoint.transformer.pos_embed = RopeCache(checkpoint.transformer.pos_embed, device)
    with reading(folder / VAE):
        _fill(checkpoint.vae, dict(_tensors(checkpoint.headers[VAE], device, dtype)))
    clip = _text_encoder(CLIPTextModel, folder / CLIP, device, dtype)
    t5 = _text_encoder(T5EncoderModel, folder / T5, device, dtype)
    clip_tokenizer = _tokenizer(CLIPTokenizer, folder / "tokenizer")
    t5_tokenizer = _tokenizer(T5Tokenizer, folder / "tokenizer_2")
    if t5_tokenizer.unk_token_id in t5_tokenizer(_ORDINARY_WORDS).input_ids:
        raise CheckpointError(f"{folder}/tokenizer_2/tokenizer.json does not know ordinary English words")
    return LoadedModel(
        text=TextEncoder(clip, clip_tokenizer, t5, t5_tokenizer),
        transformer=checkpoint.transformer,
        vae=checkpoint.vae,
        previewer=Previewer(checkpoint.vae),
        scheduler_config=checkpoint.scheduler_config,
        device=device,
        dtype=dtype,
    )


def _text_encoder(kind: Any, folder: Path, device: torch.device, dtype: torch.dtype) -> Any:
    with reading(folder), _no_progress_bars():
        module = kind.from_pretrained(folder, dtype=dtype, local_files_only=True, **ATTENTION)
        module.to(device).eval().requires_grad_(False)
        _align(module)
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


def _transformer_tensors(checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
    tensors = _tensors(checkpoint.headers[TRANSFORMER], device, dtype)
    if not checkpoint.is_original:
        return dict(tensors)
    shapes = {name: tuple(tensor.shape) for name, tensor in checkpoint.transformer.state_dict().items()}
    layout = original_tensors(shapes)
    converted: dict[str, Tensor] = {}
    for name, tensor in tensors:
        converted |= split_original(name, tensor, layout[name])
    return converted


def _tensors(
    headers: Mapping[str, TensorHeader], device: torch.device, dtype: torch.dtype
) -> Iterator[tuple[str, Tensor]]:
    """Read tensors one by one, file by file, under the names of `headers`."""
    files: dict[Path, None] = dict.fromkeys(header.file for header in headers.values())
    for file in files:
        with safe_open(file, framework="pt", device=str(device)) as stream:
            for stored_name in stream.keys():  # noqa: SIM118 (the object is no mapping)
                yield unwrapped(stored_name), stream.get_tensor(stored_name).to(dtype)


def _fill(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    module.load_state_dict(tensors, strict=True, assign=True)
    module.eval().requires_grad_(False)
    _align(module)


def _align(module: nn.Module) -> None:
    """Copy weights out of mapped files: there they start at any address, which changes the last bits of a product."""
    for parameter in module.parameters():
        if parameter.data_ptr() % _ALIGNMENT_BYTES:
            parameter.data = parameter.data.clone()


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    """Keep transformers from drawing one bar per text encoder into the worker's log."""
    was_enabled = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_enabled:
            transformers_logging.enable_progress_bar()


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
