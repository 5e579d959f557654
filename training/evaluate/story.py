"""Draw the pictures of docs/concepts/embedded-model.md.

python -m training.evaluate.story --model src/flux_endpoint/models/demo --out docs/images
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from diffusers import FluxPipeline
from PIL import Image

from training.ae.train import to_pixels
from training.evaluate.report import CONTACT_PROMPTS
from training.evaluate.sampling import load_pipeline, sample
from training.world.render import render
from training.world.scenes import STYLES, Scene, sample_scene

FIRST_SCENE = 840_000_000  # Neither trained on nor scored.
SEED = 42


def sheet(pictures: Sequence[np.ndarray], columns: int, cell: int) -> Image.Image:
    """Square uint8 pictures in rows of `columns`, each `cell` pixels wide."""
    cells = [cv2.resize(p, (cell, cell), interpolation=cv2.INTER_AREA) for p in pictures]
    rows = [np.concatenate(cells[i : i + columns], axis=1) for i in range(0, len(cells), columns)]
    return Image.fromarray(np.concatenate(rows))


def _subject(scene: Scene) -> str:
    return scene.thing if scene.thing != "none" else scene.background


def different_scenes(count: int) -> list[Scene]:
    """The first scenes that all show another thing, or another horizon where they show none."""
    found: dict[str, Scene] = {}
    seed = FIRST_SCENE
    while len(found) < count:
        scene = sample_scene(seed)
        if scene.kind == "scene" and _subject(scene) != "none":
            found.setdefault(_subject(scene), scene)
        seed += 1
    return list(found.values())


def styles_of_one_scene() -> list[Scene]:
    """A castle in the light of day in every style."""
    seeds = range(FIRST_SCENE, FIRST_SCENE + 100_000)
    castle = next(s for s in map(sample_scene, seeds) if s.thing == "castle" and s.time == "day" and s.light == "sun")
    return [replace(castle, style=style) for style in STYLES]


@torch.no_grad()
def through_autoencoder(pipeline: FluxPipeline, pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Pictures of one size, encoded and decoded."""
    latents = pipeline.vae.encode(to_pixels(np.stack(pictures), torch.device("cpu"))).latent_dist.mode()
    images = pipeline.image_processor.postprocess(pipeline.vae.decode(latents).sample)
    return [np.asarray(image) for image in images]


def main() -> None:
    """Parse the command line and write the four files."""
    parser = argparse.ArgumentParser(prog="python -m training.evaluate.story", description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=Path("src/flux_endpoint/models/demo"))
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    arguments = parser.parse_args()
    pipeline = load_pipeline(arguments.model)
    scenes, compared = different_scenes(16), []
    for side in (256, 512):
        renders = [render(scene, side, side) for scene in scenes[:8]]
        compared += [*renders, *through_autoencoder(pipeline, renders)]
    drawn = sample(pipeline, CONTACT_PROMPTS, [SEED] * len(CONTACT_PROMPTS), (512, 512))
    sheets = {
        "renders": sheet([render(scene, 384, 384) for scene in scenes], columns=8, cell=192),
        "styles": sheet([render(scene, 384, 384) for scene in styles_of_one_scene()], columns=6, cell=192),
        "autoencoder": sheet(compared, columns=8, cell=192),
        "pictures": sheet(drawn, columns=6, cell=256),
    }
    for name, image in sheets.items():
        image.save(arguments.out / f"embedded-{name}.jpg", quality=85)


if __name__ == "__main__":
    main()
