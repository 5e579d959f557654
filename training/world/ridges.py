"""What stands on the horizon: hills, mountains, a city, a waterfall; the farther, the more haze."""

import cv2
import numpy as np

from training.world.light import GREENS, hour_of, lit, lit_snow
from training.world.paint import Canvas, between, blend, column_x, enlarge, mix, noise, polygon_mask, ridge, rough
from training.world.scenes import Scene

ROCK = (92, 98, 116)
BUILDINGS = ((96, 112, 142), (128, 118, 128), (84, 96, 118), (146, 138, 132))


def draw_background(canvas: Canvas, scene: Scene, rng: np.random.Generator) -> None:
    """Paint the scene's background down to the horizon, in place."""
    horizon_px = scene.horizon * canvas.height
    if scene.background == "hills":
        _draw_hills(canvas, scene, rng, horizon_px)
    elif scene.background in ("mountains", "snowy_mountains"):
        _draw_mountains(canvas, scene, rng, horizon_px)
    elif scene.background == "city":
        with canvas.drawing_subject():
            _draw_city(canvas, scene, rng, horizon_px)
    elif scene.background == "waterfall":
        with canvas.drawing_subject():
            _draw_waterfall(canvas, scene, rng, horizon_px)


def _depth_below(canvas: Canvas, top: np.ndarray, horizon_px: float) -> np.ndarray:
    """How far every pixel lies below a ridge line, (h, w): 0 on the line, 1 at the foot of its highest peak."""
    rows = np.arange(canvas.height, dtype=np.float32)[:, None]
    return np.clip((rows - top) / max(horizon_px - float(top.min()), 1.0), 0, 1)


def _draw_hills(canvas: Canvas, scene: Scene, rng: np.random.Generator, horizon_px: float) -> None:
    hour, x = hour_of(scene), column_x(canvas)
    season = scene.season if scene.ground != "snow" else "winter"
    for layer in range(3):
        height = (0.25 - 0.075 * layer) * (0.62 + 0.6 * ridge(rng, x, 0.8 + 0.2 * layer, 3, 0.35))
        top = horizon_px - height * canvas.height * scene.horizon / 0.6
        near = lit_snow(scene, GREENS["winter"][0]) if season == "winter" else lit(scene, GREENS[season][1])
        colour = mix(near * 0.92, hour.haze, hour.mist * (0.80 - 0.30 * layer))
        depth = _depth_below(canvas, top, horizon_px)[..., None]
        # Slopes towards the light are brighter; the foot stands in mist.
        slope = np.gradient(top) * (1 if scene.light_x < 0.5 else -1)
        shade = 1 + 0.16 * np.tanh(-slope * 2.5)[None, :, None]
        blend(canvas, between(canvas, top, horizon_px + 2), mix(colour * shade, hour.haze, 0.35 * depth))
        canvas.note_skyline(top)


def _draw_mountains(canvas: Canvas, scene: Scene, rng: np.random.Generator, horizon_px: float) -> None:
    hour, x = hour_of(scene), column_x(canvas)
    warp = enlarge(noise(rng, canvas, 0.16, 3, coarse=4), canvas) - 0.5
    snowline = enlarge(noise(rng, canvas, 0.09, 3, coarse=4), canvas)
    side = 1.0 if scene.light_x < 0.5 else -1.0
    for layer in range(3):
        height = (0.44 - 0.13 * layer) * (0.42 + 0.66 * rough(rng, x, 1.35 + 0.55 * layer))
        top = horizon_px - height * canvas.height * scene.horizon / 0.6
        haze = hour.mist * (0.72 - 0.30 * layer)
        mask = between(canvas, top, horizon_px + 2)
        depth = _depth_below(canvas, top, horizon_px)
        # A face below the crest is lit like the crest above it, with a ragged border between light and shadow.
        slope = cv2.GaussianBlur(np.gradient(top).astype(np.float32)[None, :], (0, 0), 0.006 * canvas.height)[0]
        source = np.arange(canvas.width) + warp * depth * 0.55 * canvas.height
        facing = slope[np.clip(source, 0, canvas.width - 1).astype(np.int32)] * side
        shade = np.tanh(-facing * 1.6)[..., None]
        rock = lit(scene, ROCK) * (1 + 0.30 * shade)
        if scene.background == "snowy_mountains" and layer < 2:
            snow = lit_snow(scene, (248, 250, 255)) * (0.86 + 0.14 * shade)
            covered = np.clip((0.55 + 0.55 * (snowline - 0.5) - depth) * 9, 0, 1)[..., None]
            rock = mix(rock, snow, covered)
        colour = mix(mix(rock, hour.haze, haze), hour.haze, 0.5 * depth[..., None] ** 1.5)
        blend(canvas, mask, colour)
        canvas.note_skyline(top)


def _draw_city(canvas: Canvas, scene: Scene, rng: np.random.Generator, horizon_px: float) -> None:
    hour, dark = hour_of(scene), scene.time in ("night", "sunset", "storm")
    for layer in range(2):
        unit = 0.085 * canvas.height
        for index in range(-int(2.2 * canvas.height / unit), int(2.2 * canvas.height / unit)):
            width, tall = unit * rng.uniform(0.75, 1.05), rng.uniform(0.22, 0.62) * (1.0 - 0.42 * layer)
            base, spire, lights = BUILDINGS[int(rng.integers(4))], rng.random() < 0.16, rng.random((14, 4))
            left = canvas.width / 2 + index * unit + layer * 0.4 * unit
            if left > canvas.width or left + width < 0:
                continue
            top = horizon_px - tall * horizon_px
            colour = mix(lit(scene, base) * (0.9 if layer else 1.05), hour.haze, hour.mist * (0.3 if layer else 0.8))
            _box(canvas, left, top, width, horizon_px + 2 - top, colour)
            if spire:
                _box(canvas, left + 0.44 * width, top - 0.07 * horizon_px, 0.12 * width, 0.08 * horizon_px, colour)
            glass = (255, 214, 120) if dark else mix(colour, hour.sky[-1], 0.55)
            for row in range(int((horizon_px - top) / (0.045 * canvas.height)) if layer else 0):
                for column in range(3):
                    if lights[min(row, 13), column] < (0.5 if dark else 0.85):
                        x = left + (0.14 + 0.27 * column) * width
                        y = top + (0.014 + 0.045 * row) * canvas.height
                        _box(canvas, x, y, 0.17 * width, 0.024 * canvas.height, glass)


def _box(canvas: Canvas, x: float, y: float, width: float, height: float, colour: np.ndarray) -> None:
    corners = np.array([(x, y), (x + width, y), (x + width, y + height), (x, y + height)])
    if (found := polygon_mask(corners, canvas.width, canvas.height)) is not None:
        mask, rows, columns = found
        part = canvas.pixels[rows, columns]
        part += mask[..., None] * (np.asarray(colour, np.float32) - part)


def _draw_waterfall(canvas: Canvas, scene: Scene, rng: np.random.Generator, horizon_px: float) -> None:
    hour, x = hour_of(scene), column_x(canvas)
    top = horizon_px - canvas.height * scene.horizon * (0.52 + 0.20 * rough(rng, x, 2.2))
    texture = enlarge(noise(rng, canvas, 0.10, 3, stretch=0.5, coarse=2), canvas)[..., None]
    depth = _depth_below(canvas, top, horizon_px)[..., None]
    rock = mix(lit(scene, (84, 84, 88)) * (0.72 + 0.62 * texture), hour.haze, 0.35 * hour.mist + 0.1 * depth)
    grass = lit(scene, GREENS[scene.season][1]) * (0.85 + 0.3 * texture)
    blend(canvas, between(canvas, top, horizon_px + 2), mix(rock, grass, np.clip((0.16 - depth) * 12, 0, 1)))
    middle, half = rng.uniform(-0.2, 0.2) * canvas.height + canvas.width / 2, 0.085 * canvas.height
    columns, rows = (
        np.arange(canvas.width, dtype=np.float32)[None, :],
        np.arange(canvas.height, dtype=np.float32)[:, None],
    )
    lip = float(np.interp(middle, np.arange(canvas.width), top))
    spread = half * (0.8 + 0.5 * np.clip((rows - lip) / (horizon_px - lip), 0, 1))
    falling = np.clip((spread - np.abs(columns - middle)) / (0.02 * canvas.height), 0, 1)
    falling = falling * (rows > lip) * (rows < horizon_px + 2)
    streaks = enlarge(noise(rng, canvas, 0.30, 3, stretch=0.06, coarse=2), canvas)[..., None]
    blend(canvas, falling.astype(np.float32) * 0.95, lit_snow(scene, (214, 232, 246)) * (0.78 + 0.36 * streaks))
    spray = np.exp(-(((columns - middle) / (2.2 * half)) ** 2) - ((rows - horizon_px) / (0.05 * canvas.height)) ** 2)
    blend(canvas, (0.8 * spray).astype(np.float32), lit_snow(scene, (236, 244, 250)))
