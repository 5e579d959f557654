"""Plain shapes on a plain background: count, colour, size, place, and one group beside another."""

import numpy as np

from training.world.paint import Canvas, polygon_mask
from training.world.scenes import COUNTS, Scene
from training.world.things import COLOURS

PLAINS = {
    "white": (250, 250, 250),
    "black": (16, 16, 18),
    "grey": (150, 152, 156),
    "light_blue": (196, 222, 246),
    "cream": (250, 240, 214),
}
RADIUS = {"small": 0.12, "medium": 0.20, "large": 0.34}  # Shares of the shorter side.
PLACES = {"centre": (0.5, 0.5), "left": (0.24, 0.5), "right": (0.76, 0.5), "top": (0.5, 0.24), "bottom": (0.5, 0.76)}
# Centres of the first and of the other group, as shares of width and height.
RELATIONS = {
    "left": ((0.27, 0.5), (0.73, 0.5)),
    "right": ((0.73, 0.5), (0.27, 0.5)),
    "above": ((0.5, 0.27), (0.5, 0.73)),
    "below": ((0.5, 0.73), (0.5, 0.27)),
}


def outline(shape: str) -> np.ndarray:
    """Outline of a shape of radius 1 around the origin: (n, 2), y down."""
    turn = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    if shape == "circle":
        return np.stack([np.cos(turn), np.sin(turn)], 1)
    if shape == "square":
        return np.array([[-0.88, -0.88], [0.88, -0.88], [0.88, 0.88], [-0.88, 0.88]])
    if shape == "triangle":
        return np.array([[0.0, -1.0], [1.0, 0.8], [-1.0, 0.8]])
    if shape == "star":
        angle = np.arange(10) * np.pi / 5 - np.pi / 2
        radius = np.where(np.arange(10) % 2 == 0, 1.1, 0.46)
        return np.stack([np.cos(angle) * radius, np.sin(angle) * radius], 1)
    heart_x = 16 * np.sin(turn) ** 3
    heart_y = 13 * np.cos(turn) - 5 * np.cos(2 * turn) - 2 * np.cos(3 * turn) - np.cos(4 * turn)
    return np.stack([heart_x / 16, -heart_y / 16], 1)


def _draw_group(
    canvas: Canvas, shape: str, colour: str, count: int, centre: np.ndarray, radius: float, stacked: bool
) -> None:
    """One to three equal shapes around a centre, side by side or, with `stacked`, one above the other."""
    with canvas.drawing_subject():
        for index in range(count):
            offset = (index - (count - 1) / 2) * 2.35 * radius
            x, y = centre[0] + (0 if stacked else offset), centre[1] + (offset if stacked else 0)
            found = polygon_mask(outline(shape) * radius + (x, y), canvas.width, canvas.height)
            if found is not None:
                mask, rows, columns = found
                part = canvas.pixels[rows, columns]
                part += mask[..., None] * (np.asarray(COLOURS[colour], np.float32) - part)


def draw_shapes(scene: Scene, canvas: Canvas) -> None:
    """Fill the canvas with the scene's background and shapes, in place."""
    canvas.pixels[:] = PLAINS[scene.plain]
    count, size = 1 + COUNTS.index(scene.shape_count), (canvas.width, canvas.height)
    group = (canvas, scene.shape, scene.shape_colour, count)
    if scene.relation == "none":
        radius = RADIUS[scene.shape_size] * canvas.short * (1.0, 1.0, 0.72)[count - 1]
        _draw_group(*group, np.multiply(PLACES[scene.shape_place], size), radius, stacked=False)
        return
    first, other = np.multiply(RELATIONS[scene.relation], size)
    beside = scene.relation in ("left", "right")
    _draw_group(*group, first, (0.19, 0.16, 0.125)[count - 1] * canvas.short, stacked=beside)
    _draw_group(canvas, scene.other_shape, scene.other_colour, 1, other, 0.19 * canvas.short, stacked=False)
