"""The one thing a scene may hold (house, boat, tree, balloon) and the plain shapes."""

import cv2
import numpy as np

from training.grounds import lit
from training.paint import Canvas, blend, fill
from training.scenes import Scene

COLOURS = {
    "red": (214, 40, 40),
    "orange": (242, 132, 30),
    "yellow": (246, 208, 46),
    "green": (44, 156, 70),
    "blue": (44, 96, 214),
    "purple": (132, 56, 180),
    "pink": (246, 132, 176),
    "white": (246, 246, 244),
    "black": (24, 24, 28),
}
PLAINS = {
    "white": (250, 250, 250),
    "black": (16, 16, 18),
    "grey": (150, 152, 156),
    "light_blue": (196, 222, 246),
    "cream": (250, 240, 214),
}


def draw_thing(canvas: Canvas, scene: Scene, horizon_px: float) -> None:
    """Paint the scene's thing, if it has one, in place."""
    if scene.thing == "none":
        return
    x = scene.thing_x * canvas.width
    ground = canvas.height - horizon_px
    painter = {"house": _house, "boat": _boat, "tree": _tree, "balloon": _balloon}[scene.thing]
    # Where it stands: on the far bank of a lake, on the water, on the land, in the sky.
    depth = {"boat": 0.22, "balloon": 0.0}.get(scene.thing, 0.03 if scene.ground == "lake" else 0.3)
    y = horizon_px + depth * ground if scene.thing != "balloon" else horizon_px * 0.36
    painter(canvas, scene, x, y, canvas.short)


def _part(
    canvas: Canvas, colour: np.ndarray, x: float, y: float, size: float, points: list[tuple[float, float]]
) -> None:
    blend(canvas, fill(canvas, np.array([(x + px * size, y + py * size) for px, py in points])), colour)


def _house(canvas: Canvas, scene: Scene, x: float, y: float, short: int) -> None:
    size = 0.17 * short
    dim = lit(scene, COLOURS[scene.thing_colour]) * (1.6 if scene.time == "night" else 1.0)
    _part(canvas, dim, x, y, size, [(-0.6, 0), (0.6, 0), (0.6, -0.65), (-0.6, -0.65)])
    _part(canvas, lit(scene, (112, 62, 48)), x, y, size, [(-0.75, -0.62), (0.75, -0.62), (0, -1.2)])
    _part(canvas, lit(scene, (84, 54, 40)), x, y, size, [(-0.1, 0), (0.14, 0), (0.14, -0.42), (-0.1, -0.42)])
    glass = np.array((255, 214, 110)) if scene.time in ("night", "sunset") else lit(scene, (206, 230, 246))
    for left in (-0.45, 0.26):
        _part(canvas, glass, x, y, size, [(left, -0.25), (left + 0.2, -0.25), (left + 0.2, -0.48), (left, -0.48)])


def _boat(canvas: Canvas, scene: Scene, x: float, y: float, short: int) -> None:
    size = 0.13 * short
    lift = 2.2 if scene.time == "night" else 1.0
    _part(
        canvas, lit(scene, (112, 66, 42)) * lift, x, y, size, [(-0.7, -0.02), (0.7, -0.02), (0.45, 0.28), (-0.45, 0.28)]
    )
    sail = lit(scene, COLOURS[scene.thing_colour]) * (1.8 if scene.time == "night" else 1.1)
    _part(canvas, sail, x, y, size, [(0.03, -0.1), (0.03, -1.5), (0.68, -0.1)])
    _part(canvas, sail * 0.88, x, y, size, [(-0.03, -0.1), (-0.03, -1.25), (-0.55, -0.1)])


def _tree(canvas: Canvas, scene: Scene, x: float, y: float, short: int) -> None:
    size = 0.26 * short
    _part(canvas, lit(scene, (104, 70, 44)), x, y, size, [(-0.06, 0.05), (0.06, 0.05), (0.05, -0.5), (-0.05, -0.5)])
    crown = np.zeros((canvas.height, canvas.width), np.uint8)
    for px, py, radius in ((0, -0.75, 0.32), (-0.22, -0.58, 0.24), (0.22, -0.58, 0.24)):
        centre = (round((x + px * size) * 16), round((y + py * size) * 16))
        cv2.circle(crown, centre, round(radius * size * 16), 255, -1, cv2.LINE_AA, 4)
    blend(canvas, crown, lit(scene, (38, 108, 46)))


def _balloon(canvas: Canvas, scene: Scene, x: float, y: float, short: int) -> None:
    size = 0.10 * short
    lift = 1.9 if scene.time == "night" else 1.15
    colour = np.minimum(lit(scene, COLOURS[scene.thing_colour]) * lift, 255)
    angles = np.linspace(0, 2 * np.pi, 48)
    round_part = [(float(np.cos(a)), float(np.sin(a))) for a in angles]
    _part(canvas, colour, x, y, size, round_part)
    _part(canvas, colour, x, y, size, [(-0.86, 0.5), (0.86, 0.5), (0.22, 1.35), (-0.22, 1.35)])
    _part(
        canvas, np.minimum(colour * 0.6 + 100 * lift * 0.4, 255), x, y, size, [(px * 0.34, py) for px, py in round_part]
    )
    _part(canvas, lit(scene, (120, 78, 46)), x, y, size, [(-0.2, 1.55), (0.2, 1.55), (0.17, 1.85), (-0.17, 1.85)])


def _outline(shape: str) -> np.ndarray:
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
    heart_x, heart_y = (
        16 * np.sin(turn) ** 3,
        13 * np.cos(turn) - 5 * np.cos(2 * turn) - 2 * np.cos(3 * turn) - np.cos(4 * turn),
    )
    return np.stack([heart_x / 16, -heart_y / 16], 1)


def draw_shape(scene: Scene, width: int, height: int) -> np.ndarray:
    """One shape in the middle of a plain picture: (height, width, 3) uint8."""
    canvas = Canvas.empty(width, height)
    canvas.pixels[:] = PLAINS[scene.plain]
    rng = np.random.default_rng([scene.seed, 3])
    radius = rng.uniform(0.26, 0.34) * canvas.short
    blend(canvas, fill(canvas, _outline(scene.shape) * radius + (width / 2, height / 2)), COLOURS[scene.shape_colour])
    return canvas.to_uint8()
