"""The world the model knows: a small, seeded description of one picture.

A `Scene` holds only words and normalised numbers. It has no size, so one scene can be drawn at any width and height
(`render.py`) and described in many ways (`captions.py`).
"""

from dataclasses import dataclass

import numpy as np

KINDS = ("scene", "still", "shape")
STYLES = ("photo", "watercolour", "oil", "sketch", "pixel", "poster")
TIMES = ("day", "sunset", "dawn", "night", "storm", "fog")
WEATHERS = ("dry", "rain", "snowfall", "rainbow", "lightning")
SEASONS = ("summer", "spring", "autumn", "winter")
GROUNDS = ("lake", "sea", "beach", "meadow", "field", "forest", "desert", "snow", "river", "road")
BACKGROUNDS = ("none", "hills", "mountains", "snowy_mountains", "city", "waterfall")
CLOUDS = ("none", "few", "many")
LIGHTS = ("hidden", "sun", "moon")
THINGS = (
    "none", "house", "castle", "church", "lighthouse", "bridge", "boat", "ship", "balloon", "aeroplane", "car", "bird",
    "cat", "dog", "horse", "person", "tree", "pine", "palm", "flower", "apple", "pear", "banana", "vase",
)  # fmt: skip
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white", "black", "brown", "grey")
PLACES = ("centre", "left", "right", "top", "bottom")
COUNTS = ("one", "two", "three")
SHAPES = ("circle", "square", "triangle", "star", "heart")
SIZES = ("medium", "small", "large")
RELATIONS = ("none", "left", "right", "above", "below")
PLAINS = ("white", "black", "grey", "light_blue", "cream")

# What every attribute can be; index 0.. is the class number used by the text heads and the checker.
VOCABULARY: dict[str, tuple[str, ...]] = {
    "kind": KINDS,
    "style": STYLES,
    "time": TIMES,
    "weather": WEATHERS,
    "season": SEASONS,
    "ground": GROUNDS,
    "background": BACKGROUNDS,
    "clouds": CLOUDS,
    "light": LIGHTS,
    "thing": THINGS,
    "thing_colour": COLOURS,
    "thing_count": COUNTS,
    "thing_place": PLACES,
    "shape": SHAPES,
    "shape_colour": COLOURS,
    "shape_count": COUNTS,
    "shape_size": SIZES,
    "shape_place": PLACES,
    "relation": RELATIONS,
    "other_shape": SHAPES,
    "other_colour": COLOURS,
    "plain": PLAINS,
}

KIND_SHARES = (0.80, 0.06, 0.14)
STYLE_SHARES = (0.78, 0.05, 0.05, 0.04, 0.04, 0.04)
THING_SHARE = 0.55
# Grounds that plants cover, and that therefore look different in every season.
GREEN = ("lake", "meadow", "forest", "river", "road")
_LAND = ("meadow", "field", "snow", "road", "desert")
# Where a thing can be; everything stays where a viewer would look for it.
HABITATS: dict[str, tuple[str, ...]] = {
    "house": ("lake", "river", "forest", *_LAND),
    "castle": ("lake", "meadow", "forest", "snow", "river"),
    "church": ("lake", "meadow", "field", "snow", "road"),
    "lighthouse": ("sea", "beach"),
    "bridge": ("river", "lake"),
    "boat": ("lake", "sea", "beach", "river"),
    "ship": ("sea", "beach"),
    "balloon": GROUNDS,
    "aeroplane": GROUNDS,
    "car": ("road", "desert", "field", "road"),
    "bird": GROUNDS,
    "cat": ("meadow", "field", "snow", "beach"),
    "dog": ("meadow", "field", "snow", "beach", "road"),
    "horse": ("meadow", "field", "snow", "beach", "desert"),
    "person": ("beach", "forest", *_LAND),
    "tree": ("meadow", "field", "snow", "lake", "river", "road"),
    "pine": ("snow", "meadow", "lake", "river"),
    "palm": ("beach", "desert"),
    "flower": ("meadow", "field"),
}
STILL_THINGS = ("apple", "pear", "banana", "vase")
_PAINTED = ("red", "blue", "white", "yellow", "green")
THING_COLOURS: dict[str, tuple[str, ...]] = {
    "house": ("red", "blue", "white", "yellow"),
    "castle": ("grey", "white"),
    "church": ("white",),
    "lighthouse": ("red", "white", "blue"),
    "bridge": ("grey", "red"),
    "boat": ("white", "red", "yellow", "blue"),
    "ship": ("white", "red", "black"),
    "balloon": ("red", "orange", "yellow", "blue", "purple", "green", "pink"),
    "aeroplane": ("white", "red", "blue", "yellow"),
    "car": (*_PAINTED, "black"),
    "bird": ("white", "black", "red", "blue"),
    "cat": ("orange", "black", "white", "grey"),
    "dog": ("brown", "white", "black"),
    "horse": ("brown", "white", "black"),
    "person": ("red", "blue", "yellow", "green", "white"),
    "flower": ("red", "yellow", "pink", "purple", "white", "orange"),
    "apple": ("red", "green", "yellow"),
    "pear": ("green", "yellow"),
    "banana": ("yellow",),
    "vase": ("red", "blue", "white", "yellow", "pink"),
}
FLYING = ("balloon", "aeroplane", "bird")
COUNTABLE = ("boat", "balloon", "bird", "tree", "pine", "palm", "flower", "horse", "apple", "pear")


@dataclass(frozen=True, slots=True)
class Scene:
    """One picture in words and numbers in [0, 1]; `seed` decides every remaining detail (ridges, stars, waves)."""

    seed: int
    kind: str
    style: str
    time: str
    weather: str
    season: str
    ground: str
    background: str
    clouds: str
    light: str
    light_x: float
    light_y: float  # Height above the horizon as a share of the sky.
    horizon: float  # Share of the picture's height that lies above the ground.
    thing: str
    thing_colour: str
    thing_count: str
    thing_place: str
    shape: str
    shape_colour: str
    shape_count: str
    shape_size: str
    shape_place: str
    relation: str  # Where the first shapes are, seen from the other shape; "none": there is no other shape.
    other_shape: str
    other_colour: str
    plain: str

    def labels(self) -> dict[str, int]:
        """Class number of every attribute in `VOCABULARY`; -1 where the attribute is not part of the picture."""
        applies = _applicable(self)
        return {name: words.index(getattr(self, name)) if name in applies else -1 for name, words in VOCABULARY.items()}


def _applicable(scene: Scene) -> set[str]:
    names = {"kind", "style"}
    if scene.kind == "shape":
        names |= {"shape", "shape_colour", "shape_count", "shape_size", "relation", "plain"}
        names |= {"shape_place"} if scene.relation == "none" else {"other_shape", "other_colour"}
        return names
    names |= {"thing"}
    if scene.thing in THING_COLOURS:
        names.add("thing_colour")
    if scene.thing not in ("none", "bridge"):
        names |= {"thing_count", "thing_place"}
    if scene.kind == "scene":
        names |= {"ground", "background", "clouds", "light"}
        names |= {"time", "weather"} if scene.style != "sketch" else set()
        names |= {"season"} if scene.ground in GREEN else set()
    return names


def _choose(rng: np.random.Generator, words: tuple[str, ...], weights: tuple[float, ...] | None = None) -> str:
    p = None if weights is None else np.asarray(weights) / sum(weights)
    return words[int(rng.choice(len(words), p=p))]


def _pick(rng: np.random.Generator, values: tuple[float, ...]) -> float:
    return values[int(len(values) * rng.uniform())]


def sample_scene(seed: int) -> Scene:
    """Draw the scene that belongs to `seed`; the same seed gives the same scene on every machine."""
    rng = np.random.default_rng(seed)
    values: dict[str, object] = {"seed": seed, "kind": _choose(rng, KINDS, KIND_SHARES)}
    values["style"] = _choose(rng, STYLES, STYLE_SHARES) if values["kind"] != "shape" else "photo"
    values |= _sample_nature(rng)
    values |= _sample_thing(rng, str(values["kind"]), str(values["ground"]))
    values |= _sample_shapes(rng)
    before_city = ("boat", "bridge", "balloon", "aeroplane", "car")
    if (values["kind"], values["background"]) == ("scene", "city") and values["thing"] not in before_city:
        values["thing"] = "none"  # A skyline is the subject; a house before it would only hide it.
    if values["style"] == "sketch":  # A pencil knows no hour: its pictures are drawn by plain daylight.
        values |= {"time": "day", "weather": "dry"}
        values["light"] = "sun" if values["light"] != "hidden" else "hidden"
    return Scene(**values)


def _sample_nature(rng: np.random.Generator) -> dict[str, object]:
    time = _choose(rng, TIMES, (1.2, 1.3, 1.0, 1.1, 0.6, 0.5))
    # Mountains over a lake is the picture newcomers ask for: a little more of both.
    ground = _choose(rng, GROUNDS, (1.5, 1.1, 1, 1.3, 0.9, 1.1, 0.9, 1, 0.9, 0.9))
    season = _choose(rng, SEASONS, (2.2, 0.9, 1.0, 0.7)) if ground in GREEN else "summer"
    weights = {
        "sea": (2.2, 0.7, 0.8, 0.5, 0.5, 0),
        "beach": (2.2, 0.8, 0.8, 0.4, 0.3, 0),
        "lake": (0.6, 0.9, 2.4, 1.4, 0.5, 0.9),
        "river": (0.6, 1.2, 2.0, 1.0, 0.5, 0.9),
        "road": (0.9, 1.2, 2.0, 1.0, 0.9, 0),
    }.get(ground, (1.0, 1.2, 2.4, 1.2, 0.12, 0))
    background = _choose(rng, BACKGROUNDS, weights)
    weather = {
        "storm": ("dry", "rain", "rain", "lightning", "lightning"),
        "day": ("dry",) * 8 + ("rainbow", "rain"),
    }.get(time, ("dry",))
    if (ground == "snow" or season == "winter") and rng.random() < 0.3 and time != "storm":
        weather = ("snowfall",)
    weather = _choose(rng, weather)
    low, wet = time in ("sunset", "dawn"), weather == "rain"
    lit = rng.random() < (0.9 if low else 0.7) and time not in ("storm", "fog") and not wet
    clouds = _choose(rng, CLOUDS, (1, 1.3, 0.8))
    return {
        "time": time,
        "ground": ground,
        "season": season,
        "background": background,
        "weather": weather,
        "clouds": "many" if time == "storm" or wet else ("none" if time == "fog" else clouds),
        "light": "hidden" if not lit else ("moon" if time == "night" else "sun"),
        # Few values each, horizons on the edges of tokens at 1024 px: what varies freely takes more pictures to learn.
        "light_x": _pick(rng, (0.25, 0.5, 0.75)),
        "light_y": _pick(rng, (0.2, 0.32) if low else (0.6, 0.74)),
        "horizon": _pick(rng, (0.5625, 0.625)),
    }


def _sample_thing(rng: np.random.Generator, kind: str, ground: str) -> dict[str, object]:
    thing = "none"
    if kind == "still":
        thing = _choose(rng, STILL_THINGS)
    elif rng.random() < THING_SHARE:
        choices = tuple(name for name, grounds in HABITATS.items() if ground in grounds)
        # What is at home everywhere would crowd out what has few places.
        thing = _choose(rng, choices, tuple(1 / (2 + len(HABITATS[name])) for name in choices))
    count = _choose(rng, COUNTS, (0.64, 0.2, 0.16)) if thing in COUNTABLE else "one"
    places = PLACES[1:3] if ground == "road" and thing not in ("car", *FLYING) and kind == "scene" else PLACES[:3]
    return {
        "thing": thing,
        "thing_colour": _choose(rng, THING_COLOURS.get(thing, COLOURS)),
        "thing_count": count,
        "thing_place": _choose(rng, places) if count == "one" and thing != "bridge" else "centre",
    }


def _sample_shapes(rng: np.random.Generator) -> dict[str, object]:
    plain = _choose(rng, PLAINS)
    usable = tuple(c for c in COLOURS[:9] if c != plain and (plain, c) != ("cream", "white"))
    colour = _choose(rng, usable)
    relation = _choose(rng, RELATIONS, (0.62, 0.12, 0.12, 0.07, 0.07))
    count = _choose(rng, COUNTS, (0.6, 0.22, 0.18))
    return {
        "shape": _choose(rng, SHAPES),
        "shape_colour": colour,
        "shape_count": count,
        "shape_size": _choose(rng, SIZES, (0.5, 0.22, 0.28)) if relation == "none" and count == "one" else "medium",
        "shape_place": _choose(rng, PLACES, (0.5, 0.15, 0.15, 0.1, 0.1)) if count == "one" else "centre",
        "relation": relation,
        "other_shape": _choose(rng, SHAPES),
        "other_colour": _choose(rng, tuple(c for c in usable if c != colour)),
        "plain": plain,
    }
