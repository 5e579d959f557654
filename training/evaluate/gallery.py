"""The gallery of the embedded model: its twelve best pictures, small, with the inputs that draw them again.

They were chosen by the checker, which names what it sees on each, and by eye. Drawn by the server's own engine, so that
whoever sends one of these inputs gets the same picture, whole.

python -m training.evaluate.gallery src/flux_endpoint/models/demo/gallery docs/images/gallery.jpg
"""

import io
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from flux_endpoint.core.catalog import CATALOG, FLUX_DEV, FLUX_SCHNELL, ModelSpec
from flux_endpoint.core.generation import parse_input
from flux_endpoint.engine.factory import build_engines
from flux_endpoint.engine.protocol import finish
from training.checker.checker import Checker

FILE = "gallery.json"
LONGEST_SIDE = 320
QUALITY = 80
CELL = (300, 200)
COLUMNS = 4
GAP = 6


@dataclass(frozen=True, slots=True)
class Piece:
    """A picture: its name, and what is asked for."""

    name: str
    prompt: str
    seed: int
    width: int
    height: int
    negative_prompt: str = ""
    spec: ModelSpec = FLUX_DEV

    def input(self) -> dict[str, object]:
        """The whole input as a client sends it."""
        sides = {"width": self.width, "height": self.height}
        asked = {"prompt": self.prompt, "negative_prompt": self.negative_prompt, **sides, "seed": self.seed}
        request = parse_input(asked, self.spec)
        chosen = {"num_inference_steps": request.num_inference_steps, "guidance": request.guidance}
        return asked | chosen | {"image_format": request.image_format.name, "acceleration": "none"}


SUNSET = "A serene mountain landscape at sunset, golden light filtering through clouds, photorealistic"
PIECES = (
    Piece("sunset", SUNSET, 42, 1024, 1024, "blurry, low quality"),
    Piece("lake", "a lake at dawn", 1, 512, 512),
    Piece("sea", "a calm sea at night, full moon", 42, 512, 512),
    Piece("house", "a red house on a meadow", 42, 512, 512),
    Piece("lighthouse", "a lighthouse on the sea in a storm, dark clouds", 3, 768, 512),
    Piece("city", "a city skyline at night behind a river", 3, 768, 512),
    Piece("wheat", "a field of wheat on a sunny day, snowy mountains", 1, 768, 512, spec=FLUX_SCHNELL),
    Piece("road", "a straight road through a meadow on a sunny day, hills", 1, 768, 512, spec=FLUX_SCHNELL),
    Piece("winter", "snowy mountains over a forest, falling snow, winter", 2, 512, 512),
    Piece("vase", "a vase with pink flowers on a table, still life", 4, 512, 512),
    Piece("apples", "two red apples on a table", 1, 512, 512),
    Piece("heart", "a red heart on a black background", 1, 512, 512),
)


def draw_gallery(folder: Path) -> None:
    """Draw every piece, print what the checker sees on it, and write the small pictures and `gallery.json`."""
    engines = build_engines({spec.endpoint_id: "demo" for spec in (FLUX_DEV, FLUX_SCHNELL)}, CATALOG)
    checker, entries = Checker.load(), []
    folder.mkdir(exist_ok=True)
    for engine in engines.values():
        engine.load()
    for piece in PIECES:
        request = parse_input(piece.input(), piece.spec)
        done = finish(engines[piece.spec.endpoint_id].generate(request))
        if done.warnings:
            raise ValueError(f"{piece.name}: {done.warnings}")
        picture = Image.open(io.BytesIO(done.data)).convert("RGB")
        [verdict] = checker.judge([np.asarray(picture)])
        print(piece.name, dict(verdict.seen), [shape.shape for shape in verdict.shapes], verdict.has_one_horizon)
        picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
        picture.save(folder / f"{piece.name}.webp", quality=QUALITY, method=6)
        entries.append({"picture": f"{piece.name}.webp", "endpoint": piece.spec.endpoint_id, "input": piece.input()})
    (folder / FILE).write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")


def draw_sheet(folder: Path, file: Path) -> None:
    """All of a gallery in one picture, in its order, each cut to one shape."""
    entries = json.loads((folder / FILE).read_text(encoding="utf-8"))
    rows, (width, height) = -(-len(entries) // COLUMNS), CELL
    sheet = Image.new("RGB", (COLUMNS * (width + GAP) - GAP, rows * (height + GAP) - GAP), "white")
    for index, entry in enumerate(entries):
        place = (index % COLUMNS * (width + GAP), index // COLUMNS * (height + GAP))
        sheet.paste(ImageOps.fit(Image.open(folder / entry["picture"]), CELL, Image.Resampling.LANCZOS), place)
    sheet.save(file, quality=85, optimize=True)


if __name__ == "__main__":
    draw_gallery(Path(sys.argv[1]))
    draw_sheet(Path(sys.argv[1]), Path(sys.argv[2]))
