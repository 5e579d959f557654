"""Stage 9: score an exported model on held-out captions, its negative prompts, and draw the contact sheet."""

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from diffusers import FluxPipeline
from PIL import Image
from tqdm import tqdm

from training.checker.checker import Checker
from training.config import Config, EvaluationConfig
from training.evaluate.sampling import load_pipeline, sample
from training.evaluate.scoring import Scores, held_out_captions, markdown_table, score
from training.world.render import render
from training.world.scenes import sample_scene

# Prompts, seeds and size to pictures, as `sample` makes them.
Draw = Callable[[Sequence[str], Sequence[int], tuple[int, int]], list[np.ndarray]]

TRUE_CFG_SCALE = 3.0  # How strongly a negative prompt pushes: the default of the endpoint.
RENDERS = "renders"
REFERENCE_PROMPT = "A serene mountain landscape at sunset, golden light filtering through clouds, photorealistic"
CONTACT_PROMPTS = (
    REFERENCE_PROMPT,
    "a calm lake below snowy mountains at dawn",
    "a red house on a green meadow, blue sky",
    "a lighthouse by the sea in a storm, lightning",
    "a pine forest in front of mountains at night, full moon",
    "a white sailboat on the sea at sunset, the sun",
    "an orange cat in a meadow on a sunny day",
    "a castle in an autumn forest, watercolour",
    "three hot air balloons over a desert at dawn",
    "a waterfall above a lake with a rainbow",
    "two blue circles left of an orange triangle on a white background",
    "a red apple on a wooden table",
)
# Subject to ask away, and the attribute and values that show it is still there.
NEGATIVES = {
    "night": ("time", ("night",)),
    "sunset": ("time", ("sunset",)),
    "storm": ("time", ("storm",)),
    "mountains": ("background", ("mountains", "snowy_mountains")),
    "lake": ("ground", ("lake",)),
}


def contact_sheet(pipeline: FluxPipeline, path: Path, sides: Sequence[int] = (256, 512, 1024), cell: int = 208) -> None:
    """The contact prompts at three sizes, one row per size, thumbnails of `cell` pixels."""
    rows = []
    for side in sides:
        pictures = sample(pipeline, CONTACT_PROMPTS, [42] * len(CONTACT_PROMPTS), (side, side))
        small = [cv2.resize(p, (cell, cell), interpolation=cv2.INTER_AREA) for p in pictures]
        rows += [np.concatenate(small[:6], axis=1), np.concatenate(small[6:], axis=1)]
    Image.fromarray(np.concatenate(rows)).save(path, quality=85)


def negative_effect(pipeline: FluxPipeline, checker: Checker, count: int) -> dict[str, tuple[int, int]]:
    """How many of `count` pictures of "a landscape" show a subject: {subject: (without, with it as negative)}."""
    prompts, seeds = ["a landscape"] * count, range(count)
    plain = checker.judge(sample(pipeline, prompts, seeds, (256, 256)))
    result = {}
    for subject, (attribute, values) in NEGATIVES.items():
        shown = [number for number, verdict in enumerate(plain) if verdict.seen[attribute] in values]
        left = 0
        if shown:
            pictures = sample(
                pipeline, prompts[: len(shown)], shown, (256, 256), negative=subject, true_cfg=TRUE_CFG_SCALE
            )
            left = sum(verdict.seen[attribute] in values for verdict in checker.judge(pictures))
        result[subject] = (len(shown), left)
    return result


def score_renders(checker: Checker, count: int) -> Scores:
    """The checker on true pictures of the same captions: what a perfect model would reach.

    A render may show a thing that its caption does not ask for; those captions are rendered without it.
    """
    asked = held_out_captions(count)
    pictures = [render(scene, 256, 256) for scene, _ in asked]
    return score(asked, checker.judge(pictures))


def score_model(
    draw: Draw, checker: Checker, count: int, sizes: Sequence[tuple[int, int]], label: str
) -> dict[str, Scores]:
    """Scores per size, under keys such as "baseline, 512 x 512"; seeds are the captions' numbers."""
    asked, result = held_out_captions(count), {}
    for size in sizes:
        verdicts = []
        for start in tqdm(range(0, count, 4), desc=f"{label} {size[0]}x{size[1]}", mininterval=10):
            some = range(start, min(start + 4, count))
            verdicts += checker.judge(draw([asked[n][1].text for n in some], some, size))
        result[f"{label}, {size[0]} x {size[1]}"] = score(asked, verdicts)
        print(markdown_table(result), flush=True)
    return result


def checker_errors(checker: Checker, count: int, first_seed: int = 820_000_000) -> dict[str, Any]:
    """How often the checker is right about fresh renders, and what it mixes up most, per attribute."""
    scenes = [s for s in (sample_scene(first_seed + i) for i in range(2 * count)) if s.kind != "shape"][:count]
    verdicts = checker.judge([render(scene, 256, 256) for scene in scenes])
    report = {}
    for name in verdicts[0].seen:
        pairs = [
            (getattr(s, name), v.seen[name]) for s, v in zip(scenes, verdicts, strict=True) if s.labels()[name] >= 0
        ]
        wrong = [f"{true} seen as {seen}" for true, seen in pairs if true != seen]
        worst = sorted(set(wrong), key=wrong.count, reverse=True)[:3]
        report[name] = {
            "right": 1 - len(wrong) / len(pairs),
            "worst": [f"{text} ({wrong.count(text)})" for text in worst],
        }
    return report


def report_on(
    pipeline: FluxPipeline, checker: Checker, label: str, asked: EvaluationConfig, draw: Draw
) -> dict[str, Any]:
    """Everything the README says about a model, ready for JSON; `draw` makes the pictures of the captions."""
    rows = {RENDERS: score_renders(checker, asked.captions)}
    rows |= score_model(draw, checker, asked.captions, asked.sizes, label)
    negative = negative_effect(pipeline, checker, asked.negatives) if asked.negatives else {}
    report = {"scores": rows, "negative": negative, "checker": checker_errors(checker, asked.captions)}
    print(json.dumps({name: report[name] for name in ("negative", "checker")}, indent=2))
    return report


def evaluate(config: Config) -> None:
    """Score the exported model; writes scores and contact sheet to the work folder."""
    pipeline, checker = load_pipeline(config.output_dir), Checker.load(config.checker.file)
    sides = sorted({min(size) for size in config.evaluation.sizes if size[0] == size[1]})
    contact_sheet(pipeline, config.work_dir / "contact-sheet.jpg", sides)
    report = report_on(pipeline, checker, "model", config.evaluation, partial(sample, pipeline))
    (config.work_dir / "scores.json").write_text(json.dumps(report, indent=2))
