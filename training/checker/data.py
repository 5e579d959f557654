"""Pictures to train the checker on: disturbed renders, and renders whose layout was spoiled."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from training.world.render import render
from training.world.scenes import Scene, sample_scene

CHECKER_SEEDS = 400_000_000
SIDE = 128  # Examples are rendered this high; thumbnails are made from them.
WIDE_SHARE, WIDE = 0.3, 308  # Share and width of wide pictures (1536 x 640): thumbnails squeeze them.


@dataclass(frozen=True, slots=True)
class Examples:
    """Thumbnails (n, side, side, 3) uint8; classes (n,) per head, -1 to ignore; `intact` (n,) likewise."""

    thumbnails: np.ndarray
    classes: dict[str, Tensor]
    intact: Tensor


def spoil_layout(picture: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Make a picture that has no single horizon: rolled, tiled, stacked on another, or cut into bands.

    Args:
        picture: (h, w, 3) uint8.
        other: another picture of any shape.
        rng: decides how.

    Returns:
        (h, w, 3) uint8, up to a pixel.
    """
    height, width = picture.shape[:2]
    kind = int(rng.integers(5))
    if kind == 0:
        return np.roll(picture, int(height * rng.uniform(0.3, 0.7)), axis=0)
    if kind == 3:
        small = cv2.resize(picture, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
        return np.tile(small, (2, 2, 1))
    if kind in (1, 2):
        both = (picture, picture if kind == 1 else other)
        return np.concatenate([cv2.resize(p, (width, height // 2), interpolation=cv2.INTER_AREA) for p in both])
    bands = np.array_split(picture, int(rng.integers(3, 6)))
    order = rng.permutation(len(bands))
    if (order == np.arange(len(bands))).all():
        order = order[::-1]
    return np.concatenate([bands[i] for i in order])


def disturb(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blur, tint, noise and slight crop of a thumbnail: (h, w, 3) uint8 to the same shape."""
    height, width = picture.shape[:2]
    margin_y, margin_x = int(height * 0.06), int(width * 0.06)
    top, left = int(rng.integers(0, margin_y + 1)), int(rng.integers(0, margin_x + 1))
    picture = cv2.resize(picture[top : height - margin_y + top, left : width - margin_x + left], (width, height))
    if rng.random() < 0.7:
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.3, 2.4))
    out = picture * rng.uniform(0.9, 1.1, 3) + rng.uniform(-8, 8) + rng.normal(0, rng.uniform(0, 6), picture.shape)
    return np.clip(out, 0, 255).astype(np.uint8)


def _picture(scene: Scene) -> np.ndarray:
    wide = np.random.default_rng([scene.seed, 9]).random() < WIDE_SHARE
    return render(scene, WIDE if wide else SIDE, SIDE)


def make_examples(
    count: int, variants: int, heads: Sequence[str], thumbnail: Callable[[np.ndarray], np.ndarray]
) -> Examples:
    """Render `count` scenes and disturb each `variants` times; some copies are spoiled as well.

    Args:
        count: scenes.
        variants: copies of each.
        heads: attributes whose classes are wanted.
        thumbnail: shrinks a picture to what the network sees.
    """
    rng = np.random.default_rng(0)
    scenes = [sample_scene(CHECKER_SEEDS + index) for index in range(count)]
    labels = [scene.labels() for scene in scenes]
    pictures = [_picture(scene) for scene in tqdm(scenes, desc="render for the checker", mininterval=10)]
    views, rows, intact = [], [], []
    for index in tqdm(np.tile(np.arange(count), variants), desc="disturb", mininterval=10):
        views.append(disturb(thumbnail(pictures[index]), rng))
        rows.append(labels[index])
        # Only scenes have a horizon: shapes and still lifes count neither way.
        is_scene = scenes[index].kind == "scene"
        intact.append(1 if is_scene else -1)
        if is_scene and rng.random() < 0.4:
            spoiled = spoil_layout(pictures[index], pictures[int(rng.integers(count))], rng)
            views.append(disturb(thumbnail(spoiled), rng))
            rows.append(dict.fromkeys(heads, -1))
            intact.append(0)
    classes = {name: torch.tensor([row[name] for row in rows]) for name in heads}
    return Examples(np.stack(views), classes, torch.tensor(intact))
