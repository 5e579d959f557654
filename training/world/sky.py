"""The sky: gradient, stars, sun or moon with glow and rays, clouds, rainbow, rain, snow, lightning."""

import cv2
import numpy as np

from training.world.light import hour_of
from training.world.paint import Canvas, blend, brighten, enlarge, gradient, mix, noise
from training.world.scenes import Scene

RAINBOW = ((226, 60, 60), (244, 150, 50), (250, 226, 80), (90, 196, 96), (70, 130, 226), (130, 80, 190))
COARSE = 4  # Soft light is computed on every fourth pixel and enlarged.


def light_position(scene: Scene, canvas: Canvas) -> tuple[float, float]:
    """Column and row of the sun or moon in pixels."""
    return scene.light_x * canvas.width, scene.horizon * canvas.height * (1 - scene.light_y)


def draw_sky(canvas: Canvas, scene: Scene, rng: np.random.Generator) -> None:
    """Fill the whole canvas with sky, lights and clouds, in place."""
    hour, horizon_px = hour_of(scene), scene.horizon * canvas.height
    shift = rng.uniform(-7, 7, 3)
    stops = [np.clip(np.add(stop, shift), 0, 255) for stop in hour.sky]
    canvas.pixels[:] = gradient(stops, canvas.height, horizon_px)[:, None, :]
    if scene.time == "night":
        _draw_stars(canvas, scene, rng, horizon_px)
    _draw_light(canvas, scene, rng)
    if scene.clouds != "none":
        _draw_clouds(canvas, scene, rng, horizon_px)
    if scene.weather == "rainbow":
        _draw_rainbow(canvas, scene, rng, horizon_px)
    if scene.weather == "lightning":
        _draw_lightning(canvas, rng, horizon_px)


def _draw_stars(canvas: Canvas, scene: Scene, rng: np.random.Generator, horizon_px: float) -> None:
    # A soft band of the Milky Way first, then single stars, a few of them large.
    band = noise(rng, canvas, 0.35, 3, coarse=COARSE)
    rows = np.linspace(0, canvas.height / horizon_px, band.shape[0], dtype=np.float32)[:, None]
    brighten(canvas, enlarge(np.clip(band - 0.45, 0, 1) * np.clip(1 - rows, 0, 1) * 0.55, canvas), (120, 130, 190))
    mask = np.zeros((canvas.height, canvas.width), np.uint8)
    for index in range(70 if scene.clouds != "many" else 30):
        world_x, v = rng.uniform(-1.6, 1.6), rng.uniform(0, 0.92)
        size, glow = rng.uniform(0.0022, 0.0042) * (1.7 if index < 9 else 1), rng.uniform(0.55, 1)
        centre = (canvas.width / 2 + world_x * canvas.height, v * horizon_px)
        radius = max(size * canvas.short, 0.7)
        cv2.circle(mask, _fixed(centre), round(radius * 16), int(255 * glow), -1, cv2.LINE_AA, 4)
    blend(canvas, mask.astype(np.float32) / 255, (255, 255, 240))


def _fixed(point: tuple[float, float]) -> tuple[int, int]:
    return round(point[0] * 16), round(point[1] * 16)


def _grid(canvas: Canvas) -> tuple[np.ndarray, np.ndarray]:
    """Columns (1, w/4) and rows (h/4, 1) of the coarse field, in pixels of the canvas."""
    width, height = max(canvas.width // COARSE, 8), max(canvas.height // COARSE, 8)
    x = (np.arange(width, dtype=np.float32) + 0.5)[None, :] * (canvas.width / width)
    return x, (np.arange(height, dtype=np.float32) + 0.5)[:, None] * (canvas.height / height)


def _draw_light(canvas: Canvas, scene: Scene, rng: np.random.Generator) -> None:
    hour, low = hour_of(scene), scene.time in ("sunset", "dawn")
    x, y = light_position(scene, canvas)
    columns, rows = _grid(canvas)
    dx, dy = (columns - x) / canvas.height, (rows - y) / canvas.height
    rays_phase, rays_share = rng.uniform(0, 2 * np.pi, 3), rng.uniform(0.12, 0.3)
    if scene.light != "hidden" or low:
        # A low sun lights a wide, flat part of the sky, seen or not.
        wide, tall = (0.75, 0.32) if low else (0.26, 0.26)
        distance = np.sqrt((dx / wide) ** 2 + (dy / tall) ** 2 + 0.02)
        glow = np.exp(-1.6 * distance) * (0.85 if low else 0.7)
        if scene.light == "sun":
            angle = np.arctan2(dy, dx)
            beams = sum(np.sin(k * angle + p) for k, p in zip((5, 9, 13), rays_phase, strict=True)) / 3
            glow = glow + rays_share * np.clip(beams, 0, 1) * np.exp(-1.1 * distance)
        brighten(canvas, enlarge(np.clip(glow, 0, 1), canvas), hour.glow)
    if scene.light == "hidden":
        return
    radius = (0.06 if scene.light == "moon" else 0.066) * canvas.short * rng.uniform(0.95, 1.2)
    mask = np.zeros((canvas.height, canvas.width), np.uint8)
    cv2.circle(mask, _fixed((x, y)), round(radius * 16), 255, -1, cv2.LINE_AA, 4)
    if scene.light == "moon" and rng.random() < 0.5:
        cv2.circle(mask, _fixed((x + 0.5 * radius, y - 0.2 * radius)), round(radius * 14), 0, -1, cv2.LINE_AA, 4)
    with canvas.drawing_subject():
        blend(canvas, mask.astype(np.float32) / 255, hour.disc)


def _shifted(field: np.ndarray, down: float, right: float) -> np.ndarray:
    """A coarse field moved by shares of its height; what moves in repeats the border."""
    matrix = np.array([[1, 0, right * len(field)], [0, 1, down * len(field)]], np.float64)
    return cv2.warpAffine(field, matrix, field.shape[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _draw_clouds(canvas: Canvas, scene: Scene, rng: np.random.Generator, horizon_px: float) -> None:
    hour = hour_of(scene)
    stretch = 3.6 if scene.time in ("sunset", "dawn") else 2.2
    density = noise(rng, canvas, 0.24, 5, stretch=stretch, coarse=COARSE)
    rows = np.linspace(0, canvas.height / horizon_px, density.shape[0], dtype=np.float32)[:, None]
    # Fewer and flatter towards the horizon; a storm covers everything.
    cover = {"few": 0.60, "many": 0.47}[scene.clouds] + 0.16 * np.clip(rows - 0.55, 0, 1)
    if scene.time == "storm":
        cover = 0.20 + 0.25 * rows
    mask = np.clip((density - cover) * 5.0, 0, 1) * np.clip((1.0 - rows) * 6, 0, 1)
    if scene.time in ("sunset", "dawn"):  # Lit from the side, where the cloud is thinner towards the light.
        toward = _shifted(density, 0.016, 0.012 if scene.light_x < 0.5 else -0.012)
        shade = np.clip(0.5 + (toward - density) * 5.0, 0, 1)
    else:  # Lit from above, and darker where thick.
        shade = np.clip(0.25 + (density - _shifted(density, -0.012, 0)) * 6.0 + (density - cover) * 0.8, 0, 1)
    colour = mix(hour.cloud, hour.cloud_shade, enlarge(shade, canvas)[..., None])
    blend(canvas, enlarge(mask * 0.92, canvas), colour)


def _draw_rainbow(canvas: Canvas, scene: Scene, rng: np.random.Generator, horizon_px: float) -> None:
    # Opposite the sun, as in nature.
    centre_x = canvas.width * (0.62 if scene.light_x < 0.5 else 0.38) + rng.uniform(-0.06, 0.06) * canvas.width
    columns, rows = np.arange(canvas.width, dtype=np.float32)[None, :], np.arange(canvas.height, dtype=np.float32)
    radius = 0.86 * horizon_px
    band = 0.028 * canvas.height
    distance = np.sqrt((columns - centre_x) ** 2 + (rows[:, None] - horizon_px) ** 2)
    place = np.clip((radius - distance) / band, -0.5, len(RAINBOW) - 0.5)
    table = np.asarray(RAINBOW, np.float32)
    colour = np.stack([np.interp(place, np.arange(len(RAINBOW)), table[:, c]) for c in range(3)], axis=-1)
    inside = np.clip((place + 0.5) * 2, 0, 1) * np.clip((len(RAINBOW) - 0.5 - place) * 2, 0, 1)
    mask = inside * (rows < horizon_px)[:, None] * 0.72
    blend(canvas, mask.astype(np.float32), colour.astype(np.float32))


def _draw_lightning(canvas: Canvas, rng: np.random.Generator, horizon_px: float) -> None:
    x = rng.uniform(0.25, 0.75) * canvas.width
    points = [(x, 0.0)]
    for step in range(1, 9):
        x += rng.uniform(-0.055, 0.055) * canvas.height
        points.append((x, step / 8 * horizon_px))
    mask = np.zeros((canvas.height, canvas.width), np.uint8)
    line = [np.round(np.array(points) * 16).astype(np.int32)]
    thickness = max(round(0.014 * canvas.short), 2)
    cv2.polylines(mask, line, False, 255, thickness, cv2.LINE_AA, 4)
    branch = np.array([points[4], (points[4][0] + 0.12 * canvas.height * rng.choice((-1, 1)), 0.82 * horizon_px)])
    cv2.polylines(mask, [np.round(branch * 16).astype(np.int32)], False, 255, max(thickness // 2, 1), cv2.LINE_AA, 4)
    small = cv2.resize(mask, (max(canvas.width // 8, 8), max(canvas.height // 8, 8)), interpolation=cv2.INTER_AREA)
    halo = enlarge(cv2.GaussianBlur(small.astype(np.float32) / 255, (0, 0), 0.045 * canvas.short / 8), canvas)
    brighten(canvas, np.clip(2.2 * halo, 0, 0.75), (206, 214, 255))
    blend(canvas, mask.astype(np.float32) / 255, (250, 250, 255))


def draw_precipitation(canvas: Canvas, scene: Scene, rng: np.random.Generator) -> None:
    """Rain or snow over everything else, in place."""
    if scene.weather not in ("rain", "snowfall"):
        return
    mask = np.zeros((canvas.height, canvas.width), np.uint8)
    rain = scene.weather == "rain"
    for _ in range(150 if rain else 120):
        x, y = canvas.width / 2 + rng.uniform(-1.7, 1.7) * canvas.height, rng.uniform(-0.05, 1) * canvas.height
        if rain:
            length = rng.uniform(0.05, 0.10) * canvas.height
            end = (x - 0.25 * length, y + length)
            cv2.line(mask, _fixed((x, y)), _fixed(end), 130, max(round(0.004 * canvas.short), 1), cv2.LINE_AA, 4)
        else:
            radius = max(rng.uniform(0.004, 0.011) * canvas.short, 0.8)
            cv2.circle(mask, _fixed((x, y)), round(radius * 16), 235, -1, cv2.LINE_AA, 4)
    blend(canvas, mask.astype(np.float32) / 255, (196, 206, 218) if rain else (250, 252, 255))
