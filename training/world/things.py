"""Where a scene's things stand and how large they are; `structures.py` and `creatures.py` draw them."""

from collections.abc import Callable
from dataclasses import dataclass

from training.world import creatures, structures
from training.world.paint import Canvas, Colour
from training.world.pen import Pen
from training.world.scenes import COUNTS, Scene

COLOURS: dict[str, Colour] = {
    "red": (214, 40, 40),
    "orange": (242, 132, 30),
    "yellow": (246, 208, 46),
    "green": (44, 156, 70),
    "blue": (44, 96, 214),
    "purple": (132, 56, 180),
    "pink": (246, 132, 176),
    "white": (246, 246, 244),
    "black": (34, 34, 40),
    "brown": (140, 90, 52),
    "grey": (150, 152, 158),
}
PLACE_X = {"left": 0.24, "centre": 0.5, "right": 0.76}


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one kind of thing is placed.

    Attributes:
        draw: paints it with a pen.
        size: its height as a share of the picture's shorter side. One token covers 64 px, a quarter of the smallest
            picture; what is much smaller than that cannot be learned.
        width: of the thing over its height; several of a kind stand this far apart.
        depth: where its foot is: a share of the ground, from the horizon down; negative: a share of the sky, upwards.
    """

    draw: Callable[[Pen, Colour], None]
    size: float
    width: float
    depth: float


RECIPES = {
    "house": Recipe(structures.house, 0.36, 1.3, 0.34),
    "castle": Recipe(structures.castle, 0.46, 1.3, 0.26),
    "church": Recipe(structures.church, 0.46, 1.2, 0.30),
    "lighthouse": Recipe(structures.lighthouse, 0.56, 0.9, 0.14),
    "bridge": Recipe(structures.bridge, 0.20, 1.0, 0.34),
    "boat": Recipe(structures.boat, 0.38, 1.05, 0.34),
    "ship": Recipe(structures.ship, 0.26, 2.1, 0.24),
    "balloon": Recipe(structures.balloon, 0.40, 0.85, -0.32),
    "aeroplane": Recipe(structures.aeroplane, 0.19, 3.0, -0.55),
    "car": Recipe(structures.car, 0.23, 2.4, 0.66),
    "bird": Recipe(creatures.bird, 0.24, 1.9, -0.42),
    "cat": Recipe(creatures.cat, 0.44, 1.0, 0.82),
    "dog": Recipe(creatures.dog, 0.40, 1.5, 0.78),
    "horse": Recipe(creatures.horse, 0.46, 1.3, 0.62),
    "person": Recipe(creatures.person, 0.52, 0.5, 0.80),
    "tree": Recipe(creatures.tree, 0.52, 0.85, 0.36),
    "pine": Recipe(creatures.pine, 0.50, 0.70, 0.36),
    "palm": Recipe(creatures.palm, 0.56, 0.85, 0.62),
    "flower": Recipe(creatures.flower, 0.52, 0.70, 0.95),
    "apple": Recipe(creatures.apple, 0.34, 1.1, 0.5),
    "pear": Recipe(creatures.pear, 0.40, 0.95, 0.5),
    "banana": Recipe(creatures.banana, 0.28, 1.5, 0.5),
    "vase": Recipe(creatures.vase, 0.56, 0.8, 0.5),
}
AFLOAT = ("boat", "ship", "bridge", "lighthouse")  # These stand in the water, and are mirrored in front of them.
FAR_SHORE = ("house", "castle", "church", "tree", "pine")  # On a lake these stand beyond the water, and are mirrored.


def stands_on_far_shore(scene: Scene) -> bool:
    """Whether the thing has to be painted before the water that mirrors it."""
    return scene.ground == "lake" and scene.thing in FAR_SHORE


def draw_things(canvas: Canvas, scene: Scene) -> None:
    """Paint the scene's one to three things, in place.

    Size, place and facing follow from the scene's words: every outline that also moves by chance takes many more
    pictures to learn.
    """
    if scene.thing == "none":
        return
    recipe = RECIPES[scene.thing]
    count = 1 + COUNTS.index(scene.thing_count)
    size = recipe.size * canvas.short * (1.0, 0.80, 0.66)[count - 1]
    size = min(size, 0.96 * canvas.width / (count * recipe.width))
    half = 0.54 * count * recipe.width * size
    middle = PLACE_X.get(scene.thing_place, 0.5) * canvas.width
    middle = min(max(middle, half), canvas.width - half)
    if scene.thing == "bridge":
        middle = canvas.width / 2
    turned = scene.thing_place == "right"  # At the sides it faces the middle of the picture.
    with canvas.drawing_subject():
        for index in range(count):
            offset = (index - (count - 1) / 2) * recipe.width * size * 1.08
            _draw_one(canvas, scene, recipe, middle + offset, size, turned)


def _draw_one(canvas: Canvas, scene: Scene, recipe: Recipe, x: float, size: float, turned: bool) -> None:
    horizon_px, depth = scene.horizon * canvas.height, recipe.depth
    if stands_on_far_shore(scene):
        depth, size = 0.0, 0.85 * size
    if scene.ground == "beach" and scene.thing in ("boat", "ship"):
        depth = 0.18  # The sand begins below.
    if scene.kind == "still":
        y = 0.80 * canvas.height
    else:
        y = horizon_px + depth * (canvas.height - horizon_px if depth >= 0 else horizon_px)
    colour = COLOURS[scene.thing_colour]
    if scene.thing in AFLOAT and scene.ground != "beach":  # On a beach the mirror image would lie on the sand.
        recipe.draw(Pen(canvas, scene, x, y, size, turned, sunk=True, strength=0.28), colour)
    recipe.draw(Pen(canvas, scene, x, y, size, turned), colour)
