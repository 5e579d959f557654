"""Settings of models and devices."""

from pathlib import Path
from typing import Final, Literal

from pydantic import ValidationInfo, field_validator

from flux_endpoint.core.catalog import (
    FLUX_CANNY,
    FLUX_DEPTH,
    FLUX_DEV,
    FLUX_FILL,
    FLUX_KONTEXT,
    FLUX_SCHNELL,
    ModelSpec,
    is_fake,
)
from flux_endpoint.core.controlnet import ControlNetKind, NamedControlNet
from flux_endpoint.core.inputs import reads_image_prompts
from flux_endpoint.settings.fields import PrefixedSettings, setting

# The model that comes with the package.
EMBEDDED: Final = "demo"
_MAX_IDLE_S: Final = 86_400

LogFormat = Literal["text", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]
YesOrNo = Literal["yes", "no"]
Memory = Literal["auto", "full", "offload", "low"]
_REAL_FORMS = (
    "a hub id, a folder, a file, 'transformer=... vae=... clip=... t5=... kind=...' "
    "(docs/guides/real-weights.md), or 'fake' / 'fake:<seconds per step>'"
)
_MAP_FORMS = f"{_REAL_FORMS}; a control LoRA as 'lora=FILE' behind a dev (docs/guides/control.md)"
_MODEL_FORMS = f"'demo', {_REAL_FORMS}"


class EngineSettings(PrefixedSettings):
    """Models and devices: what the gateway's own workers and those started by hand have in common."""

    model: str = setting(
        "demo",
        "Checkpoint of the Flux Dev endpoint: 'demo' (small, embedded), a hub id such as black-forest-labs/FLUX.1-dev, "
        "a folder of diffusers, ComfyUI or Black Forest Labs, a single file, or components by name.",
        _MODEL_FORMS,
        min_length=1,
    )
    schnell_model: str | None = setting(
        None,
        "Checkpoint of the Flux Schnell endpoint. When unset, that endpoint is served by the embedded model while "
        "MODEL is 'demo', and not offered otherwise.",
        _MODEL_FORMS,
        min_length=1,
    )
    kontext_model: str | None = setting(
        None,
        "Checkpoint of the Flux Kontext Dev endpoint, which changes pictures. When unset, it is not offered.",
        _REAL_FORMS,
        min_length=1,
    )
    fill_model: str | None = setting(
        None,
        "Checkpoint of the Flux Fill Dev endpoint, which completes pictures. When unset, it is not offered.",
        _REAL_FORMS,
        min_length=1,
    )
    canny_model: str | None = setting(
        None,
        "Checkpoint of the Flux Canny Dev endpoint, which draws along edges. When unset, it is not offered.",
        _MAP_FORMS,
        min_length=1,
    )
    depth_model: str | None = setting(
        None,
        "Checkpoint of the Flux Depth Dev endpoint, which draws along distances. When unset, it is not offered.",
        _MAP_FORMS,
        min_length=1,
    )
    redux_model: str | None = setting(
        None,
        "FLUX.1 Redux, such as black-forest-labs/FLUX.1-Redux-dev: with it Flux Dev and Flux Schnell read pictures as "
        "prompts. When unset, they take none.",
        "a hub id, a folder of diffusers, or 'fake'; not where MODEL is 'demo'",
        min_length=1,
    )
    controlnet_model: str | None = setting(
        None,
        "ControlNet of diffusers' layout for Flux Dev, such as 'Shakker-Labs/FLUX.1-dev-ControlNet-Union-Pro "
        "kind=union': with it Flux Dev draws along maps (docs/guides/control.md). When unset, it takes none.",
        "a hub id, a folder, or 'fake', with ' kind=union' behind it for one that reads several kinds of maps; not "
        "where MODEL is 'demo'",
        min_length=1,
    )
    device: str | None = setting(
        None,
        "Device the model runs on; when unset, CUDA where there is one, else the CPU.",
        "cpu, cuda, cuda:<number>",
        pattern=r"^(cpu|cuda(:[0-9]+)?)$",
    )
    memory: Memory = setting(
        "auto",
        "How models are kept in memory: 'full' all on the device, 'offload' without the text encoders, 'low' block by "
        "block; 'auto' takes the first that fits (docs/guides/real-weights.md).",
        "auto, full, offload, low",
    )
    lora_dir: Path | None = setting(
        None,
        "Folder of the LoRAs that requests may name (docs/guides/loras.md); on every machine with workers the same "
        "files. Default: none but those that come with the embedded model.",
        "a folder",
    )
    lora_cache_mb: int = setting(
        1024,
        "Memory for LoRAs that a worker keeps beyond those of the picture at hand, MB for each model.",
        "a whole number from 0 to 1000000",
        ge=0,
        le=1_000_000,
    )
    lora_kept_dir: Path | None = setting(
        None,
        "Folder for LoRAs that were fetched from elsewhere. Default: DATA_DIR/loras on gateways and their own workers, "
        "~/.cache/flux-endpoint/loras on others.",
        "a writable folder",
    )
    lora_kept_mb: int = setting(
        10_000,
        "Size of that folder, MB; those that were used last stay.",
        "a whole number from 1 to 1000000",
        ge=1,
        le=1_000_000,
    )
    idle_unload_s: float = setting(
        0,
        "Seconds without a picture after which a worker takes its model out of memory; the next job loads it again. 0 "
        "keeps it.",
        f"a number from 0 to {_MAX_IDLE_S}",
        ge=0,
        le=_MAX_IDLE_S,
    )
    jobs_per_worker: int = setting(
        4,
        "Pictures that a worker draws at once, step by step in turn: a short one need not wait for a long one to end "
        "(docs/concepts/life-of-a-job.md). 1 for first come, first served.",
        "a whole number from 1 to 64",
        ge=1,
        le=64,
    )
    prompts_in_files: YesOrNo = setting(
        "yes",
        "Whether prompts are written into pictures' files, beside the other parameters (docs/guides/marks.md).",
        "yes, no",
    )
    c2pa_cert: Path | None = setting(
        None,
        "Certificate, with those between it and its authority; workers sign each picture with it and C2PA_KEY "
        "(docs/guides/marks.md). Needs the extra `c2pa`.",
        "a file in PEM format",
    )
    c2pa_key: Path | None = setting(
        None, "Private key of C2PA_CERT, without a password. Workers read both files.", "a file in PEM format"
    )
    otlp_endpoint: str | None = setting(
        None,
        "Collector that is sent traces by OTLP over HTTP. Default: OpenTelemetry's own OTEL_EXPORTER_OTLP_ENDPOINT; "
        "without either, none are made (docs/guides/many-machines.md).",
        "a URL that starts with http:// or https://, such as http://127.0.0.1:4318",
        pattern=r"^https?://[^/]",
    )
    log_level: LogLevel = setting("info", "How much is logged.", "debug, info, warning, error")
    log_format: LogFormat = setting(
        "text",
        "How log lines look: 'text' for people, 'json' for programs, with the ids of job and worker in fields of their "
        "own.",
        "text, json",
    )

    @field_validator("kontext_model", "fill_model", "canny_model", "depth_model")
    @classmethod
    def _not_embedded(cls, value: str | None) -> str | None:
        if value == EMBEDDED:
            raise ValueError("the embedded model reads no pictures: name FLUX.1's own weights")
        return value

    @field_validator("controlnet_model")
    @classmethod
    def _of_a_kind(cls, value: str | None) -> str | None:
        if value is not None:
            NamedControlNet.parse(value)
        return value

    @field_validator("redux_model", "controlnet_model")
    @classmethod
    def _beside_weights(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("model") == EMBEDDED:
            raise ValueError("the embedded model reads no pictures: MODEL must name FLUX.1's own weights")
        return value

    @field_validator("log_level", "log_format", "device", "memory", "prompts_in_files", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @property
    def has_prompts_in_files(self) -> bool:
        """Whether prompts are written into files."""
        return self.prompts_in_files == "yes"

    @property
    def lora_cache_bytes(self) -> int:
        """`lora_cache_mb`, in bytes."""
        return self.lora_cache_mb * 1_000_000

    @property
    def lora_kept_bytes(self) -> int:
        """`lora_kept_mb`, in bytes."""
        return self.lora_kept_mb * 1_000_000

    @property
    def schnell_source(self) -> str | None:
        """Checkpoint of the schnell endpoint; None when it is not offered. Real weights are never replaced by demo."""
        if self.schnell_model is not None:
            return self.schnell_model
        return self.model if self.model == EMBEDDED or is_fake(self.model) else None

    @property
    def sources(self) -> dict[str, str]:
        """The checkpoint of each FLUX endpoint that is offered, by the endpoint's id."""
        given = {
            FLUX_DEV.endpoint_id: self.model,
            FLUX_SCHNELL.endpoint_id: self.schnell_source,
            FLUX_KONTEXT.endpoint_id: self.kontext_model,
            FLUX_FILL.endpoint_id: self.fill_model,
            FLUX_CANNY.endpoint_id: self.canny_model,
            FLUX_DEPTH.endpoint_id: self.depth_model,
        }
        return {endpoint_id: source for endpoint_id, source in given.items() if source is not None}

    def has_redux(self, spec: ModelSpec) -> bool:
        """Whether an endpoint that is offered reads pictures as prompts."""
        is_embedded = self.sources[spec.endpoint_id] == EMBEDDED
        return self.redux_model is not None and not is_embedded and reads_image_prompts(spec.family)

    @property
    def controlnet(self) -> NamedControlNet | None:
        """The ControlNet; None for none."""
        return None if self.controlnet_model is None else NamedControlNet.parse(self.controlnet_model)

    def controlnet_of(self, spec: ModelSpec) -> ControlNetKind | None:
        """Which ControlNet an endpoint that is offered draws with; None for none."""
        return self.controlnet.kind if self.controlnet and spec.family.takes_controlnet else None
