"""Stage 6: score the exported model on held-out captions and draw the contact sheet.

Everything goes through the stock `FluxPipeline`, one pass per step with the guidance input, as the server samples.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from diffusers import FluxPipeline
from PIL import Image
from tqdm import tqdm

from training.captions import Caption, write_caption
from training.checker import Checker, Verdict, share_of_stacked_passing
from training.config import Config
from training.flow import DEFAULT_GUIDANCE
from training.parallel import launch
from training.render import render
from training.scenes import GROUNDS, TIMES, Scene, sample_scene

EVALUATION_SEEDS = 800_000_000
STEPS = 28
T5_LENGTH = 64
TRUE_CFG_SCALE = 2.0  # How strongly a negative prompt pushes.
SIDES = (256, 512, 1024)
REFERENCE_PROMPT = "A serene mountain landscape at sunset, golden light filtering through clouds, photorealistic"
CONTACT_PROMPTS = (
    REFERENCE_PROMPT,
    "a calm lake below snowy mountains at dawn",
    "a beach on a sunny day, a few clouds",
    "a pine forest in front of mountains at night, full moon",
    "desert dunes at sunset",
    "a red house on a green meadow, blue sky",
    "a white sailboat on the sea at sunset, the sun",
    "a snowy mountain landscape at night, starry sky",
    "a wheat field with rolling hills in the morning",
    "a hot air balloon over a lake at noon",
)


@dataclass(frozen=True, slots=True)
class Scores:
    """Shares in 0..1 over `count` pictures of one size."""

    label: str
    count: int
    time: float
    ground: float
    one_horizon: float
    background: float
    thing: float


def held_out_captions(count: int, first_seed: int = EVALUATION_SEEDS) -> list[tuple[Scene, Caption]]:
    """The first `count` captions of unseen scenes that name both time of day and ground."""
    rng = np.random.default_rng(first_seed)
    found: list[tuple[Scene, Caption]] = []
    seed = first_seed
    while len(found) < count:
        scene = sample_scene(seed)
        caption = write_caption(scene, rng)
        seed += 1
        if {"time", "ground"} <= caption.named.keys():
            found.append((scene, caption))
    return found


def load_pipeline(folder: Path) -> FluxPipeline:
    """The exported model in float32 on one thread's terms, without a progress bar."""
    pipeline = FluxPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def sample(
    pipeline: FluxPipeline,
    prompts: Sequence[str],
    seeds: Sequence[int],
    size: tuple[int, int],
    steps: int = STEPS,
    guidance: float = DEFAULT_GUIDANCE,
    negative: str | None = None,
    true_cfg: float = 1.0,
) -> list[np.ndarray]:
    """Make one picture per prompt and seed: (height, width, 3) uint8 each."""
    width, height = size
    batch = max(512 * 512 // (width * height), 1) * 2
    pictures: list[np.ndarray] = []
    for start in range(0, len(prompts), batch):
        some = list(prompts[start : start + batch])
        images = pipeline(
            prompt=some,
            negative_prompt=None if negative is None else [negative] * len(some),
            true_cfg_scale=true_cfg,
            width=width,
            height=height,
            num_inference_steps=steps,
            guidance_scale=guidance,
            max_sequence_length=T5_LENGTH,
            generator=[torch.Generator().manual_seed(s) for s in seeds[start : start + batch]],
        ).images
        pictures += [np.asarray(image) for image in images]
    return pictures


def _share(hits: list[bool]) -> float:
    return float(np.mean(hits)) if hits else float("nan")


def score(label: str, asked: Sequence[tuple[Scene, Caption]], verdicts: Sequence[Verdict]) -> Scores:
    """Compare what captions name with what the checker sees; attributes that a caption leaves out do not count."""
    pairs = [(scene, caption.named, verdict) for (scene, caption), verdict in zip(asked, verdicts, strict=True)]
    return Scores(
        label=label,
        count=len(pairs),
        time=_share([v.time == s.time for s, named, v in pairs if "time" in named]),
        ground=_share([v.ground == s.ground for s, named, v in pairs if "ground" in named]),
        one_horizon=_share([v.has_one_horizon for _, _, v in pairs]),
        background=_share([v.background == s.background for s, named, v in pairs if "background" in named]),
        thing=_share([v.thing == s.thing for s, named, v in pairs if "thing" in named]),
    )


def score_renders(checker: Checker, asked: Sequence[tuple[Scene, Caption]]) -> Scores:
    """The checker on true pictures of the same captions: what a perfect model would reach."""
    return score("true renders", asked, checker.judge([render(scene, 256, 256) for scene, _ in asked]))


def negative_effect(pipeline: FluxPipeline, checker: Checker, count: int = 32) -> dict[str, tuple[int, int]]:
    """How many of `count` pictures of "a landscape" show an hour: {hour: (without, with it as negative prompt)}."""
    prompts, seeds = ["a landscape"] * count, range(count)
    plain = [verdict.time for verdict in checker.judge(sample(pipeline, prompts, seeds, (256, 256)))]
    result = {}
    for time in TIMES:
        pictures = sample(pipeline, prompts, seeds, (256, 256), negative=time, true_cfg=TRUE_CFG_SCALE)
        steered = [verdict.time for verdict in checker.judge(pictures)]
        result[time] = (plain.count(time), steered.count(time))
    return result


def confusion(asked: Sequence[tuple[Scene, Caption]], verdicts: Sequence[Verdict]) -> str:
    """Per-class hit rates, to see which words the model mixes up."""
    lines = []
    for name, values in (("time", TIMES), ("ground", GROUNDS)):
        for value in values:
            seen = [getattr(v, name) for (s, _), v in zip(asked, verdicts, strict=True) if getattr(s, name) == value]
            counts = {other: seen.count(other) for other in values if other in seen}
            lines.append(f"{name} {value}: {counts}")
    return "\n".join(lines)


def contact_sheet(pipeline: FluxPipeline, path: Path) -> None:
    """Ten prompts at three sizes, one row per size, thumbnails of 224 px."""
    rows = []
    for side in SIDES:
        pictures = sample(pipeline, CONTACT_PROMPTS, [42] * len(CONTACT_PROMPTS), (side, side))
        rows.append(np.concatenate([cv2.resize(p, (224, 224), interpolation=cv2.INTER_AREA) for p in pictures], axis=1))
    Image.fromarray(np.concatenate(rows)).save(path, quality=85)


def markdown_table(rows: Sequence[Scores]) -> str:
    """The score table as it stands in `README.md`."""
    lines = [
        "| pictures | count | time of day | ground | one horizon | background | thing |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        values = " | ".join(
            f"{value:.2f}" for value in (row.time, row.ground, row.one_horizon, row.background, row.thing)
        )
        lines.append(f"| {row.label} | {row.count} | {values} |")
    return "\n".join(lines)


def _verdicts_path(config: Config, rank: int) -> Path:
    return config.work_dir / f"verdicts-{rank}.json"


def _judge_worker(rank: int, config: Config, folder: Path, count: int, sides: Sequence[int]) -> None:
    """Draw and judge every n-th caption at every size; the verdicts go to a file, by side and caption number."""
    pipeline, checker = load_pipeline(folder), Checker.load()
    asked = held_out_captions(count)
    found: dict[int, dict[int, dict[str, object]]] = {side: {} for side in sides}
    numbers = range(rank, count, config.processes)
    for side in sides:
        for start in tqdm(range(0, len(numbers), 4), desc=f"{side} px", mininterval=5, disable=rank != 0):
            some = numbers[start : start + 4]
            pictures = sample(pipeline, [asked[n][1].text for n in some], some, (side, side))
            found[side] |= {n: asdict(verdict) for n, verdict in zip(some, checker.judge(pictures), strict=True)}
    _verdicts_path(config, rank).write_text(json.dumps(found))


def _collect_verdicts(config: Config, side: int, count: int) -> list[Verdict]:
    merged: dict[str, dict[str, Any]] = {}
    for rank in range(config.processes):
        merged |= json.loads(_verdicts_path(config, rank).read_text())[str(side)]
    return [Verdict(**merged[str(number)]) for number in range(count)]


def evaluate(
    config: Config, folder: Path | None = None, count: int = 200, sides: Sequence[int] = SIDES
) -> list[Scores]:
    """Score the model in `folder`, print the table, and write it with the contact sheet to the work folder."""
    folder = folder or config.output_dir
    config.work_dir.mkdir(parents=True, exist_ok=True)
    pipeline, checker, asked = load_pipeline(folder), Checker.load(), held_out_captions(count)
    contact_sheet(pipeline, config.work_dir / "contact-sheet.jpg")
    launch(_judge_worker, config.processes, 29614, config, folder, count, sides)
    rows = [score_renders(checker, asked)]
    for side in sides:
        verdicts = _collect_verdicts(config, side, count)
        rows.append(score(f"{side} x {side}", asked, verdicts))
        print(confusion(asked, verdicts))
    negative = negative_effect(pipeline, checker)
    stacked = share_of_stacked_passing(checker)
    report = {
        "scores": [asdict(row) for row in rows],
        "hours_of_32_landscapes_without_and_with_negative": negative,
        "stacked_renders_passing": stacked,
    }
    (config.work_dir / "scores.json").write_text(json.dumps(report, indent=2))
    print(markdown_table(rows))
    print(f"hours of 32 landscapes, without and with that hour as negative prompt: {negative}")
    print(f"stacked renders passing as one horizon: {stacked:.2f}")
    return rows
