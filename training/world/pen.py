"""Draw things from parts: every part is an outline in the thing's own units, shaded as if it were round."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.world.light import lit_thing
from training.world.paint import Canvas, Colour, polygon_mask, smooth
from training.world.scenes import Scene

Points = Sequence[tuple[float, float]]


@dataclass(slots=True)
class Pen:
    """A place to draw: x to the right and y up from the thing's foot, one unit is the thing's height.

    Attributes:
        scene: gives the hour's light and the side it comes from.
        x: column of the foot, pixels.
        y: row of the foot, pixels.
        unit: pixels per unit.
        mirrored: swap left and right.
        sunk: draw the thing's reflection below its foot instead.
        strength: opacity, 0..1.
    """

    canvas: Canvas
    scene: Scene
    x: float
    y: float
    unit: float
    mirrored: bool = False
    sunk: bool = False
    strength: float = 1.0

    def area(self, points: Points | np.ndarray, colour: Colour, rounds: int = 0, volume: float = 0.22) -> None:
        """Fill a closed outline.

        Args:
            points: (n, 2) corners in units.
            colour: as it looks by day, 0..255.
            rounds: how often to cut corners; 0 keeps them sharp, 3 makes a smooth curve.
            volume: how much the side towards the light is brighter than the other.
        """
        self.glow(points, lit_thing(self.scene, colour), rounds, volume)

    def glow(self, points: Points | np.ndarray, colour: Colour, rounds: int = 0, volume: float = 0.0) -> None:
        """As `area`, for what shines by itself: the hour does not change the colour."""
        outline = np.asarray(points, np.float64)
        outline = smooth(outline, rounds) if rounds else outline
        flip, up = (-1 if self.mirrored else 1), (1 if self.sunk else -1)
        found = polygon_mask(outline * self.unit * (flip, up) + (self.x, self.y), self.canvas.width, self.canvas.height)
        if found is None:
            return
        mask, rows, columns = found
        side = np.linspace(-1, 1, mask.shape[1], dtype=np.float32) * (1 if self.scene.light_x > 0.5 else -1)
        top = np.linspace(1, -1, mask.shape[0], dtype=np.float32) * (-1 if self.sunk else 1)
        shade = 1 + volume * (0.7 * side[None, :] + 0.45 * top[:, None])
        painted = np.minimum(np.asarray(colour, np.float32) * shade[..., None], 255)
        part = self.canvas.pixels[rows, columns]
        part += (self.strength * mask)[..., None] * (painted - part)

    def oval(self, x: float, y: float, rx: float, ry: float, colour: Colour, volume: float = 0.22) -> None:
        """Fill an ellipse with centre and radii in units."""
        turn = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        self.area(np.stack([x + rx * np.cos(turn), y + ry * np.sin(turn)], axis=1), colour, 0, volume)

    def box(self, left: float, bottom: float, right: float, top: float, colour: Colour, volume: float = 0.12) -> None:
        """Fill a rectangle given in units."""
        self.area([(left, bottom), (right, bottom), (right, top), (left, top)], colour, 0, volume)

    def window(self, left: float, bottom: float, right: float, top: float) -> None:
        """A pane that shines when it is dark outside and mirrors the sky otherwise."""
        corners = [(left, bottom), (right, bottom), (right, top), (left, top)]
        if self.scene.time in ("night", "sunset", "storm"):
            self.glow(corners, (255, 216, 122))
        else:
            self.area(corners, (150, 190, 220), 0, 0.3)

    def limb(self, points: Points, widths: Sequence[float], colour: Colour, rounds: int = 2) -> None:
        """A bent, tapering line: legs, tails, branches; `widths` are full widths in units, one per point."""
        line, half = np.asarray(points, np.float64), np.asarray(widths, np.float64)[:, None] / 2
        along = np.gradient(line, axis=0)
        across = np.stack([-along[:, 1], along[:, 0]], axis=1)
        across /= np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-6)
        self.area(np.concatenate([line + across * half, (line - across * half)[::-1]]), colour, rounds)

    def shadow(self, width: float) -> None:
        """A soft dark patch on the ground below, leaning away from the light; nothing under a hidden sun."""
        if self.sunk or self.scene.time in ("storm", "fog"):
            return
        lean = -0.35 if self.scene.light_x > 0.5 else 0.35
        turn = np.linspace(0, 2 * np.pi, 32, endpoint=False)
        flip = -1 if self.mirrored else 1
        for grow, strength in ((1.25, 0.12), (1.0, 0.16), (0.75, 0.16)):
            points = np.stack(
                [np.cos(turn) * width * grow + flip * lean * width, np.sin(turn) * 0.22 * width * grow], axis=1
            )
            outline = points * self.unit * (flip, -1) + (self.x, self.y)
            found = polygon_mask(outline, self.canvas.width, self.canvas.height)
            if found is not None:
                mask, rows, columns = found
                self.canvas.pixels[rows, columns] *= 1 - strength * mask[..., None]
