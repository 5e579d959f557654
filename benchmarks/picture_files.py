"""What a picture's PNG costs beside the one Pillow writes at level 1, the encoder before: CPU time and size.

    python -m benchmarks.picture_files --pictures photograph.jpg --repeats 15

The two take turns on the same pixels: three pictures of the embedded model at 1024x1024, one with the spectrum and
noise of a photograph, and files of one's own.
"""

import argparse
import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.machine import describe_machine
from flux_endpoint.core.catalog import CATALOG, FLUX_DEV
from flux_endpoint.core.generation import parse_input
from flux_endpoint.core.image_formats import PNG
from flux_endpoint.engine.encode import encode_image
from flux_endpoint.engine.factory import build_engines
from flux_endpoint.engine.parameters import picture_parameters
from flux_endpoint.engine.protocol import ModelInfo, finish

RESULTS = Path(__file__).parent / "results" / "picture_files.json"
PROMPTS = ("A serene mountain landscape at sunset", "A meadow at noon", "Stars over the sea")
SIDE_PX = 1024


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(1)
    rows = []
    print("picture                 ours ms  Pillow ms  ratio   ours kB  Pillow kB  ratio")
    for name, pixels in pictures(arguments.pictures):
        row = {"picture": name} | compare(pixels, arguments.repeats)
        rows.append(row)
        times = f"{row['ours_ms']:8.1f} {row['pillow_ms']:10.1f} {row['time_ratio']:6.3f}"
        print(f"{name:22} {times} {row['ours_kb']:9.0f} {row['pillow_kb']:10.0f} {row['size_ratio']:6.3f}")
    content = {"machine": describe_machine(("pillow", "isal")), "repeats": arguments.repeats, "rows": rows}
    RESULTS.write_text(json.dumps(content, indent=2) + "\n")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, nargs="*", default=[], help="files of one's own")
    parser.add_argument("--repeats", type=int, default=15)
    return parser.parse_args()


def pictures(files: list[Path]) -> Iterator[tuple[str, np.ndarray]]:
    engine = build_engines({FLUX_DEV.endpoint_id: "demo"}, CATALOG, device="cpu")[FLUX_DEV.endpoint_id]
    engine.load()
    for seed, prompt in enumerate(PROMPTS):
        request = parse_input({"prompt": prompt, "seed": seed, "image_format": "png"}, FLUX_DEV)
        data = finish(engine.generate(request)).data
        yield f"embedded model, {seed}", np.asarray(Image.open(io.BytesIO(data)))
    yield "like a photograph", like_a_photograph()
    for file in files:
        yield file.name, np.asarray(Image.open(file).convert("RGB"))


def like_a_photograph() -> np.ndarray:
    """Brightness that falls with the frequency as in photographs, and the noise of a sensor."""
    random = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(SIDE_PX)[:, None], np.fft.rfftfreq(SIDE_PX)[None])
    frequency[0, 0] = 1
    planes = []
    for _ in range(3):
        plane = np.fft.irfft2(np.fft.rfft2(random.standard_normal((SIDE_PX, SIDE_PX))) / frequency**1.1)
        planes.append(128 + 50 * plane / plane.std() + 2 * random.standard_normal((SIDE_PX, SIDE_PX)))
    return np.stack(planes, axis=-1).clip(0, 255).astype(np.uint8)


def compare(pixels: np.ndarray, repeats: int) -> dict[str, Any]:
    request, model = parse_input({"prompt": PROMPTS[0]}, FLUX_DEV), ModelInfo("demo", FLUX_DEV.family, "cpu")
    parameters = picture_parameters(request, model)
    encoders = {"ours": lambda: encode_image(pixels, PNG, parameters), "pillow": lambda: by_pillow(pixels)}
    times: dict[str, list[float]] = {name: [] for name in encoders}
    sizes = {}
    for _ in range(repeats):
        for name, encode in encoders.items():
            started = time.process_time()
            sizes[name] = len(encode())
            times[name].append((time.process_time() - started) * 1_000)
    return {
        "ours_ms": round(median(times["ours"]), 2),
        "pillow_ms": round(median(times["pillow"]), 2),
        "time_ratio": round(median(ours / theirs for ours, theirs in zip(*times.values(), strict=True)), 3),
        "ours_kb": round(sizes["ours"] / 1_000, 1),
        "pillow_kb": round(sizes["pillow"] / 1_000, 1),
        "size_ratio": round(sizes["ours"] / sizes["pillow"], 3),
    }


def by_pillow(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


if __name__ == "__main__":
    main()
