"""Checks a checkpoint's files against the models they must fill, reading headers only."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, Final

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from torch import nn
from transformers.models.clip.configuration_clip import CLIPTextConfig
from transformers.models.clip.modeling_clip import CLIPTextModel
from transformers.models.t5.configuration_t5 import T5Config
from transformers.models.t5.modeling_t5 import T5EncoderModel

from flux_endpoint.core.catalog import ModelFamily
from flux_endpoint.core.errors import CheckpointError
from flux_endpoint.engine.detect import detect, unwrapped
from flux_endpoint.engine.headers import TensorHeader, listing, read_header, read_json, read_part_headers
from flux_endpoint.engine.original_layout import Shape, is_original, original_tensors
from flux_endpoint.engine.report import ComponentReport
from flux_endpoint.engine.schedule import make_scheduler
from flux_endpoint.engine.sources import INDEX_FILE, TRANSFORMER, TRANSFORMER_CONFIG, Located, Source
from flux_endpoint.engine.trouble import reading

VAE: Final = "vae"
CLIP: Final = "text_encoder"
T5: Final = "text_encoder_2"

# Said by us, always: a config may name a repository of kernels here, and transformers would fetch and run its code.
ATTENTION: Final = {"attn_implementation": "sdpa"}
_ATTENTION_KEYS: Final = ("attn_implementation", "_attn_implementation", "_attn_implementation_internal")

_DIFFUSERS_STEM: Final = "diffusion_pytorch_model"
_TRANSFORMERS_STEM: Final = "model"
_SCHEDULER_CONFIG: Final = "scheduler/scheduler_config.json"
# Without tokenizer_config.json a tokenizer knows no longest length; without tokenizer.json T5's knows no words.
_OTHER_FILES: Final = (_SCHEDULER_CONFIG, "tokenizer/tokenizer_config.json", "tokenizer_2/tokenizer_config.json")
# Steps and picture tokens: of a small picture by schnell, and of a large one by dev.
_REHEARSED: Final = ((4, 256), (28, 9_216))
_FLOAT_DTYPES: Final = frozenset({"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"})
# What `detect` calls the components that a file of another one may lie in the place of.
_KINDS: Final = {VAE: "an autoencoder", CLIP: "a CLIP text encoder", T5: "a T5 text encoder"}


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """A checkpoint whose files are complete and fit together; no weight has been read.

    Attributes:
        transformer: without memory for its tensors (on torch's meta device).
        vae: likewise.
        is_original: whether the transformer's file uses Black Forest Labs' names.
        headers: of each component's tensors, by component and by the name in the file.
        scheduler_config: of the noise schedule.
    """

    source: Source
    located: Located
    family: ModelFamily
    transformer: FluxTransformer2DModel
    vae: AutoencoderKL
    is_original: bool
    headers: Mapping[str, Mapping[str, TensorHeader]]
    scheduler_config: Mapping[str, Any]

    @property
    def parameters(self) -> int:
        """Number of elements of all components."""
        return sum(tensor.parameters for component in self.headers.values() for tensor in component.values())

    def component_reports(self) -> tuple[ComponentReport, ...]:
        """What each component consists of."""
        return tuple(
            ComponentReport(
                name=name,
                files=len({tensor.file for tensor in tensors.values()}),
                tensors=len(tensors),
                parameters=sum(tensor.parameters for tensor in tensors.values()),
                size_bytes=sum(tensor.size_bytes for tensor in tensors.values()),
                dtypes=tuple(sorted({tensor.dtype for tensor in tensors.values()})),
            )
            for name, tensors in self.headers.items()
        )


def check_layout(source: Source, located: Located, family: ModelFamily) -> Checkpoint:
    """Check that a checkpoint is complete, of the right kind, and fits together.

    Args:
        source: as the operator named it.
        located: its files.
        family: which the endpoint needs.

    Raises:
        CheckpointError: the first problem found, in one line.
    """
    _check_other_files(located)
    configs = {component: _config(located, component, family) for component in (TRANSFORMER, VAE, CLIP, T5)}
    transformer_headers = _transformer_headers(located, family)
    has_original_names = any(is_original(name) for name in transformer_headers)
    transformer = _on_meta(TRANSFORMER, lambda: FluxTransformer2DModel.from_config(configs[TRANSFORMER]))
    vae = _on_meta(VAE, lambda: AutoencoderKL.from_config(configs[VAE]))
    clip = _on_meta(CLIP, lambda: CLIPTextModel(CLIPTextConfig.from_dict(configs[CLIP] | ATTENTION)))
    t5 = _on_meta(T5, lambda: T5EncoderModel(T5Config.from_dict(configs[T5] | ATTENTION)))
    _rehearse(transformer, vae)
    expected_names = _shapes(transformer)
    if has_original_names:
        expected_names = {name: tensor.shape for name, tensor in original_tensors(expected_names).items()}
    headers = {
        TRANSFORMER: transformer_headers,
        VAE: read_part_headers(located.folder / VAE, _DIFFUSERS_STEM),
        CLIP: _clip_headers(located),
        T5: read_part_headers(located.folder / T5, _TRANSFORMERS_STEM),
    }
    _compare(TRANSFORMER, expected_names, headers[TRANSFORMER])
    _compare(VAE, _shapes(vae), headers[VAE])
    _compare(CLIP, _shapes(clip), headers[CLIP])
    _compare(T5, _shapes(t5), headers[T5], optional=frozenset(t5.all_tied_weights_keys))
    _check_parts_fit(transformer, vae, clip, t5)
    return Checkpoint(
        source=source,
        located=located,
        family=family,
        transformer=transformer,
        vae=vae,
        is_original=has_original_names,
        headers=headers,
        scheduler_config=_scheduler_config(located),
    )


def check_kind(folder: Path, family: ModelFamily) -> None:
    """Check what can be known from two small files, before gigabytes of weights are fetched.

    Args:
        folder: with `model_index.json` and `transformer/config.json`.
        family: which the endpoint needs.

    Raises:
        CheckpointError: it is no FLUX model, or of the other family.
    """
    _check_index(folder)
    has_guidance = bool(read_json(folder / TRANSFORMER_CONFIG).get("guidance_embeds", False))
    _check_family(family, has_guidance=has_guidance)


def _check_other_files(located: Located) -> None:
    folder = located.folder
    if located.transformer_file is None:
        _check_index(folder)
    absent = [name for name in _OTHER_FILES if not (folder / name).is_file()]
    if not (folder / "tokenizer/tokenizer.json").is_file():
        absent += [name for name in ("tokenizer/vocab.json", "tokenizer/merges.txt") if not (folder / name).is_file()]
    if not (folder / "tokenizer_2/tokenizer.json").is_file():
        absent.append("tokenizer_2/tokenizer.json")
    if absent:
        raise CheckpointError(f"{folder} lacks {listing(absent, shown=len(absent))}")


def _check_index(folder: Path) -> None:
    kind = read_json(folder / INDEX_FILE).get("_class_name")
    if kind != "FluxPipeline":
        raise CheckpointError(f"{folder / INDEX_FILE} describes a {kind}, not a FluxPipeline")


def _config(located: Located, component: str, family: ModelFamily) -> dict[str, Any]:
    folder = located.transformer_folder if component == TRANSFORMER else located.folder / component
    file = folder / "config.json"
    if component == TRANSFORMER and located.transformer_file is not None and not file.is_file():
        # A lone transformer file comes without a config; the defaults of diffusers' class are FLUX.1's sizes.
        return {"guidance_embeds": family is ModelFamily.DEV}
    config = {name: value for name, value in read_json(file).items() if name not in _ATTENTION_KEYS}
    wanted, found = _class_names(component, config)
    if wanted not in found:
        raise CheckpointError(f"{file} describes a {' or '.join(found) or 'model of unknown kind'}, not a {wanted}")
    return config


def _class_names(component: str, config: Mapping[str, Any]) -> tuple[str, list[str]]:
    match component:
        case "transformer":
            return "FluxTransformer2DModel", _texts([config.get("_class_name")])
        case "vae":
            return "AutoencoderKL", _texts([config.get("_class_name")])
        case "text_encoder":
            return "CLIPTextModel", _texts(config.get("architectures"))
        case _:
            return "T5EncoderModel", _texts(config.get("architectures"))


def _texts(names: object) -> list[str]:
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def _transformer_headers(located: Located, family: ModelFamily) -> dict[str, TensorHeader]:
    place = located.transformer_file or located.transformer_folder
    headers = read_header(place) if located.transformer_file else read_part_headers(place, _DIFFUSERS_STEM)
    kind = detect(headers)
    if kind.family is None:
        raise CheckpointError(
            f"{place} is {kind.text}; the endpoint needs a FLUX.1 {family} transformer in plain numbers"
        )
    _check_family(family, has_guidance=kind.family is ModelFamily.DEV)
    return {unwrapped(name): header for name, header in headers.items()}


def _clip_headers(located: Located) -> dict[str, TensorHeader]:
    """CLIP's tensors under the names of its class: files written by other versions put more before or beside them."""
    headers = read_part_headers(located.folder / CLIP, _TRANSFORMERS_STEM)
    return {
        name.removeprefix("text_model."): header
        for name, header in headers.items()
        if not name.endswith("embeddings.position_ids")
    }


def _check_family(family: ModelFamily, *, has_guidance: bool) -> None:
    """Refuse a dev checkpoint, whose transformer reads a distilled guidance, for schnell and the other way round."""
    if has_guidance == (family is ModelFamily.DEV):
        return
    kind, mark = ("dev", "a") if has_guidance else ("schnell", "no")
    raise CheckpointError(
        f"this is a {kind} checkpoint (it has {mark} guidance input), and the endpoint needs {family}"
    )


def _on_meta(component: str, build: Callable[[], Any]) -> Any:
    """Build a module without memory for its tensors."""
    with reading(f"{component}/config.json"), torch.device("meta"):
        return build()


@torch.inference_mode()
def _rehearse(transformer: FluxTransformer2DModel, vae: AutoencoderKL) -> None:
    """Draw without numbers, which costs nothing: it finds what is wrong in a config that only a picture would find."""
    sizes = transformer.config
    with reading(f"{TRANSFORMER}/config.json"), torch.device("meta"):
        transformer(
            hidden_states=torch.empty(1, 4, sizes.in_channels),
            timestep=torch.empty(1),
            guidance=torch.empty(1) if sizes.guidance_embeds else None,
            pooled_projections=torch.empty(1, sizes.pooled_projection_dim),
            encoder_hidden_states=torch.empty(1, 3, sizes.joint_attention_dim),
            txt_ids=torch.empty(3, 3),
            img_ids=torch.empty(4, 3),
        )
    with reading(f"{VAE}/config.json"), torch.device("meta"):
        vae.decode(torch.empty(1, vae.config.latent_channels, 2, 2))


def _shapes(module: nn.Module) -> dict[str, Shape]:
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def _compare(
    component: str,
    expected: Mapping[str, Shape],
    found: Mapping[str, TensorHeader],
    optional: frozenset[str] = frozenset(),
) -> None:
    missing = [name for name in expected if name not in found and name not in optional]
    if 2 * len(missing) > len(expected) and component in _KINDS:
        kind = detect(found).text
        if kind != _KINDS[component]:
            raise CheckpointError(f"{component} is {kind}, not {_KINDS[component]}")
    if missing:
        raise CheckpointError(f"{component} lacks {len(missing)} of {len(expected)} tensors: {listing(missing)}")
    extra = [name for name in found if name not in expected]
    if extra:
        raise CheckpointError(f"{component} has {len(extra)} tensors that FLUX.1 has not: {listing(extra)}")
    wrong = [name for name in found if found[name].shape != expected[name]]
    if wrong:
        shapes = [f"{name} is {_by(found[name].shape)} instead of {_by(expected[name])}" for name in wrong]
        raise CheckpointError(f"{component} has {len(wrong)} tensors of a wrong shape: {listing(shapes)}")
    quantised = [f"{name} ({found[name].dtype})" for name in found if found[name].dtype not in _FLOAT_DTYPES]
    if quantised:
        raise CheckpointError(
            f"{component} has {len(quantised)} tensors that are not plain numbers: {listing(quantised)}"
        )


def _by(shape: Shape) -> str:
    return "x".join(str(length) for length in shape) or "a single number"


def _check_parts_fit(
    transformer: FluxTransformer2DModel, vae: AutoencoderKL, clip: CLIPTextModel, t5: T5EncoderModel
) -> None:
    """Refuse components of different models: each alone is fine, together they would fail at the first job."""
    pairs = (
        (T5, t5.config.d_model, "numbers a token", transformer.config.joint_attention_dim),
        (CLIP, clip.config.hidden_size, "numbers", transformer.config.pooled_projection_dim),
        (VAE, 4 * vae.config.latent_channels, "numbers a token", transformer.config.in_channels),
    )
    for component, given, what, read in pairs:
        if given != read:
            raise CheckpointError(
                f"{component} is of another model: it gives {given} {what}, the transformer reads {read}"
            )
    for name, number in vae.config.items():
        if name in ("scaling_factor", "shift_factor") and not (type(number) in (int, float) and isfinite(number)):
            raise CheckpointError(f"vae/config.json: {name} is {number!r}, not a number")


def _scheduler_config(located: Located) -> dict[str, Any]:
    file = located.folder / _SCHEDULER_CONFIG
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
