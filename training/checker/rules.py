"""Judge plain shapes by arithmetic: find connected areas, compare their outlines with the true ones.

No training is needed, because shapes stand on a plain background.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from training.world.scenes import SHAPES
from training.world.shapes import outline
from training.world.things import COLOURS

SIDE = 256  # Pictures are judged at this height.
CONTRAST = 40  # A pixel this far from the background, in its strongest channel, belongs to a shape.
SMALLEST = 0.006  # Share of the squared shorter side; what is smaller counts as dirt.
MASK = 32  # Outlines are compared on a grid of this many cells.


@dataclass(frozen=True, slots=True)
class FoundShape:
    """One shape in a picture: what it is, its colour, its centre as shares of width and height, its area in px²."""

    shape: str
    colour: str
    x: float
    y: float
    area: float


def _templates() -> dict[str, np.ndarray]:
    result = {}
    for shape in SHAPES:
        points = outline(shape)
        low, high = points.min(axis=0), points.max(axis=0)
        grid = np.zeros((MASK, MASK), np.uint8)
        cv2.fillPoly(grid, [np.round((points - low) / (high - low) * (MASK - 1)).astype(np.int32)], 1)
        result[shape] = grid.astype(bool)
    return result


_OUTLINES = _templates()


def nearest_colour(rgb: np.ndarray) -> str:
    """The named colour closest to an RGB mean, (3,) in 0..255; hue counts more than brightness."""

    def opponent(value: np.ndarray) -> np.ndarray:
        red, green, blue = np.asarray(value, np.float64)
        return np.array([0.5 * (red + green + blue) / 3, red - green, (red + green) / 2 - blue])

    return min(COLOURS, key=lambda name: float(np.abs(opponent(rgb) - opponent(np.array(COLOURS[name]))).sum()))


def _kind_of(mask: np.ndarray) -> str:
    """The shape whose outline, stretched to the same box, overlaps best with a boolean mask cut to its box."""
    small = cv2.resize(mask.astype(np.uint8) * 255, (MASK, MASK), interpolation=cv2.INTER_AREA) > 127

    def overlap(template: np.ndarray) -> float:
        return float((small & template).sum() / max((small | template).sum(), 1))

    return max(_OUTLINES, key=lambda name: overlap(_OUTLINES[name]))


def find_shapes(picture: np.ndarray) -> list[FoundShape]:
    """All shapes of an (h, w, 3) uint8 picture, largest first."""
    scale = SIDE / len(picture)
    small = cv2.resize(picture, (max(round(picture.shape[1] * scale), 8), SIDE), interpolation=cv2.INTER_AREA)
    border = np.concatenate(
        [small[:4].reshape(-1, 3), small[-4:].reshape(-1, 3), small[:, :4].reshape(-1, 3), small[:, -4:].reshape(-1, 3)]
    )
    difference = np.abs(small.astype(np.float32) - np.median(border, axis=0)).max(axis=2)
    mask = cv2.morphologyEx((difference > CONTRAST).astype(np.uint8), cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
    count, labels, stats, centres = cv2.connectedComponentsWithStats(mask)
    found, short = [], min(small.shape[:2])
    for index in range(1, count):
        left, top, width, height, area = stats[index]
        if area < SMALLEST * short**2:
            continue
        part = labels == index
        core = cv2.erode(part.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
        colour = np.median(small[core if core.any() else part], axis=0)
        found.append(
            FoundShape(
                shape=_kind_of(part[top : top + height, left : left + width]),
                colour=nearest_colour(colour),
                x=float(centres[index][0] / small.shape[1]),
                y=float(centres[index][1] / small.shape[0]),
                area=float(area),
            )
        )
    return sorted(found, key=lambda shape: -shape.area)


def place_of(shape: FoundShape) -> str:
    """Where a single shape stands: the place whose direction dominates, or the centre."""
    dx, dy = shape.x - 0.5, shape.y - 0.5
    if max(abs(dx), abs(dy)) < 0.12:
        return "centre"
    if abs(dx) > abs(dy):
        return "left" if dx < 0 else "right"
    return "top" if dy < 0 else "bottom"
