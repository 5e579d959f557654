"""How far the speed levels are from the exact picture, on captions that the embedded model was not trained on.

    python -m benchmarks.fidelity --size 512 --steps 28 --captions 12

PSNR and SSIM of each level, and the largest difference of one colour of one pixel, of 255.
"""

import argparse
import io
import json
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
from flux_endpoint.engine.protocol import Engine

RESULTS = Path(__file__).parent / "results" / "fidelity.json"
# Written for this benchmark: none is a caption of `training/`.
CAPTIONS = (
    "A calm lake below mountains at sunset, soft light",
    "A meadow on a sunny day, hardly a cloud",
    "The sea under a full moon, far from any shore",
    "Dunes of a desert at noon, a caravan far away",
    "A wheat field in the early morning mist",
    "A pine forest in front of snowy peaks on a bright day",
    "Two red boats on a river while a storm comes up",
    "A road into a foggy city",
    "A blue circle above three yellow squares",
    "A green car in front of a white house",
    "Four apples on a wooden table",
    "A white horse on the beach, oil painting",
)


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(1)
    engine = build_engines({FLUX_DEV.endpoint_id: arguments.model}, CATALOG, device="cpu")[FLUX_DEV.endpoint_id]
    engine.load()
    measures: dict[str, list[dict[str, float]]] = {Acceleration.REGULAR: [], Acceleration.HIGH: []}
    for seed, caption in enumerate(CAPTIONS[: arguments.captions]):
        fields = {"prompt": caption, "seed": seed, "width": arguments.size, "height": arguments.size}
        fields |= {"num_inference_steps": arguments.steps, "image_format": "png"}
        exact = draw(engine, fields, Acceleration.NONE)
        for level, rows in measures.items():
            rows.append(compare(draw(engine, fields, Acceleration(level)), exact))
    levels = {level: summary(rows) for level, rows in measures.items()}
    for level, row in levels.items():
        print(level, json.dumps(row))
    machine = describe_machine(("torch", "diffusers"))
    chosen = {"model": arguments.model, "size_px": arguments.size, "steps": arguments.steps}
    content = {"machine": machine} | chosen | {"captions": arguments.captions, "levels": levels}
    RESULTS.write_text(json.dumps(content, indent=2) + "\n")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--steps", type=int, default=28)
    parser.add_argument("--captions", type=int, default=len(CAPTIONS), help=f"how many, at most {len(CAPTIONS)}")
    parser.add_argument("--model", default="demo")
    return parser.parse_args()


def draw(engine: Engine, fields: dict[str, Any], level: Acceleration) -> np.ndarray:
    generator = engine.generate(parse_input(fields | {"acceleration": level.value}, FLUX_DEV))
    while True:
        try:
            next(generator)
        except StopIteration as done:
            assert done.value.acceleration is level
            return np.asarray(Image.open(io.BytesIO(done.value.data))).astype(float)


def compare(picture: np.ndarray, exact: np.ndarray) -> dict[str, float]:
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
