"""Pictures from pictures beside pictures from noise, ours and those of diffusers' pipelines, on the CPU.

Five take turns in one process, and who goes first changes: from noise, from a picture at strength .5, and with a mask;
the first two by diffusers as well. Each is drawn from the prompt, and the source's file, to JPEG bytes. At strength .5
half of the steps are left out, and the source is encoded: less than .55 of the time is the goal.

    python -m benchmarks.editing --size 1024 --rounds 5 --threads 1
"""

import argparse
import hashlib
import io
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers.utils import logging as diffusers_logging
from PIL import Image
from rich.console import Console
from rich.table import Table
from transformers.utils import logging as transformers_logging

from benchmarks.machine import describe_machine
from flux_endpoint.core.catalog import CATALOG, FLUX_DEV, ModelFamily
from flux_endpoint.core.generation import GenerationRequest
from flux_endpoint.core.image_formats import JPEG, PNG
from flux_endpoint.core.source_picture import SourcePicture
from flux_endpoint.engine.factory import build_engines, check_source
from flux_endpoint.engine.protocol import Engine, finish

RESULTS = Path(__file__).parent / "results" / "editing.json"
STRENGTH = 0.5
NOISE, EDIT, MASKED = "from noise", "from a picture", "with a mask"
THEIR_NOISE, THEIR_EDIT = "diffusers, from noise", "diffusers, from a picture"
# What is compared: the first by the second.
RATIOS = ((EDIT, NOISE), (MASKED, NOISE), (NOISE, THEIR_NOISE), (EDIT, THEIR_EDIT))


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    engine = build_engines({FLUX_DEV.endpoint_id: "demo"}, CATALOG, device="cpu")[FLUX_DEV.endpoint_id]
    engine.load()
    contenders = ours(engine, arguments) | theirs(arguments)
    for draw in contenders.values():
        draw()
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(arguments.rounds):
        names = list(contenders)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            started_s = time.process_time()
            contenders[name]()
            times[name].append(round(time.process_time() - started_s, 3))
    ratios = {f"{one} / {other}": round(median(times[one]) / median(times[other]), 3) for one, other in RATIOS}
    machine = describe_machine(("torch", "diffusers")) | {"threads": arguments.threads}
    settings = {"size_px": arguments.size, "steps": arguments.steps, "strength": STRENGTH}
    result = {"machine": machine} | settings | {"cpu_s": times, "ratios": ratios}
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")
    show(times, ratios)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1024, help="pixels of a side")
    parser.add_argument("--steps", type=int, default=28)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS)
    return parser.parse_args()


def ours(engine: Engine, arguments: argparse.Namespace) -> dict[str, Callable[[], bytes]]:
    """The engine's three, by name."""
    size = arguments.size
    request = GenerationRequest("A castle on a hill at sunset", "", size, size, arguments.steps, 3.5, 1.0, 7, JPEG)
    files: dict[str, bytes] = {}
    first = finish(engine.generate(replace(request, seed=8, image_format=PNG))).data
    image = kept(first, size, files)
    anew = np.zeros((size, size), np.uint8)
    anew[:, size // 2 :] = 255
    edit = replace(request, image=image, strength=STRENGTH)
    masked = replace(edit, mask=kept(png_of(anew), size, files))
    requests = {NOISE: request, EDIT: edit, MASKED: masked}
    return {name: lambda one=one: finish(engine.generate(one, files)).data for name, one in requests.items()}


def kept(data: bytes, size: int, files: dict[str, bytes]) -> SourcePicture:
    """As a gateway keeps it; its bytes go into `files`."""
    sha256 = hashlib.sha256(data).hexdigest()
    files[sha256] = data
    return SourcePicture(f"{sha256}.png", sha256, size, size)


def png_of(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def theirs(arguments: argparse.Namespace) -> dict[str, Callable[[], bytes]]:
    """Two of diffusers' pipelines with the same weights, by name."""
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    folder = check_source("demo", ModelFamily.DEV, device="cpu").location
    pipeline = diffusers.FluxPipeline.from_pretrained(folder, dtype=torch.float32)
    editing = diffusers.FluxImg2ImgPipeline.from_pipe(pipeline)
    source = Image.fromarray(np.random.default_rng(0).integers(0, 256, (arguments.size, arguments.size, 3), np.uint8))

    def draw(one: Any, **more: Any) -> bytes:
        one.set_progress_bar_config(disable=True)
        image = one(
            "A castle on a hill at sunset",
            width=arguments.size,
            height=arguments.size,
            num_inference_steps=arguments.steps,
            guidance_scale=3.5,
            generator=torch.Generator("cpu").manual_seed(7),
            max_sequence_length=min(FLUX_DEV.max_text_tokens, one.tokenizer_2.model_max_length),
            **more,
        ).images[0]
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=95)
        return buffer.getvalue()

    return {
        THEIR_NOISE: lambda: draw(pipeline),
        THEIR_EDIT: lambda: draw(editing, image=source, strength=STRENGTH),
    }


def show(times: dict[str, list[float]], ratios: dict[str, float]) -> None:
    table = Table("", "CPU s, median", "least", "most", title="pictures from pictures")
    for name, seconds in times.items():
        table.add_row(name, *(f"{number:.2f}" for number in (median(seconds), min(seconds), max(seconds))))
    Console().print(table)
    for name, ratio in ratios.items():
        print(f"{name}: {ratio}")


if __name__ == "__main__":
    main()
