"""The eight grounds below the horizon: lake, sea, beach, meadow, field, forest, desert, snow."""

import cv2
import numpy as np

from training.paint import Canvas, blend, column_x, fill, gradient, polygon, ridge
from training.scenes import Scene

# Light of the hour, multiplied on everything that has a colour of its own.
LIGHT = {"day": (1.0, 1.0, 1.0), "sunset": (0.80, 0.52, 0.46), "dawn": (0.95, 0.86, 0.90), "night": (0.23, 0.31, 0.50)}
WATER = {
    "day": ((96, 168, 226), (26, 92, 170)),
    "sunset": ((248, 164, 92), (96, 52, 96)),
    "dawn": ((236, 206, 214), (132, 150, 190)),
    "night": ((34, 52, 100), (8, 14, 40)),
}
GLITTER = {"day": (255, 255, 255), "sunset": (255, 226, 150), "dawn": (255, 246, 230), "night": (206, 216, 240)}


def lit(scene: Scene, colour: tuple[float, float, float]) -> np.ndarray:
    """The colour as seen at the scene's time of day: (3,) float32."""
    return np.array(colour, np.float32) * np.array(LIGHT[scene.time], np.float32)


def draw_ground(canvas: Canvas, scene: Scene, rng: np.random.Generator, horizon_px: float) -> None:
    """Paint everything below row `horizon_px` of the canvas, in place."""
    painter = {
        "lake": _lake, "sea": _sea, "beach": _beach, "meadow": _meadow,
        "field": _field, "forest": _forest, "desert": _desert, "snow": _snow,
    }[scene.ground]  # fmt: skip
    painter(canvas, scene, rng, horizon_px)


def _base(canvas: Canvas, horizon_px: float, far: np.ndarray, near: np.ndarray) -> None:
    ramp = gradient([far, near], canvas.height, canvas.height - horizon_px)
    start = round(horizon_px)
    canvas.pixels[start:] = ramp[: canvas.height - start, None, :]


def _streaks(
    canvas: Canvas, scene: Scene, rng: np.random.Generator, top: float, bottom: float, strength: float
) -> None:
    """Light lines on water: a path of glitter below the sun or moon, a few waves elsewhere."""
    mask = np.zeros((canvas.height, canvas.width), np.uint8)
    light_px = scene.light_x * canvas.width
    for _ in range(34):
        depth, u, spread = rng.uniform(0.03, 1), rng.uniform(-1.2, 1.2), rng.normal()
        y = top + (bottom - top) * depth
        thick = max(0.006 * canvas.height * (0.35 + depth), 1.0)
        path = scene.light != "hidden" and rng.random() < 0.6
        x = light_px + spread * (0.02 + 0.05 * depth) * canvas.height if path else canvas.width / 2 + u * canvas.height
        half = (0.02 + 0.05 * depth) * canvas.height * (1.0 if path else 1.5)
        tone = int(255 * strength * (1.0 if path else 0.35))
        box = np.array([[x - half, y], [x, y - thick / 2], [x + half, y], [x, y + thick / 2]])
        cv2.fillPoly(mask, [np.round(box * 16).astype(np.int32)], tone, cv2.LINE_AA, 4)
    blend(canvas, mask, GLITTER[scene.time])


def _lake(canvas: Canvas, scene: Scene, rng: np.random.Generator, horizon_px: float) -> None:
    start = round(horizon_px)
    depth = canvas.height - start
    # The mirror: what stands above the horizon, upside down and a little squeezed.
    source = np.clip(start - 1 - (np.arange(depth) * 1.15).astype(int), 0, start - 1)
    far, near = (np.array(c, np.float32) for c in WATER[scene.time])
    water = gradient([far, near], depth, depth)[:, None, :]
    mirror = canvas.pixels[source]
    canvas.pixels[start:] = cv2.GaussianBlur(mirror * 0.58 + water * 0.42, (0, 0), 0.004 * canvas.height + 0.3) * 0.96
    _streaks(canvas, scene, rng, horizon_px, canvas.height, 0.6)
    shore = 0.010 * canvas.height * (0.6 + 0.8 * ridge(rng, column_x(canvas), 1.3, 3, 0.6))
    blend(canvas, polygon(canvas, horizon_px - shore, horizon_px + shore * 0.5), lit(scene, (58, 98, 58)))
    bank = canvas.height * (1.0 - 0.085 * ridge(rng, column_x(canvas), 0.7, 3, 0.5))
    blend(canvas, polygon(canvas, bank, canvas.height + 4.0), lit(scene, (70, 128, 56)))


def _sea(canvas: Canvas, scene: Scene, rng: np.random.Generator, horizon_px: float) -> None:
    far, near = (np.array(c, np.float32) for c in WATER[scene.time])
    _base(canvas, horizon_px, far * 0.9, near)
    _streaks(canvas, scene, rng, horizon_px, canvas.height, 0.85)


def _beach(canvas: Canvas, scene: Scene, rng: np.random.Generator, horizon_px: float) -> None:
    far, near = (np.array(c, np.float32) for c in WATER[scene.time])
    _base(canvas, horizon_px, far * 0.9, near)
    _streaks(canvas, scene, rng, horizon_px, horizon_px + 0.4 * (canvas.height - horizon_px), 0.8)
    x = column_x(canvas)
    line = horizon_px + (canvas.height - horizon_px) * (0.42 + 0.16 * ridge(rng, x, 0.8, 3, 0.4) + 0.08 * x)
    foam = 0.014 * canvas.height
    blend(canvas, polygon(canvas, line - foam, canvas.height + 4.0), lit(scene, (250, 252, 250)) * 0.9 + 12)
    sand = gradient([lit(scene, (226, 194, 140)), lit(scene, (240, 214, 160))], canvas.height, canvas.height)
    blend(canvas, polygon(canvas, line + foam, canvas.height + 4.0), sand[:, None, :])


def _meadow(canvas: Canvas, scene: Scene, rng: np.random.Generator, horizon_px: float) -> None:
    _base(canvas, horizon_px, lit(scene, (142, 200, 92)), lit(scene, (70, 156, 48)))
    x = column_x(canvas)
    for depth, colour in ((0.3, (112, 186, 72)), (0.62, (84, 166, 54))):
        top = horizon_px + (canvas.height - horizon_px) * (depth + 0.2 * (ridge(rng, x, 0.7, 2, 0.4) - 0.5))
        blend(canvas, polygon(canvas, top, canvas.height + 4.0), lit(scene, colour))
    for colour in ((250, 214, 64), (240, 92, 96), (250, 250, 250)):
        mask = np.zeros((canvas.height, canvas.width), np.uint8)
        for _ in range(9):
            u, depth = rng.uniform(-1.2, 1.2), rng.uniform(0.45, 1.0)
            centre = (canvas.width / 2 + u * canvas.height, horizon_px + (canvas.height - horizon_px) * depth)
            radius = canvas.height * 0.010 * (0.3 + 0.7 * depth)
            cv2.circle(
                mask, (round(centre[0] * 16), round(centre[1] * 16)), round(radius * 16), 255, -1, cv2.LINE_AA, 4
            )
        blend(canvas, mask, lit(scene, colour))


def _field(canvas: Canvas, scene: Scene, rng: np.random.Generator, horizon_px: float) -> None:
    _base(canvas, horizon_px, lit(scene, (232, 200, 98)), lit(scene, (206, 160, 52)))
    # Furrows meet at one far point.
    far_x = canvas.width / 2 + rng.uniform(-0.2, 0.2) * canvas.height
    offset = rng.uniform(0, 1)
    mask = np.zeros((canvas.height, canvas.width), np.uint8)
    for index in range(-16, 17):
        left = far_x + (index + offset) * 0.2 * canvas.height
        right = left + 0.09 * canvas.height
        points = np.array([[far_x, horizon_px], [left, canvas.height + 2], [right, canvas.height + 2]])
        cv2.fillPoly(mask, [np.round(points * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    mask[: round(horizon_px)] = 0
    blend(canvas, mask, lit(scene, (166, 118, 36)))


def _forest(canvas: Canvas, scene: Scene, rng: np.random.Generator, horizon_px: float) -> None:
    _base(canvas, horizon_px, lit(scene, (52, 104, 66)), lit(scene, (22, 62, 36)))
    rows = ((0.02, 0.16, (66, 124, 80)), (0.34, 0.24, (42, 96, 58)), (0.80, 0.36, (22, 66, 38)))
    for depth, size, colour in rows:
        base = horizon_px + (canvas.height - horizon_px) * depth
        step = size * 0.42 * canvas.height
        points = [(-8.0, canvas.height + 8.0)]
        count = int(3.0 * canvas.height / step)
        jitter = rng.uniform(-0.25, 0.25, count), rng.uniform(0.7, 1.1, count)
        for index in range(count):
            x = canvas.width / 2 + (index - count / 2 + jitter[0][index]) * step
            points += [
                (x - step * 0.55, base + 0.05 * canvas.height),
                (x, base - size * 0.62 * canvas.height * jitter[1][index]),
            ]
        points += [(canvas.width + 8.0, base), (canvas.width + 8.0, canvas.height + 8.0)]
        blend(canvas, fill(canvas, np.array(points)), lit(scene, colour))


def _desert(canvas: Canvas, scene: Scene, rng: np.random.Generator, horizon_px: float) -> None:
    _base(canvas, horizon_px, lit(scene, (244, 196, 128)), lit(scene, (224, 158, 82)))
    x = column_x(canvas)
    for depth, light, shade in ((0.06, (240, 186, 112), (212, 146, 78)), (0.4, (234, 170, 92), (198, 124, 58))):
        height = canvas.height - horizon_px
        top = horizon_px + height * (depth + 0.30 * (1 - ridge(rng, x, 0.75, 2, 0.3)))
        blend(canvas, polygon(canvas, top, canvas.height + 4.0), lit(scene, light))
        # The shaded side starts at the crest and runs down to the right.
        slope = np.gradient(top) * 2.2
        lower = top + np.clip(slope, 0, None) * 0.12 * canvas.height
        blend(canvas, polygon(canvas, top, np.maximum(lower, top)), lit(scene, shade))


def _snow(canvas: Canvas, scene: Scene, rng: np.random.Generator, horizon_px: float) -> None:
    # Snow mirrors the sky: it stays brighter than other grounds, and bluer.
    lifts = {"day": (1, 1, 1), "sunset": (0.78, 0.64, 0.78), "dawn": (0.93, 0.90, 0.97), "night": (0.36, 0.44, 0.62)}
    lift = np.array(lifts[scene.time], np.float32)
    _base(canvas, horizon_px, np.array((226, 236, 250)) * lift, np.array((250, 252, 255)) * lift)
    x = column_x(canvas)
    for depth, colour in ((0.25, (212, 226, 246)), (0.55, (238, 244, 254)), (0.85, (218, 230, 248))):
        top = horizon_px + (canvas.height - horizon_px) * (depth + 0.22 * (ridge(rng, x, 0.6, 2, 0.4) - 0.5))
        blend(canvas, polygon(canvas, top, canvas.height + 4.0), np.array(colour) * lift)
