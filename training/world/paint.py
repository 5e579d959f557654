"""Small drawing tools shared by the renderer: blending, gradients, noise, ridge lines, anti-aliased polygons.

Positions that must not depend on the picture's size are "world" coordinates: x is 0 in the middle column, y is 0 in
the top row, and one unit is the picture's height.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import cv2
import numpy as np

Colour = Sequence[float] | np.ndarray
FAINT = 16  # Difference of a channel, 0..255, below which nobody sees that something was drawn.
SKYLINE_PX = 12  # Height of the band around a skyline that counts as subject: a fifth of a token.
HALF_WORLD = 3.4  # Noise is defined for |x| up to this: enough for pictures six times as wide as high.


@dataclass(slots=True)
class Canvas:
    """A picture under construction.

    Attributes:
        pixels: (height, width, 3) float32 in 0..255.
        subject: (height, width) bool: where things, plain shapes, skylines, sun or moon are; None where nobody asks.
    """

    pixels: np.ndarray
    subject: np.ndarray | None
    width: int
    height: int

    @classmethod
    def empty(cls, width: int, height: int, notes_subject: bool = False) -> "Canvas":
        """A black canvas of the given size in pixels."""
        subject = np.zeros((height, width), bool) if notes_subject else None
        return cls(np.zeros((height, width, 3), np.float32), subject, width, height)

    @property
    def short(self) -> int:
        """The shorter side in pixels; sizes of discs and things are shares of it."""
        return min(self.width, self.height)

    @contextmanager
    def drawing_subject(self) -> Iterator[None]:
        """Add what is painted meanwhile to `subject`; what hardly shows, such as the edge of a shadow, is left out."""
        if self.subject is None:  # A copy and a comparison of the whole picture, only for those who ask.
            yield
            return
        before = self.pixels.copy()
        yield
        self.subject |= cv2.inRange(cv2.absdiff(self.pixels, before), (0,) * 3, (FAINT,) * 3) == 0

    def note_skyline(self, top: np.ndarray) -> None:
        """Add a ridge's outline to `subject`, and take out of it what lies behind the ridge.

        A far ridge differs from its sky by so little that a loss over all tokens hardly sees it.

        Args:
            top: (width,) row of the ridge line in every column, pixels.
        """
        if self.subject is None:
            return
        below = np.arange(self.height)[:, None] - top
        self.subject &= below < 0
        self.subject |= np.abs(below) < SKYLINE_PX / 2

    def to_uint8(self) -> np.ndarray:
        """(height, width, 3) uint8, rounded."""
        return np.clip(self.pixels + 0.5, 0, 255).astype(np.uint8)


def mix(first: Colour, second: Colour, share: float | np.ndarray) -> np.ndarray:
    """`first` at share 0, `second` at share 1: float32, shapes broadcast."""
    first, second = np.asarray(first, np.float32), np.asarray(second, np.float32)
    return first + (second - first) * np.asarray(share, np.float32)


def blend(canvas: Canvas, mask: np.ndarray, colour: Colour) -> None:
    """Mix `colour` into the canvas.

    Args:
        canvas: changed in place.
        mask: (height, width) float32 0..1: how much of the colour to take.
        colour: three values 0..255, or an array that broadcasts to (height, width, 3).
    """
    colour = np.asarray(colour, np.float32)
    rows = np.flatnonzero(mask.max(axis=1) > 0)
    if rows.size == 0:
        return
    span = slice(int(rows[0]), int(rows[-1]) + 1)  # Most masks cover few rows.
    if colour.ndim == 3 and colour.shape[0] == canvas.height:
        colour = colour[span]
    canvas.pixels[span] += mask[span, :, None] * (colour - canvas.pixels[span])


def brighten(canvas: Canvas, mask: np.ndarray, colour: Colour) -> None:
    """Add light as a screen does, never beyond white; arguments as in `blend`."""
    light = mask[..., None] * (np.asarray(colour, np.float32) / 255)
    canvas.pixels += (255 - canvas.pixels) * light


def gradient(stops: Sequence[Colour], height: int, end: float) -> np.ndarray:
    """Vertical colour ramp: (height, 3) float32 from the first stop at row 0 to the last at row `end` and below."""
    position = np.clip(np.arange(height, dtype=np.float32) / max(end, 1.0), 0, 1) * (len(stops) - 1)
    table = np.asarray(stops, np.float32)
    columns = [np.interp(position, np.arange(len(stops)), table[:, c]) for c in range(3)]
    return np.stack(columns, axis=1).astype(np.float32)


def column_x(canvas: Canvas) -> np.ndarray:
    """World coordinate of every column: (width,) float32."""
    return ((np.arange(canvas.width, dtype=np.float32) + 0.5) - canvas.width / 2) / canvas.height


def noise(
    rng: np.random.Generator, canvas: Canvas, cell: float, octaves: int = 3, stretch: float = 1.0, coarse: int = 4
) -> np.ndarray:
    """Smooth random field over the picture.

    Args:
        rng: decides the field.
        canvas: gives the size.
        cell: height of the largest spots, in world units.
        octaves: each adds spots of half the size and half the strength.
        stretch: width of a spot over its height.
        coarse: pixels of the picture per value; soft fields need no full resolution.

    Returns:
        (height / coarse, width / coarse) float32, about 0..1 with mean 0.5.
    """
    width, height = max(canvas.width // coarse, 8), max(canvas.height // coarse, 8)
    total, weight, norm = np.zeros((height, width), np.float32), 1.0, 0.0
    for _ in range(octaves):
        columns, rows = int(2 * HALF_WORLD / (cell * stretch)) + 4, int(1 / cell) + 4
        grid = rng.random((rows, columns), np.float32)
        step = 1 / height  # World units per value.
        right, down = step / (cell * stretch), step / cell
        left = (HALF_WORLD - width * step / 2) / (cell * stretch) + 1 + right / 2
        matrix = np.array([[right, 0, left], [0, down, 1 + down / 2]], np.float64)
        flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
        total += weight * cv2.warpAffine(grid, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REFLECT)
        norm += weight
        cell, weight = cell / 2, weight / 2
    return np.clip(0.5 + (total / norm - 0.5) * 1.4, 0, 1)


def enlarge(field: np.ndarray, canvas: Canvas) -> np.ndarray:
    """A coarse field at the size of the canvas: (height, width) or (height, width, 3) float32."""
    return cv2.resize(field, (canvas.width, canvas.height), interpolation=cv2.INTER_LINEAR)


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


def between(canvas: Canvas, top: np.ndarray | float, bottom: np.ndarray | float) -> np.ndarray:
    """Anti-aliased area between two lines.

    Args:
        canvas: gives the size.
        top: (width,) row of the upper edge in every column, pixels; or one number.
        bottom: (width,) or one number, row of the lower edge.

    Returns:
        (height, width) float32 mask in 0..1.
    """
    # Exact coverage of each pixel row: polygon fills leave steps along shallow slopes.
    rows = np.arange(canvas.height, dtype=np.float32)[:, None]
    mask = np.clip(rows + 1 - np.asarray(top, np.float32), 0, 1)
    return np.minimum(mask, np.clip(np.asarray(bottom, np.float32) - rows, 0, 1)) * np.ones(
        (1, canvas.width), np.float32
    )


def polygon_mask(points: np.ndarray, width: int, height: int) -> tuple[np.ndarray, slice, slice] | None:
    """Anti-aliased polygon, drawn only where it is.

    Args:
        points: (n, 2) corners in pixels.
        width: of the picture.
        height: of the picture.

    Returns:
        Mask (h, w) float32 0..1 with the rows and columns it covers; None when it lies outside the picture.
    """
    low, high = np.floor(points.min(axis=0)).astype(int) - 1, np.ceil(points.max(axis=0)).astype(int) + 2
    left, top, right, bottom = max(low[0], 0), max(low[1], 0), min(high[0], width), min(high[1], height)
    if left >= right or top >= bottom:
        return None
    mask = np.zeros((bottom - top, right - left), np.uint8)
    cv2.fillPoly(mask, [np.round((points - (left, top)) * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    return mask.astype(np.float32) / 255, slice(top, bottom), slice(left, right)


def smooth(points: np.ndarray, rounds: int = 3) -> np.ndarray:
    """Round off a closed polygon by cutting its corners (Chaikin): (n, 2) to (n * 2**rounds, 2)."""
    for _ in range(rounds):
        after = np.roll(points, -1, axis=0)
        points = np.stack([0.75 * points + 0.25 * after, 0.25 * points + 0.75 * after], axis=1).reshape(-1, 2)
    return points
