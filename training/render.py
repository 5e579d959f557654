"""Draw a `Scene` at any size: sky, sun, clouds, ridges, ground, one thing.

All coordinates are shares of the picture's height, measured from the picture's middle column, so that the same scene
at another size or aspect ratio shows the same ridges, only cut wider or narrower.
"""

import cv2
import numpy as np

from training.grounds import draw_ground
from training.paint import Canvas, blend, column_x, gradient, polygon, ridge, rough
from training.scenes import Scene
from training.things import draw_shape, draw_thing

# Sky colours from the zenith to the horizon.
SKIES = {
    "day": ((52, 122, 214), (104, 170, 238), (196, 228, 250)),
    "sunset": ((88, 52, 110), (206, 84, 84), (250, 150, 66), (255, 210, 110)),
    "dawn": ((158, 170, 216), (226, 190, 212), (252, 216, 200), (255, 236, 208)),
    "night": ((6, 9, 30), (14, 22, 58), (34, 50, 98)),
}
CLOUD_COLOURS = {"day": (255, 255, 255), "sunset": (255, 178, 128), "dawn": (255, 232, 232), "night": (52, 62, 98)}
GLOWS = {"day": (255, 250, 225), "sunset": (255, 226, 140), "dawn": (255, 246, 220), "night": (170, 186, 225)}
DISCS = {"day": (255, 248, 200), "sunset": (255, 244, 190), "dawn": (255, 250, 232), "night": (244, 244, 232)}
# The farthest ridge is nearly haze, the nearest nearly this colour.
RIDGES = {
    "mountains": {"day": (74, 96, 128), "sunset": (84, 40, 72), "dawn": (124, 116, 158), "night": (16, 22, 46)},
    "hills": {"day": (70, 132, 84), "sunset": (98, 56, 56), "dawn": (136, 146, 142), "night": (14, 28, 40)},
}
HAZES = {"day": (176, 206, 234), "sunset": (240, 140, 92), "dawn": (232, 200, 212), "night": (40, 54, 98)}
SNOWCAPS = {"day": (246, 250, 255), "sunset": (255, 196, 164), "dawn": (255, 236, 240), "night": (112, 126, 168)}


def render(scene: Scene, width: int, height: int) -> np.ndarray:
    """Draw the scene.

    Args:
        scene: what to draw.
        width: pixels, at least 64.
        height: pixels, at least 64.

    Returns:
        (height, width, 3) uint8, RGB; always the same for the same arguments.
    """
    if scene.kind == "shape":
        return draw_shape(scene, width, height)
    canvas = Canvas.empty(width, height)
    rng = np.random.default_rng([scene.seed, 1])
    horizon_px = scene.horizon * height
    _draw_sky(canvas, scene, rng, horizon_px)
    _draw_ridges(canvas, scene, rng, horizon_px)
    draw_ground(canvas, scene, np.random.default_rng([scene.seed, 2]), horizon_px)
    draw_thing(canvas, scene, horizon_px)
    return canvas.to_uint8()


def _draw_sky(canvas: Canvas, scene: Scene, rng: np.random.Generator, horizon_px: float) -> None:
    shift = rng.uniform(-7, 7, 3)
    stops = [np.clip(np.add(stop, shift), 0, 255) for stop in SKIES[scene.time]]
    canvas.pixels[:] = gradient(stops, canvas.height, horizon_px)[:, None, :]
    if scene.time == "night":
        _draw_stars(canvas, rng, horizon_px)
    x = (scene.light_x - 0.5) * canvas.width + canvas.width / 2
    y = horizon_px * (1 - scene.light_y)
    _draw_light(canvas, scene, rng, x, y)
    if scene.clouds != "none":
        _draw_clouds(canvas, scene, rng, horizon_px)


def _draw_stars(canvas: Canvas, rng: np.random.Generator, horizon_px: float) -> None:
    mask = np.zeros((canvas.height, canvas.width), np.uint8)
    for _ in range(46):
        world_x, v, size, glow = (
            rng.uniform(-1.4, 1.4),
            rng.uniform(0, 0.9),
            rng.uniform(0.002, 0.0045),
            rng.uniform(0.5, 1),
        )
        centre = (canvas.width / 2 + world_x * canvas.height, v * horizon_px)
        radius = max(size * canvas.short, 0.7)
        cv2.circle(mask, _fixed(centre), round(radius * 16), int(255 * glow), -1, cv2.LINE_AA, 4)
    blend(canvas, mask, (255, 255, 240))


def _fixed(point: tuple[float, float]) -> tuple[int, int]:
    return round(point[0] * 16), round(point[1] * 16)


def _draw_light(canvas: Canvas, scene: Scene, rng: np.random.Generator, x: float, y: float) -> None:
    rows = np.arange(canvas.height, dtype=np.float32)[:, None]
    columns = np.arange(canvas.width, dtype=np.float32)[None, :]
    low = scene.time in ("sunset", "dawn")
    if scene.light != "hidden" or low:
        # A low sun lights a wide, flat part of the sky, seen or not.
        wide, tall = (0.75, 0.30) if low else (0.22, 0.22)
        distance = ((columns - x) / (wide * canvas.height)) ** 2 + ((rows - y) / (tall * canvas.height)) ** 2
        glow = np.exp(-1.6 * np.sqrt(distance + 0.02)) * (0.8 if low else 0.65)
        blend(canvas, glow, GLOWS[scene.time])
    if scene.light == "hidden":
        return
    radius = (0.045 if scene.time == "night" else 0.05) * canvas.short * rng.uniform(0.95, 1.2)
    mask = np.zeros((canvas.height, canvas.width), np.uint8)
    cv2.circle(mask, _fixed((x, y)), round(radius * 16), 255, -1, cv2.LINE_AA, 4)
    if scene.time == "night" and rng.random() < 0.5:
        cv2.circle(mask, _fixed((x + 0.5 * radius, y - 0.2 * radius)), round(radius * 14), 0, -1, cv2.LINE_AA, 4)
    blend(canvas, mask, DISCS[scene.time])


def _draw_clouds(canvas: Canvas, scene: Scene, rng: np.random.Generator, horizon_px: float) -> None:
    # Puffs are soft: a quarter of the resolution draws them 16 times faster and looks the same.
    small_w, small_h = max(canvas.width // 4, 16), max(canvas.height // 4, 16)
    scale = canvas.height / 4
    field = np.zeros((small_h, small_w), np.float32)
    streak = 2.2 if scene.time in ("sunset", "dawn") else 1.0
    columns, rows = np.arange(small_w, dtype=np.float32)[None, :], np.arange(small_h, dtype=np.float32)[:, None]
    count = {"few": 4, "many": 9}[scene.clouds]
    for _ in range(count):
        centre_x, centre_y = rng.uniform(-1.0, 1.0), rng.uniform(0.08, 0.62) * scene.horizon
        size = rng.uniform(0.05, 0.09)
        for _ in range(4):
            x = small_w / 2 + (centre_x + rng.normal() * size * 1.5 * streak) * scale
            y = (centre_y + rng.normal() * size * 0.22) * scale
            rx, ry = size * rng.uniform(0.8, 1.5) * streak * scale, size * rng.uniform(0.35, 0.6) * scale
            field += np.exp(-(((columns - x) / rx) ** 2) - ((rows - y) / ry) ** 2)
    mask = np.clip((field - 0.25) * 1.5, 0, 1) * 0.85
    mask = cv2.resize(mask, (canvas.width, canvas.height), interpolation=cv2.INTER_LINEAR)
    blend(canvas, mask, CLOUD_COLOURS[scene.time])


def _draw_ridges(canvas: Canvas, scene: Scene, rng: np.random.Generator, horizon_px: float) -> None:
    if scene.background == "none":
        return
    family = "hills" if scene.background == "hills" else "mountains"
    layers = 2 if family == "hills" else 3
    near, haze = np.array(RIDGES[family][scene.time], np.float32), np.array(HAZES[scene.time], np.float32)
    x = column_x(canvas)
    for layer in range(layers):
        depth = (layer + 1) / layers  # 1 is the nearest.
        if family == "hills":
            height = (0.20 - 0.09 * layer) * (0.75 + 0.5 * ridge(rng, x, 1.1, 3, 0.35))
        else:
            height = (0.40 - 0.125 * layer) * (0.45 + 0.65 * rough(rng, x, 1.7 + 0.6 * layer))
        top = horizon_px - height * canvas.height * scene.horizon / 0.6
        colour = haze + (near - haze) * (0.35 + 0.65 * depth)
        mask = polygon(canvas, top, horizon_px + 2)
        foot = haze * 0.45 + colour * 0.55
        span = max(float(horizon_px - top.min()), 1.0)
        fade = np.clip((np.arange(canvas.height, dtype=np.float32) - top.min()) / span, 0, 1)[:, None]
        blend(canvas, mask, (colour * (1 - fade) + foot * fade)[:, None, :])
        if scene.background == "snowy_mountains" and layer < 2:
            _draw_snowcaps(canvas, scene, rng, x, top, horizon_px, mask)


def _draw_snowcaps(
    canvas: Canvas,
    scene: Scene,
    rng: np.random.Generator,
    x: np.ndarray,
    top: np.ndarray,
    horizon_px: float,
    mask: np.ndarray,
) -> None:
    level = top.min() + 0.42 * (horizon_px - top.min())
    lower = level + 0.035 * canvas.height * (rough(rng, x, 9.0) - 0.5) * 2
    cap = polygon(canvas, top, np.maximum(lower, top))
    blend(canvas, np.minimum(cap, mask), SNOWCAPS[scene.time])
