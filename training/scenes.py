"""The world the model knows: a small, seeded description of one picture.

A `Scene` holds only words and normalised numbers. It has no size, so one scene can be drawn at any width and height
(`render.py`) and described in many ways (`captions.py`).
"""

from dataclasses import asdict, dataclass, fields

import numpy as np

TIMES = ("day", "sunset", "dawn", "night")
GROUNDS = ("lake", "sea", "beach", "meadow", "field", "forest", "desert", "snow")
BACKGROUNDS = ("none", "hills", "mountains", "snowy_mountains")
CLOUDS = ("none", "few", "many")
OBJECTS = ("none", "house", "boat", "tree", "balloon")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white", "black")
SHAPES = ("circle", "square", "triangle", "star", "heart")
PLAINS = ("white", "black", "grey", "light_blue", "cream")

# What every attribute can be; index 0.. is the class number used by the text heads and the checker.
VOCABULARY: dict[str, tuple[str, ...]] = {
    "kind": ("scene", "shape"),
    "time": TIMES,
    "ground": GROUNDS,
    "background": BACKGROUNDS,
    "clouds": CLOUDS,
    "light": ("hidden", "sun", "moon"),
    "thing": OBJECTS,
    "thing_colour": COLOURS,
    "shape": SHAPES,
    "shape_colour": COLOURS,
    "plain": PLAINS,
}

SHAPE_SHARE = 0.07  # Enough to learn plain shapes without taking capacity from landscapes.
WATER = ("lake", "sea", "beach")


@dataclass(frozen=True, slots=True)
class Scene:
    """One picture in words and numbers in [0, 1]; `seed` decides every remaining detail (ridges, stars, waves)."""

    seed: int
    kind: str
    time: str
    ground: str
    background: str
    clouds: str
    light: str
    light_x: float
    light_y: float  # Height above the horizon as a share of the sky.
    horizon: float  # Share of the picture's height that lies above the ground.
    thing: str
    thing_colour: str
    thing_x: float
    shape: str
    shape_colour: str
    plain: str

    def labels(self) -> dict[str, int]:
        """Class number of every attribute in `VOCABULARY`; -1 where the attribute is not part of the picture."""
        in_scene = {"time", "ground", "background", "clouds", "light", "thing", "thing_colour"}
        out = {}
        for name, words in VOCABULARY.items():
            applies = name == "kind" or (name in in_scene) == (self.kind == "scene")
            if name == "thing_colour" and self.thing == "none":
                applies = False
            out[name] = words.index(getattr(self, name)) if applies else -1
        return out

    def to_dict(self) -> dict[str, object]:
        """Plain values, for JSON."""
        return asdict(self)


def _choose(rng: np.random.Generator, words: tuple[str, ...], weights: tuple[float, ...] | None = None) -> str:
    p = None if weights is None else np.asarray(weights) / sum(weights)
    return words[int(rng.choice(len(words), p=p))]


def sample_scene(seed: int) -> Scene:
    """Draw the scene that belongs to `seed`; the same seed gives the same scene on every machine."""
    rng = np.random.default_rng(seed)
    kind = "shape" if rng.random() < SHAPE_SHARE else "scene"
    time = _choose(rng, TIMES)
    # Mountains over a lake is the picture newcomers ask for: a little more of both.
    ground = _choose(rng, GROUNDS, (1.5, 1.1, 1, 1.2, 1, 1.2, 1, 1.1))
    backgrounds = (2.2, 0.8, 1.0, 0.6) if ground in ("sea", "beach") else (1.0, 1.2, 2.4, 1.2)
    background = _choose(rng, BACKGROUNDS, backgrounds)
    clouds = _choose(rng, CLOUDS, (1, 1.2, 0.8))
    lit = rng.random() < (0.85 if time in ("sunset", "dawn") else 0.7)
    light = "hidden" if not lit else ("moon" if time == "night" else "sun")
    low = time in ("sunset", "dawn")
    things = {
        "house": ("lake", "meadow", "field", "snow", "desert"),
        "tree": ("meadow", "field", "snow", "desert", "lake"),
    }
    thing = "none"
    if rng.random() < 0.4:
        choices = ["balloon"]
        choices += [name for name, grounds in things.items() if ground in grounds]
        choices += ["boat"] if ground in WATER else []
        thing = choices[int(rng.integers(len(choices)))]
    colours = {"tree": ("green",), "house": ("red", "blue", "white", "yellow"), "boat": ("white", "red", "yellow")}
    return Scene(
        seed=seed,
        kind=kind,
        time=time,
        ground=ground,
        background=background,
        clouds=clouds,
        light=light,
        light_x=float(rng.uniform(0.2, 0.8)),
        light_y=float(rng.uniform(0.12, 0.4) if low else rng.uniform(0.6, 0.82)),
        horizon=float(rng.uniform(0.56, 0.64)),
        thing=thing,
        thing_colour=_choose(rng, colours.get(thing, ("red", "orange", "yellow", "blue", "purple", "green"))),
        thing_x=float(rng.uniform(0.22, 0.78)),
        shape=_choose(rng, SHAPES),
        shape_colour=_choose(rng, COLOURS[:7]),
        plain=_choose(rng, PLAINS),
    )


def scene_from_dict(values: dict[str, object]) -> Scene:
    """Inverse of `Scene.to_dict`."""
    return Scene(**{field.name: values[field.name] for field in fields(Scene)})
