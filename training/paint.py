"""Small drawing tools shared by the renderer: blending, gradients, ridge lines, anti-aliased polygons."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

Colour = Sequence[float] | np.ndarray


@dataclass(slots=True)
class Canvas:
    """A picture under construction; `pixels` is (height, width, 3) float32 in 0..255."""

    pixels: np.ndarray
    width: int
    height: int

    @classmethod
    def empty(cls, width: int, height: int) -> "Canvas":
        """A black canvas of the given size in pixels."""
        return cls(np.zeros((height, width, 3), np.float32), width, height)

    @property
    def short(self) -> int:
        """The shorter side in pixels; sizes of discs and things are shares of it."""
        return min(self.width, self.height)

    def to_uint8(self) -> np.ndarray:
        """(height, width, 3) uint8, rounded."""
        return np.clip(self.pixels + 0.5, 0, 255).astype(np.uint8)


def blend(canvas: Canvas, mask: np.ndarray, colour: Colour) -> None:
    """Mix `colour` into the canvas.

    Args:
        canvas: changed in place.
        mask: (height, width), uint8 0..255 or float 0..1: how much of the colour to take.
        colour: three values 0..255, or an array that broadcasts to (height, width, 3).
    """
    colour = np.asarray(colour, np.float32)
    rows = np.flatnonzero(mask.any(axis=1))
    if rows.size == 0:
        return
    span = slice(int(rows[0]), int(rows[-1]) + 1)  # Most masks cover few rows.
    part = mask[span].astype(np.float32)[..., None]
    if mask.dtype == np.uint8:
        part /= 255.0
    if colour.ndim == 3 and colour.shape[0] == canvas.height:
        colour = colour[span]
    canvas.pixels[span] += part * (colour - canvas.pixels[span])


def gradient(stops: Sequence[Colour], height: int, end: float) -> np.ndarray:
    """Vertical colour ramp: (height, 3) float32 from the first stop at row 0 to the last at row `end` and below."""
    position = np.clip(np.arange(height, dtype=np.float32) / max(end, 1.0), 0, 1) * (len(stops) - 1)
    table = np.asarray(stops, np.float32)
    return np.stack([np.interp(position, np.arange(len(stops)), table[:, c]) for c in range(3)], axis=1).astype(
        np.float32
    )


def column_x(canvas: Canvas) -> np.ndarray:
    """World coordinate of every column: (width,) float32, 0 in the middle, one unit per picture height."""
    return ((np.arange(canvas.width, dtype=np.float32) + 0.5) - canvas.width / 2) / canvas.height


def ridge(rng: np.random.Generator, x: np.ndarray, frequency: float, octaves: int, roughness: float) -> np.ndarray:
    """Smooth hills: a sum of sines at world coordinates `x`; values about 0..1, same shape as `x`."""
    total, weight, norm = np.zeros_like(x), 1.0, 0.0
    for octave in range(octaves):
        phase = rng.uniform(0, 2 * np.pi)
        total += weight * np.sin(2 * np.pi * frequency * 1.9**octave * x + phase)
        norm += weight
        weight *= roughness
    return 0.5 + 0.5 * total / norm


def rough(rng: np.random.Generator, x: np.ndarray, frequency: float) -> np.ndarray:
    """Sharp peaks: straight lines between random heights, three octaves; values 0..1, same shape as `x`."""
    total, weight = np.zeros_like(x), 1.0
    for octave in range(3):
        step = frequency * 2.3**octave
        count = 64
        # Jittered knots: evenly spaced peaks would look like a saw.
        knots = np.arange(count) - count / 2 + rng.uniform(-0.3, 0.3, count)
        heights = rng.uniform(0, 1, count)
        if octave == 0:
            heights = np.where(np.arange(count) % 2 == 0, 0.35 * heights, 0.6 + 0.4 * heights)
        total += weight * np.interp(x * step * 1.6, knots, heights)
        weight *= 0.28
    return np.clip(total / 1.25, 0, 1).astype(np.float32)


def polygon(canvas: Canvas, top: np.ndarray, bottom: np.ndarray | float) -> np.ndarray:
    """Anti-aliased area between two lines.

    Args:
        canvas: gives the size.
        top: (width,) row of the upper edge in every column, pixels.
        bottom: (width,) or one number, row of the lower edge.

    Returns:
        (height, width) float32 mask in 0..1.
    """
    # Exact coverage of each pixel row: polygon fills leave steps along shallow slopes.
    rows = np.arange(canvas.height, dtype=np.float32)[:, None]
    mask = np.clip(rows + 1 - np.asarray(top, np.float32), 0, 1)
    return np.minimum(mask, np.clip(np.asarray(bottom, np.float32) - rows, 0, 1))


def fill(canvas: Canvas, points: np.ndarray) -> np.ndarray:
    """Anti-aliased polygon through (n, 2) points in pixels: (height, width) uint8 mask."""
    mask = np.zeros((canvas.height, canvas.width), np.uint8)
    cv2.fillPoly(mask, [np.round(points * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    return mask
