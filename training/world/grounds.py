"""The ten grounds below the horizon: lake, sea, beach, meadow, field, forest, desert, snow, river, road."""

import cv2
import numpy as np

from training.world.light import GREENS, hour_of, lit, lit_snow
from training.world.paint import (
    Canvas,
    between,
    blend,
    brighten,
    column_x,
    enlarge,
    gradient,
    mix,
    noise,
    polygon_mask,
    ridge,
)
from training.world.scenes import Scene
from training.world.sky import light_position

FLOWERS = {"summer": ((250, 214, 64), (240, 92, 96), (250, 250, 250)), "spring": ((246, 150, 196), (250, 250, 250))}


def draw_ground(canvas: Canvas, scene: Scene, rng: np.random.Generator) -> None:
    """Paint everything below the horizon, in place; still water mirrors what the canvas shows above it."""
    painters = {
        "lake": _lake, "sea": _sea, "beach": _beach, "meadow": _meadow, "field": _field,
        "forest": _forest, "desert": _desert, "snow": _snow, "river": _river, "road": _road,
    }  # fmt: skip
    painters[scene.ground](canvas, scene, rng, scene.horizon * canvas.height)


def _nearness(canvas: Canvas, horizon_px: float) -> np.ndarray:
    """(h, 1) float32: 0 at the horizon and above, 1 at the lower edge."""
    rows = np.arange(canvas.height, dtype=np.float32)[:, None]
    return np.clip((rows - horizon_px) / (canvas.height - horizon_px), 0, 1)


def _base(canvas: Canvas, horizon_px: float, far: np.ndarray, near: np.ndarray) -> None:
    ramp = gradient([far, near], canvas.height, canvas.height - horizon_px)
    start = round(horizon_px)
    canvas.pixels[start:] = ramp[: canvas.height - start, None, :]


def _texture(
    canvas: Canvas, rng: np.random.Generator, horizon_px: float, strength: float, stretch: float = 3.0
) -> None:
    """Make the ground's brightness uneven: finer spots far away than near, as perspective has it."""
    start = round(horizon_px)
    near, far = (enlarge(noise(rng, canvas, c, 3, stretch, 2), canvas)[start:] for c in (0.12, 0.04))
    share = _nearness(canvas, horizon_px)[start:]
    factor = 1 + strength * (mix(far, near, share) - 0.5)
    canvas.pixels[start:] *= factor[..., None]


def _glitter(canvas: Canvas, scene: Scene, rng: np.random.Generator, horizon_px: float) -> None:
    """Waves all over, and the path of light below the sun or moon."""
    hour, near = hour_of(scene), _nearness(canvas, horizon_px)
    ripples = enlarge(noise(rng, canvas, 0.030, 2, 7.0, 2), canvas)
    blend(
        canvas, (np.clip((ripples - 0.58) * 4, 0, 1) * (near > 0) * (0.12 + 0.16 * near)).astype(np.float32), hour.glow
    )
    if scene.light == "hidden":
        return
    x, _ = light_position(scene, canvas)
    columns = np.arange(canvas.width, dtype=np.float32)[None, :]
    width = (0.035 + 0.11 * near) * canvas.height
    path = np.exp(-(((columns - x) / width) ** 2)) * (near > 0)
    sparkle = np.clip((ripples - 0.40) * 3.2, 0, 1)
    brighten(canvas, (path * (0.35 + 0.65 * sparkle) * 0.85).astype(np.float32), hour.glow)


def _mirror(canvas: Canvas, scene: Scene, rng: np.random.Generator, horizon_px: float) -> None:
    """Still water: the picture above the horizon upside down, rippled, darker and bluer towards the viewer."""
    start = round(horizon_px)
    rows, columns = np.mgrid[start : canvas.height, 0 : canvas.width].astype(np.float32)
    depth = (rows - horizon_px) / (canvas.height - horizon_px)
    ripples = enlarge(noise(rng, canvas, 0.035, 2, 6.0, 2), canvas)[start:] - 0.5
    source = np.clip(2 * horizon_px - rows + ripples * depth * 0.10 * canvas.height, 0, start - 1)
    image = cv2.remap(
        canvas.pixels[:start], columns + ripples * depth * 0.05 * canvas.height, source, cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT,
    )  # fmt: skip
    water = gradient(hour_of(scene).water, canvas.height, canvas.height - horizon_px)[: canvas.height - start, None, :]
    canvas.pixels[start:] = mix(image * 0.92, water, (0.22 + 0.45 * depth)[..., None])


def _bank(canvas: Canvas, scene: Scene, rng: np.random.Generator, horizon_px: float) -> None:
    """The far shore as a thin line of trees, and the near one as a strip of grass."""
    far, near = _grass(scene)
    x = column_x(canvas)
    height = (0.012 + 0.012 * ridge(rng, x, 2.3, 3, 0.6)) * canvas.height
    blend(canvas, between(canvas, horizon_px - height, horizon_px + 0.006 * canvas.height), mix(near, far, 0.2) * 0.62)
    top = canvas.height * (0.985 - 0.075 * ridge(rng, x, 0.5, 2, 0.5))
    mask = between(canvas, top, canvas.height + 4.0)
    blend(canvas, mask, mix(near, near * 0.6, _nearness(canvas, float(top.min()))[..., None]))


def _lake(canvas: Canvas, scene: Scene, rng: np.random.Generator, horizon_px: float) -> None:
    _mirror(canvas, scene, rng, horizon_px)
    _glitter(canvas, scene, rng, horizon_px)
    _bank(canvas, scene, rng, horizon_px)


def _sea(canvas: Canvas, scene: Scene, rng: np.random.Generator, horizon_px: float) -> None:
    far, near = hour_of(scene).water
    _base(canvas, horizon_px, np.asarray(far, np.float32), np.asarray(near, np.float32))
    swell = enlarge(noise(rng, canvas, 0.075, 3, 5.0, 2), canvas)
    canvas.pixels *= 1 + (0.34 * (swell - 0.5) * _nearness(canvas, horizon_px))[..., None]
    _glitter(canvas, scene, rng, horizon_px)


def _beach(canvas: Canvas, scene: Scene, rng: np.random.Generator, horizon_px: float) -> None:
    _sea(canvas, scene, rng, horizon_px)
    x = column_x(canvas)
    slant = rng.uniform(-0.10, 0.10)
    line = horizon_px + (canvas.height - horizon_px) * (0.46 + slant * x + 0.12 * (ridge(rng, x, 0.7, 3, 0.4) - 0.5))
    foam = 0.022 * canvas.height * (0.6 + 0.8 * ridge(rng, x, 3.0, 2, 0.5))
    wet, dry = lit(scene, (170, 140, 104)), lit(scene, (240, 216, 166))
    blend(canvas, between(canvas, line - foam, line + 2), lit_snow(scene, (250, 252, 255)))
    ramp = np.clip(_nearness(canvas, float(line.mean())) * 2.2, 0, 1)
    blend(canvas, between(canvas, line, canvas.height + 4.0), mix(wet, dry, ramp[..., None]))
    _texture(canvas, rng, float(line.max()), 0.10)


def _grass(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    far, near, _, _ = GREENS[scene.season]
    paint = lit_snow if scene.season == "winter" else lit
    return paint(scene, far), paint(scene, near)


def _meadow(canvas: Canvas, scene: Scene, rng: np.random.Generator, horizon_px: float) -> None:
    far, near = _grass(scene)
    _base(canvas, horizon_px, mix(far, hour_of(scene).haze, 0.35), near)
    x = column_x(canvas)
    for depth, share in ((0.12, 0.15), (0.36, 0.5), (0.66, 1.0)):
        top = horizon_px + (canvas.height - horizon_px) * (depth + 0.20 * (ridge(rng, x, 0.55, 2, 0.4) - 0.5))
        # Each slope is lit along its crest and falls into shadow.
        fall = np.clip((np.arange(canvas.height, dtype=np.float32)[:, None] - top) / (0.16 * canvas.height), 0, 1)
        colour = mix(mix(far, near, share) * 1.08, mix(far, near, share) * 0.8, fall[..., None])
        blend(canvas, between(canvas, top, canvas.height + 4.0), colour)
    _texture(canvas, rng, horizon_px, 0.26, 1.2)
    for colour in FLOWERS.get(scene.season, ()):
        for _ in range(16):
            u, depth = rng.uniform(-1.5, 1.5), rng.uniform(0.3, 1.0)
            centre = (canvas.width / 2 + u * canvas.height, horizon_px + (canvas.height - horizon_px) * depth)
            _dot(canvas, centre, canvas.height * 0.014 * (0.25 + 0.75 * depth), lit(scene, colour))


def _dot(canvas: Canvas, centre: tuple[float, float], radius: float, colour: np.ndarray) -> None:
    turn = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    points = np.stack([np.cos(turn), 0.8 * np.sin(turn)], axis=1) * radius + centre
    if (found := polygon_mask(points, canvas.width, canvas.height)) is not None:
        mask, rows, columns = found
        part = canvas.pixels[rows, columns]
        part += mask[..., None] * (colour - part)


def _rays(canvas: Canvas, horizon_px: float, far_x: float, offset: float, step: float) -> np.ndarray:
    """Furrows that meet at one far point: (h, w) float32 mask."""
    mask = np.zeros((canvas.height, canvas.width), np.uint8)
    for index in range(-18, 19):
        left = far_x + (index + offset) * step * canvas.height
        points = np.array(
            [[far_x, horizon_px], [left, canvas.height + 2], [left + 0.45 * step * canvas.height, canvas.height + 2]]
        )
        cv2.fillPoly(mask, [np.round(points * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    mask[: round(horizon_px)] = 0
    return mask.astype(np.float32) / 255


def _field(canvas: Canvas, scene: Scene, rng: np.random.Generator, horizon_px: float) -> None:
    far, near = lit(scene, (238, 210, 118)), lit(scene, (214, 164, 54))
    _base(canvas, horizon_px, mix(far, hour_of(scene).haze, 0.3), near)
    far_x = canvas.width / 2 + rng.uniform(-0.2, 0.2) * canvas.height
    furrows = _rays(canvas, horizon_px, far_x, rng.uniform(0, 1), 0.2)
    blend(canvas, furrows * np.clip(_nearness(canvas, horizon_px) * 3, 0, 1) * 0.8, lit(scene, (160, 112, 34)))
    _texture(canvas, rng, horizon_px, 0.22, 1.0)


def _forest(canvas: Canvas, scene: Scene, rng: np.random.Generator, horizon_px: float) -> None:
    season, hour = GREENS[scene.season], hour_of(scene)
    paint = lit_snow if scene.season == "winter" else lit
    _base(canvas, horizon_px, lit(scene, (52, 104, 66)), lit(scene, (22, 62, 36)))
    needles = np.asarray(season[3], np.float32) if scene.season != "autumn" else np.asarray((196, 110, 40), np.float32)
    for depth, size, shade, haze in ((0.0, 0.17, 1.5, 0.42), (0.3, 0.26, 1.12, 0.18), (0.78, 0.42, 0.74, 0.0)):
        base = horizon_px + (canvas.height - horizon_px) * depth
        step = size * 0.40 * canvas.height
        count = int(7.0 * canvas.height / step)
        jitter, tall = rng.uniform(-0.3, 0.3, count), rng.uniform(0.65, 1.15, count)
        points = [(-8.0, canvas.height + 8.0)]
        for index in range(count):
            x = canvas.width / 2 + (index - count / 2 + jitter[index]) * step
            top = base - size * 0.62 * canvas.height * tall[index]
            foot = base + 0.05 * canvas.height
            # Two tiers of branches give a fir its saw-tooth outline.
            points += [
                (x - step * 0.55, foot),
                (x - step * 0.22, (top + foot) / 2),
                (x - step * 0.34, (top + foot) / 2),
            ]
            points += [(x, top), (x + step * 0.34, (top + foot) / 2), (x + step * 0.22, (top + foot) / 2)]
        points += [(canvas.width + 8.0, base), (canvas.width + 8.0, canvas.height + 8.0)]
        mask = np.zeros((canvas.height, canvas.width), np.uint8)
        cv2.fillPoly(mask, [np.round(np.array(points) * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
        colour = mix(paint(scene, np.clip(needles * shade, 0, 255)), hour.haze, haze * hour.mist)
        fall = np.clip(
            (np.arange(canvas.height, dtype=np.float32)[:, None] - base + 0.2 * canvas.height) / (0.4 * canvas.height),
            0,
            1,
        )
        blend(canvas, mask.astype(np.float32) / 255, mix(colour * 1.12, colour * 0.66, fall[..., None]))


def _desert(canvas: Canvas, scene: Scene, rng: np.random.Generator, horizon_px: float) -> None:
    far, near = lit(scene, (246, 204, 140)), lit(scene, (222, 150, 76))
    _base(canvas, horizon_px, mix(far, hour_of(scene).haze, 0.35), near)
    x, side = column_x(canvas), 1 if scene.light_x < 0.5 else -1
    for depth, light, shade in ((0.04, 0.1, 0.84), (0.3, 0.5, 0.76), (0.64, 0.9, 0.7)):
        height = canvas.height - horizon_px
        top = horizon_px + height * (depth + 0.30 * (1 - ridge(rng, x, 0.62, 2, 0.3)))
        colour = mix(far, near, light)
        blend(canvas, between(canvas, top, canvas.height + 4.0), colour * 1.06)
        # The shaded side starts at the crest and runs down on the far side from the light.
        slope = np.gradient(top) * 2.4 * side
        lower = top + np.clip(slope, 0, 1.2) * 0.22 * canvas.height
        blend(canvas, between(canvas, top, np.maximum(lower, top)), colour * shade)
    _texture(canvas, rng, horizon_px, 0.10, 6.0)


def _snow(canvas: Canvas, scene: Scene, rng: np.random.Generator, horizon_px: float) -> None:
    _base(canvas, horizon_px, lit_snow(scene, (224, 234, 248)), lit_snow(scene, (250, 252, 255)))
    x = column_x(canvas)
    for depth in (0.10, 0.36, 0.66):
        top = horizon_px + (canvas.height - horizon_px) * (depth + 0.22 * (ridge(rng, x, 0.6, 2, 0.4) - 0.5))
        fall = np.clip((np.arange(canvas.height, dtype=np.float32)[:, None] - top) / (0.15 * canvas.height), 0, 1)
        colour = mix(lit_snow(scene, (252, 253, 255)), lit_snow(scene, (196, 212, 236)), fall[..., None])
        blend(canvas, between(canvas, top, canvas.height + 4.0), colour)
    _texture(canvas, rng, horizon_px, 0.05, 4.0)


def _river(canvas: Canvas, scene: Scene, rng: np.random.Generator, horizon_px: float) -> None:
    _meadow(canvas, scene, rng, horizon_px)
    near = _nearness(canvas, horizon_px)
    bend, phase = rng.uniform(0.10, 0.2) * rng.choice((-1, 1)), rng.uniform(-0.4, 0.4)
    middle = canvas.width / 2 + (bend * np.sin(4.6 * np.sqrt(near) + phase) * (0.3 + near)) * canvas.height
    half = (0.016 + 0.30 * near**1.35) * canvas.height
    columns = np.arange(canvas.width, dtype=np.float32)[None, :]
    soft = 0.004 * canvas.height + 0.5
    shore = np.clip((half * 1.16 + soft - np.abs(columns - middle)) / soft, 0, 1) * (near > 0)
    blend(canvas, shore.astype(np.float32), _grass(scene)[1] * 0.55)
    mask = (np.clip((half - np.abs(columns - middle)) / soft, 0, 1) * (near > 0)).astype(np.float32)
    far, close = hour_of(scene).water
    ripples = enlarge(noise(rng, canvas, 0.035, 2, 6.0, 2), canvas)[..., None]
    blend(canvas, mask, mix(far, close, 0.85 * near[..., None]) * (0.86 + 0.3 * ripples))
    if scene.light != "hidden":
        x, _ = light_position(scene, canvas)
        path = (
            np.exp(-(((columns - x) / (0.16 * canvas.height)) ** 2))
            * mask
            * np.clip((ripples[..., 0] - 0.35) * 2, 0, 1)
        )
        brighten(canvas, 0.7 * path.astype(np.float32), hour_of(scene).glow)


def _road(canvas: Canvas, scene: Scene, rng: np.random.Generator, horizon_px: float) -> None:
    _meadow(canvas, scene, rng, horizon_px)
    far_x = canvas.width / 2 + rng.uniform(-0.08, 0.08) * canvas.height
    asphalt, paint = lit(scene, (104, 104, 110)), lit(scene, (246, 240, 226))

    def strip(from_x: float, to_x: float, top: float, bottom: float, colour: np.ndarray) -> None:
        """A piece of road: edges in shares of the road's half width, rows in shares of the ground."""
        rows = [horizon_px + (canvas.height - horizon_px) * v for v in (top, bottom)]
        half = [(0.008 + 0.40 * v) * canvas.height for v in (top, bottom)]
        middle = [far_x + (canvas.width / 2 - far_x) * v for v in (top, bottom)]
        corners = [(middle[0] + from_x * half[0], rows[0]), (middle[0] + to_x * half[0], rows[0])]
        corners += [(middle[1] + to_x * half[1], rows[1]), (middle[1] + from_x * half[1], rows[1])]
        if (found := polygon_mask(np.array(corners), canvas.width, canvas.height)) is not None:
            mask, span, columns = found
            part = canvas.pixels[span, columns]
            part += mask[..., None] * (colour - part)

    strip(-1.0, 1.0, 0.0, 1.02, asphalt)
    for edge in (-0.92, 0.87):
        strip(edge, edge + 0.05, 0.0, 1.02, paint)
    for index in range(5):
        start = 0.06 + 0.94 * (index / 5) ** 1.5
        strip(-0.04, 0.04, start, start + 0.05 + 0.12 * index / 5, paint)
