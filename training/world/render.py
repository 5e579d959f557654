"""Draw a `Scene` at any size: sky, horizon, ground, things, weather, style.

Every part takes its random numbers from a generator of its own and places them in coordinates that do not depend on
the size, so that the same scene at another size or aspect ratio shows the same picture, only cut wider or narrower.
"""

import numpy as np

from training.world.grounds import draw_ground
from training.world.light import lit_thing
from training.world.paint import Canvas, between, blend, enlarge, gradient, mix, noise
from training.world.ridges import draw_background
from training.world.scenes import Scene
from training.world.shapes import draw_shapes
from training.world.sky import draw_precipitation, draw_sky
from training.world.styles import apply_style
from training.world.things import draw_things, stands_on_far_shore

WALLS = ((196, 206, 200), (222, 206, 180), (176, 190, 206), (206, 180, 170), (120, 132, 140))


def render(scene: Scene, width: int, height: int) -> np.ndarray:
    """Draw the scene.

    Args:
        scene: what to draw.
        width: pixels, at least 64.
        height: pixels, at least 64.

    Returns:
        (height, width, 3) uint8, RGB; always the same for the same arguments.
    """
    return _drawn(scene, Canvas.empty(width, height)).to_uint8()


def draw(scene: Scene, width: int, height: int) -> Canvas:
    """As `render`, but the whole canvas, which also knows where things and shapes are."""
    return _drawn(scene, Canvas.empty(width, height, notes_subject=True))


def _drawn(scene: Scene, canvas: Canvas) -> Canvas:
    if scene.kind == "shape":
        draw_shapes(scene, canvas)
        return canvas
    if scene.kind == "still":
        _draw_table(canvas, scene)
        draw_things(canvas, scene)
    else:
        _draw_scene(canvas, scene)
    apply_style(canvas, scene)
    return canvas


def _draw_scene(canvas: Canvas, scene: Scene) -> None:
    draw_sky(canvas, scene, np.random.default_rng([scene.seed, 1]))
    draw_background(canvas, scene, np.random.default_rng([scene.seed, 6]))
    if stands_on_far_shore(scene):
        draw_things(canvas, scene)
        draw_ground(canvas, scene, np.random.default_rng([scene.seed, 2]))
    else:
        draw_ground(canvas, scene, np.random.default_rng([scene.seed, 2]))
        draw_things(canvas, scene)
    if scene.time == "fog":
        _draw_fog(canvas, scene)
    draw_precipitation(canvas, scene, np.random.default_rng([scene.seed, 7]))


def _draw_fog(canvas: Canvas, scene: Scene) -> None:
    """Drifting veils, thickest at the horizon."""
    veil = enlarge(noise(np.random.default_rng([scene.seed, 8]), canvas, 0.30, 4, 3.0, 4), canvas)
    rows = np.arange(canvas.height, dtype=np.float32)[:, None] / canvas.height
    thick = np.exp(-(((rows - scene.horizon) / 0.22) ** 2))
    blend(canvas, np.clip(0.10 + 0.75 * thick * veil, 0, 0.8).astype(np.float32), (216, 221, 225))


def _draw_table(canvas: Canvas, scene: Scene) -> None:
    """A wall in soft window light and a wooden table, for still lifes."""
    rng = np.random.default_rng([scene.seed, 1])
    wall = lit_thing(scene, WALLS[int(rng.integers(len(WALLS)))])
    edge = 0.62 * canvas.height
    columns = np.linspace(0, 1, canvas.width, dtype=np.float32)[None, :]
    light = 1.12 - 0.42 * np.abs(columns - (0.1 if scene.light_x < 0.5 else 0.9))
    canvas.pixels[:] = gradient([wall * 0.92, wall], canvas.height, edge)[:, None, :] * light[..., None]
    grain = enlarge(noise(rng, canvas, 0.03, 3, 9.0, 2), canvas)[..., None]
    wood = lit_thing(scene, (150, 104, 66)) * (0.78 + 0.4 * grain) * light[..., None]
    near = np.clip((np.arange(canvas.height, dtype=np.float32) - edge) / (canvas.height - edge), 0, 1)[:, None, None]
    blend(canvas, between(canvas, edge, canvas.height + 4.0), mix(wood, wood * 0.8, near))
    blend(canvas, between(canvas, edge, edge + 0.012 * canvas.height), wood * 1.25)
