"""The one configuration file, read into typed records."""

import tomllib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class AutoencoderConfig:
    """Stage 1; see the comments in `demo.toml` for units."""

    minutes: float
    decoder_only_from: float
    batch: int
    muon_lr: float
    adam_lr: float
    renders_256: int
    renders_512: int
    renders_1024: int


@dataclass(frozen=True, slots=True)
class TextConfig:
    """Stage 2."""

    steps: int
    batch: int
    lr: float
    report_captions: int  # fresh ones that are read at the end, to tell how well


@dataclass(frozen=True, slots=True)
class Bucket:
    """Picture sizes that share a number of pictures each and a share of the training steps together."""

    sizes: tuple[tuple[int, int], ...]
    pictures: int
    share: float


@dataclass(frozen=True, slots=True)
class FlowConfig:
    """Stages 3 and 4."""

    first_scene: int
    minutes: float
    tokens_per_step: int
    muon_lr: float
    adam_lr: float
    warm_up: float
    decay_from: float
    caption_dropout: float
    guidance_from: float
    guidance_share: float
    shape_weight: float
    subject_weight: float
    detail_share: float
    plan_share: float
    ema: float
    buckets: tuple[Bucket, ...]


@dataclass(frozen=True, slots=True)
class DistilConfig:
    """Stage 5."""

    minutes: float
    tokens_per_step: int
    muon_lr: float
    adam_lr: float
    ema: float


@dataclass(frozen=True, slots=True)
class StudentConfig(DistilConfig):
    """Stage 6."""

    substeps: int


@dataclass(frozen=True, slots=True)
class CheckerConfig:
    """Stage 8."""

    file: Path
    scenes: int
    variants: int
    epochs: int


@dataclass(frozen=True, slots=True)
class EvaluationConfig:
    """Stage 9."""

    captions: int
    negatives: int
    sizes: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Config:
    """Everything a training run depends on."""

    seed: int
    work_dir: Path
    output_dir: Path
    start_from: Path | None  # An exported model to begin with; None begins from nothing.
    processes: int
    loaders: int
    checkpoint_s: float
    ae: AutoencoderConfig
    text: TextConfig
    flow: FlowConfig
    guidance: DistilConfig
    student: StudentConfig
    checker: CheckerConfig
    evaluation: EvaluationConfig


def _sizes(pairs: list[list[int]]) -> tuple[tuple[int, int], ...]:
    return tuple((width, height) for width, height in pairs)


def load_config(path: Path, work_dir: Path | None = None, output_dir: Path | None = None) -> Config:
    """Read a configuration file.

    Args:
        path: a TOML file such as `demo.toml`.
        work_dir: overrides the folder for renders, latents and checkpoints.
        output_dir: overrides the folder for the finished model.
    """
    raw = tomllib.loads(path.read_text())
    flow = raw.pop("flow")
    buckets = tuple(
        Bucket(sizes=_sizes(entry["sizes"]), pictures=entry["pictures"], share=entry["share"])
        for entry in flow.pop("buckets")
    )
    work_dir = work_dir or Path(raw["work_dir"])
    checker_file = Path(raw["checker"]["file"]) if raw["checker"]["file"] else work_dir / "checker.safetensors"
    return Config(
        seed=raw["seed"],
        work_dir=work_dir,
        output_dir=output_dir or Path(raw["output_dir"]),
        start_from=Path(raw["start_from"]) if raw.get("start_from") else None,
        processes=raw["processes"],
        loaders=raw["loaders"],
        checkpoint_s=raw["checkpoint_s"],
        ae=AutoencoderConfig(**raw["ae"]),
        text=TextConfig(**raw["text"]),
        flow=FlowConfig(**flow, buckets=buckets),
        guidance=DistilConfig(**raw["guidance"]),
        student=StudentConfig(**raw["student"]),
        checker=CheckerConfig(**raw["checker"] | {"file": checker_file}),
        evaluation=EvaluationConfig(**raw["evaluation"] | {"sizes": _sizes(raw["evaluation"]["sizes"])}),
    )
