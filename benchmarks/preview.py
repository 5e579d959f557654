"""What a preview costs beside the step it belongs to, and once at the first preview of a process.

Every step of some pictures is timed, and the preview of each; a worker sends one preview in 0.4 s, so that most steps
have none. CPU time, because a busy neighbour changes it less.

    python -m benchmarks.preview --size 1024 --pictures 3 --threads 1 --save-to build/previews
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import TypeVar

import torch

from benchmarks.machine import describe_machine
from flux_endpoint.core.catalog import CATALOG, FLUX_DEV
from flux_endpoint.core.generation import GenerationRequest
from flux_endpoint.core.image_formats import PNG
from flux_endpoint.engine.factory import build_engines
from flux_endpoint.engine.protocol import Engine, finish

T = TypeVar("T")
RESULTS = Path(__file__).parent / "results" / "preview.json"
PROMPTS = (
    "A serene mountain landscape at sunset, with a house by the lake",
    "A red boat on a blue sea at noon",
    "A snowy forest at night with a full moon",
)
# How often a worker sends one, seconds.
PERIOD_S = 0.4


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    engine = build_engines({FLUX_DEV.endpoint_id: arguments.model}, CATALOG)[FLUX_DEV.endpoint_id]
    engine.load()
    steps_s: list[float] = []
    previews_s: list[float] = []
    sizes_bytes: list[int] = []
    for number in range(arguments.pictures):
        for prompt in PROMPTS:
            folder = arguments.save_to / f"{PROMPTS.index(prompt)}-{number}" if arguments.save_to else None
            draw(engine, prompt, arguments, folder, steps_s, previews_s, sizes_bytes)
    first_s, previews_s = previews_s[0], previews_s[1:]
    result = {
        "machine": describe_machine(("torch", "diffusers", "pillow")) | {"threads": arguments.threads},
        "model": arguments.model,
        "size_px": arguments.size,
        "step_ms": round(median(steps_s) * 1_000, 2),
        "preview_ms": round(median(previews_s) * 1_000, 3),
        "preview_ms_range": [round(edge * 1_000, 3) for edge in (min(previews_s), max(previews_s))],
        "first_preview_ms": round(first_s * 1_000, 1),
        "share_of_a_step_with_preview": round(median(previews_s) / median(steps_s), 4),
        "share_of_the_time": round(median(previews_s) / max(PERIOD_S, median(steps_s)), 4),
        "preview_bytes": round(median(sizes_bytes)),
    }
    for name, value in result.items():
        print(f"{name:30} {value}")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1024, help="pixels of a side")
    parser.add_argument("--steps", type=int, default=28)
    parser.add_argument("--pictures", type=int, default=3, help="of each of three prompts")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--model", default="demo", help="as in FLUX_ENDPOINT_MODEL")
    parser.add_argument("--save-to", type=Path, help="folder for the previews and pictures, to look at")
    return parser.parse_args()


def draw(
    engine: Engine,
    prompt: str,
    arguments: argparse.Namespace,
    folder: Path | None,
    steps_s: list[float],
    previews_s: list[float],
    sizes_bytes: list[int],
) -> None:
    """Draw one picture with a preview of every step."""
    size, seed = arguments.size, len(steps_s)
    request = GenerationRequest(prompt, "", size, size, arguments.steps, 7.5, 1.0, seed, PNG)
    generator = engine.generate(request)
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
    next(generator)  # the prompt
    for _ in range(arguments.steps):
        step, step_s = timed(lambda: next(generator))
        steps_s.append(step_s)
        data, preview_s = timed(step.preview)
        previews_s.append(preview_s)
        sizes_bytes.append(len(data))
        if folder:
            (folder / f"step-{step.step:02}.jpg").write_bytes(data)
    data = finish(generator).data
    if folder:
        (folder / "picture.png").write_bytes(data)


def timed(work: Callable[[], T]) -> tuple[T, float]:
    start = time.process_time()
    return work(), time.process_time() - start


if __name__ == "__main__":
    main()
