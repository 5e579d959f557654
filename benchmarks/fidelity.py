"""How far the speed levels are from the exact picture, on captions that the embedded model was not trained on.

    python -m benchmarks.fidelity --size 256 --steps 28 --captions 200

PSNR and SSIM of each level, the largest difference of one colour of one pixel, of 255, and the share of questions that
the checker of `training/` answers as the caption says. Beside them level `none` from other noise: what a level changes
means nothing where chance changes more.
"""

import argparse
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from benchmarks.machine import describe_machine
from flux_endpoint.core.acceleration import Acceleration
from flux_endpoint.core.catalog import CATALOG, FLUX_DEV
from flux_endpoint.core.generation import parse_input
from flux_endpoint.engine.factory import build_engines
from flux_endpoint.engine.protocol import Engine, finish
from training.checker.checker import Checker, Verdict
from training.evaluate.scoring import held_out_captions, score
from training.world.captions import Caption
from training.world.scenes import Scene

RESULTS = Path(__file__).parent / "results" / "fidelity.json"
# A line of the results that is no level: level `none` from other noise, so that it shows what chance alone changes.
_OTHER_SEED = "none, other seed"
_SEEDS_APART = 1_000_000
_SAVED_EVERY = 20


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(1)
    engine = build_engines({FLUX_DEV.endpoint_id: arguments.model}, CATALOG, device="cpu")[FLUX_DEV.endpoint_id]
    engine.load()
    checker = Checker.load()
    asked = held_out_captions(arguments.captions)
    verdicts: dict[str, list[Verdict]] = {name: [] for name in (*Acceleration, _OTHER_SEED)}
    measures: dict[str, list[dict[str, float]]] = {name: [] for name in verdicts if name != Acceleration.NONE}
    for seed, (_, caption) in enumerate(asked):
        fields = {"prompt": caption.text, "seed": seed, "width": arguments.size, "height": arguments.size}
        fields |= {"num_inference_steps": arguments.steps, "image_format": "png"}
        pictures = {level.value: draw(engine, fields, level) for level in Acceleration}
        pictures[_OTHER_SEED] = draw(engine, fields | {"seed": seed + _SEEDS_APART}, Acceleration.NONE)
        for name, rows in measures.items():
            rows.append(compare(pictures[name], pictures[Acceleration.NONE]))
        for name, verdict in zip(pictures, checker.judge(list(pictures.values())), strict=True):
            verdicts[name].append(verdict)
        if (seed + 1) % _SAVED_EVERY == 0 or seed + 1 == len(asked):
            save(arguments, asked[: seed + 1], measures, verdicts)


def save(
    arguments: argparse.Namespace,
    asked: Sequence[tuple[Scene, Caption]],
    measures: Mapping[str, list[dict[str, float]]],
    verdicts: Mapping[str, Sequence[Verdict]],
) -> None:
    """Write what has been measured so far."""
    levels: dict[str, dict[str, float]] = {}
    for name, seen in verdicts.items():
        hits, total = (sum(numbers) for numbers in zip(*score(asked, seen).values(), strict=True))
        levels[name] = summary(measures[name]) if name in measures else {}
        levels[name] |= {"checker_score": round(hits / total, 4), "checker_questions": total}
    machine = describe_machine(("torch", "diffusers"))
    chosen = {"model": arguments.model, "size_px": arguments.size, "steps": arguments.steps}
    content = {"machine": machine} | chosen | {"captions": len(asked), "levels": levels}
    content["psnr_db"] = {name: sorted(round(row["psnr_db"], 1) for row in rows) for name, rows in measures.items()}
    RESULTS.write_text(json.dumps(content, indent=2) + "\n")
    print(len(asked), "captions", json.dumps(levels), flush=True)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=28)
    parser.add_argument("--captions", type=int, default=200)
    parser.add_argument("--model", default="demo")
    return parser.parse_args()


def draw(engine: Engine, fields: dict[str, Any], level: Acceleration) -> np.ndarray:
    image = finish(engine.generate(parse_input(fields | {"acceleration": level.value}, FLUX_DEV)))
    assert image.acceleration is level
    return np.asarray(Image.open(io.BytesIO(image.data)))


def compare(picture: np.ndarray, exact: np.ndarray) -> dict[str, float]:
    """Distances of 8-bit pictures."""
    picture, exact = picture.astype(float), exact.astype(float)
    mean_square = max(1e-9, float(((picture - exact) ** 2).mean()))
    return {
        "psnr_db": 10 * float(np.log10(255**2 / mean_square)),
        "ssim": ssim(picture, exact),
        "most_off": float(np.abs(picture - exact).max()),
    }


def ssim(first: np.ndarray, second: np.ndarray) -> float:
    """Structural similarity: means over windows of 8 x 8 pixels, constants as published, 1 for equal pictures."""
    a, b = (torch.from_numpy(picture).permute(2, 0, 1)[None] for picture in (first, second))

    def mean(numbers: torch.Tensor) -> torch.Tensor:
        return functional.avg_pool2d(numbers, 8, stride=4)

    mean_a, mean_b = mean(a), mean(b)
    variances = mean(a * a) - mean_a**2 + mean(b * b) - mean_b**2
    covariance = mean(a * b) - mean_a * mean_b
    small, large = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    similarity = (2 * mean_a * mean_b + small) * (2 * covariance + large)
    return float((similarity / ((mean_a**2 + mean_b**2 + small) * (variances + large))).mean())


def summary(rows: list[dict[str, float]]) -> dict[str, float]:
    decibels, similarities = ([row[name] for row in rows] for name in ("psnr_db", "ssim"))
    return {
        "psnr_db_median": round(median(decibels), 1),
        "psnr_db_worst": round(min(decibels), 1),
        "ssim_worst": round(min(similarities), 4),
        "most_off": max(row["most_off"] for row in rows),
    }


if __name__ == "__main__":
    main()
