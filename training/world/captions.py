"""Describe a `Scene` in words: templates, synonyms and omissions, drawn fresh at every visit."""

import string
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from training.world import words
from training.world.scenes import VOCABULARY, Scene

# How often a caption names an attribute. What is not named may be anything, and that is what the model learns.
KEEP = {
    "time": 0.82, "ground": 0.8, "background": 0.75, "clouds": 0.25, "light": 0.3, "thing": 0.97, "thing_colour": 0.75,
    "thing_place": 0.4, "weather": 0.75, "season": 0.75, "style": 0.94,
}  # fmt: skip
PLAIN_KEEP = {"season": 0.12, "style": 0.18, "weather": 0.0}  # For summer, photo and dry weather: people rarely say it.


@dataclass(slots=True)
class Caption:
    """A text and what it says: `named` maps an attribute to its class number; missing means "could be anything"."""

    text: str
    named: dict[str, int] = field(default_factory=dict)


def _pick(rng: np.random.Generator, items: Sequence[str]) -> str:
    return items[int(rng.integers(len(items)))]


def _article(noun: str) -> str:
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def plural(noun: str) -> str:
    """Plural of a noun phrase such as "oak tree" or "vase of flowers"."""
    head, joint, tail = noun.partition(" of ")
    if head.endswith("y") and head[-2] not in "aeiou":
        return head[:-1] + "ies" + joint + tail
    return head + ("es" if head.endswith(("s", "x", "ch", "sh")) else "s") + joint + tail


class _Writer:
    """Collects what one caption names while its parts are chosen."""

    def __init__(self, scene: Scene, rng: np.random.Generator) -> None:
        self.scene, self.rng = scene, rng
        self.labels = scene.labels()
        self.named: dict[str, int] = {}

    def says(self, name: str) -> bool:
        """Decide whether to name an attribute, and note it."""
        plain = VOCABULARY[name].index(getattr(self.scene, name)) == 0 and name in PLAIN_KEEP
        if self.labels[name] < 0 or self.rng.random() > (PLAIN_KEEP if plain else KEEP)[name]:
            return False
        self.name(name)
        return True

    def name(self, *attributes: str) -> None:
        """Note that the caption names these attributes."""
        self.named |= {attribute: self.labels[attribute] for attribute in attributes if self.labels[attribute] >= 0}

    def word(self, table: dict[str, tuple[str, ...]], attribute: str) -> str:
        """A phrase for what the scene has as `attribute`."""
        return _pick(self.rng, table[getattr(self.scene, attribute)])

    def thing(self) -> str:
        """A noun phrase for the scene's things, such as "a red house on the left" or "two white boats"."""
        scene, rng = self.scene, self.rng
        self.name("thing")
        noun = self.word(words.THINGS, "thing")
        several = scene.thing_count != "one"
        noun = plural(noun) if several else noun
        if self.says("thing_colour"):
            noun = self._coloured(noun)
        if several:
            self.name("thing_count")
            noun = f"{self.word(words.COUNTS, 'thing_count')} {noun}"
        elif rng.random() < 0.12:
            self.name("thing_count")
            noun = f"{_pick(rng, ('one', 'a single'))} {noun}"
        else:
            noun = _article(noun) if rng.random() < 0.93 else noun
        if not several and self.labels["thing_place"] >= 0 and self.says("thing_place"):
            noun += f" {self.word(words.PLACES, 'thing_place')}"
        return noun

    def _coloured(self, noun: str) -> str:
        """Say the colour where people would: of clothes, of sails, of the flowers in a vase, or of the thing."""
        scene, rng = self.scene, self.rng
        clothes = _pick(rng, ("{} clothes", "a {} shirt"))
        if scene.thing == "person":
            return f"{noun} in {clothes.format(scene.thing_colour)}"
        if scene.thing == "boat" and rng.random() < 0.3:
            return f"{noun} with {scene.thing_colour} sails"
        if scene.thing == "vase" and "flowers" in noun:
            return noun.replace("flowers", f"{scene.thing_colour} flowers")
        return f"{scene.thing_colour} {noun}"

    def details(self) -> list[str]:
        """Weather and sky details for the end of the caption."""
        scene, rng, out = self.scene, self.rng, []
        if self.says("weather"):
            out.append(self.word(words.WEATHERS, "weather"))
        if scene.time not in ("storm", "fog"):
            if self.says("clouds"):
                out.append(self.word(words.CLOUDS, "clouds"))
            elif scene.clouds != "none" and rng.random() < 0.12:
                out.append(_pick(rng, words.ANY_CLOUDS))
            if scene.light != "hidden" and self.says("light"):
                out.append(self.word(words.LIGHTS, "light"))
        if "time" in self.named and rng.random() < 0.25:
            detail = self.word(words.TIME_DETAILS, "time")
            if "through clouds" not in detail or scene.clouds != "none":
                out.append(detail)
        return out


def _adjectives(writer: _Writer) -> str:
    """Words before the landscape, with a space behind: a mood, the hour, the season; often none."""
    rng, out = writer.rng, ""
    if rng.random() < 0.35:
        out += _pick(rng, words.ADJECTIVES) + " "
    if "time" in writer.named and rng.random() < 0.12:
        out += writer.word(words.TIME_ADJECTIVES, "time") + " "
    if "season" in writer.named and rng.random() < 0.5:
        out += writer.word(words.SEASON_ADJECTIVES, "season") + " "
    return out


def _landscape(writer: _Writer, has_ground: bool, has_background: bool) -> str:
    """The place of a picture: one or two nouns for ground and background."""
    rng, adjective = writer.rng, _adjectives(writer)
    if not has_ground and not has_background:
        return _article(f"{adjective}{_pick(rng, ('landscape', 'landscape', 'scene', 'view', 'scenery'))}")
    ground, background = writer.word(words.GROUNDS, "ground"), writer.word(words.BACKGROUNDS, "background")
    if not has_ground:
        if rng.random() < 0.65:
            return _article(adjective + writer.word(words.LANDSCAPES, "background"))
        bare = background.startswith(("a ", "an ", "the ", "no "))
        return background if bare else adjective + background
    if not has_background:
        if rng.random() < 0.3:
            return _article(adjective + writer.word(words.GROUND_LANDSCAPES, "ground"))
        bare_ground = ground.split(" ", 1)[1] if ground.startswith(("a ", "an ")) else None
        return (
            _article(adjective + bare_ground) if adjective and bare_ground else adjective + ground.removeprefix("the ")
        )
    link = rng.random()
    if link < 0.4:
        behind = ("with {} in the background", "with {} behind", "with {}", "below {}", "in front of {}", "and {}")
        return f"{ground} " + _pick(rng, behind).format(background)
    if link < 0.75:
        before = ("{} above", "{} over", "{} behind", "{} and", "{} near")
        return _pick(rng, before).format(background) + f" {ground}"
    return f"{_article(adjective + writer.word(words.LANDSCAPES, 'background'))} with {ground}"


def _scene_sentence(writer: _Writer) -> str:
    scene, rng = writer.scene, writer.rng
    has_time, has_season = writer.says("time"), writer.says("season")
    has_ground = writer.says("ground")
    # "no mountains" is rarely said, so an unnamed background must mostly mean anything.
    has_background = (scene.background != "none" or rng.random() < 0.2) and writer.says("background")
    has_thing = scene.thing != "none" and rng.random() < KEEP["thing"]
    if has_thing and not has_background and rng.random() < 0.3:
        subject = writer.thing()  # A thing alone, as beginners ask for it.
        writer.named.pop("ground", None)
    else:
        subject = _landscape(writer, has_ground, has_background)
        if has_thing:
            thing = writer.thing()
            link = _pick(rng, words.LINKS[words.THING_LINKS.get(scene.thing, "by")])
            subject = f"{thing} {link} {subject}" if rng.random() < 0.6 else f"{subject} with {thing}"
    when = writer.word(words.TIME_PHRASES, "time") if has_time else ""
    season = writer.word(words.SEASON_PHRASES, "season") if has_season and rng.random() < 0.7 else ""
    if has_season and not season and not any(w in subject for w in words.SEASON_ADJECTIVES[scene.season]):
        season = writer.word(words.SEASON_PHRASES, "season")
    if has_time and rng.random() < 0.1:
        text = f"{writer.word(words.TIME_TAGS, 'time')} over {subject} {season}"
    elif has_time and rng.random() < 0.2:
        text = f"{when}, {subject} {season}"
    else:
        text = f"{subject} {season} {when}"
    return ", ".join([" ".join(text.split()), *writer.details()])


def _tags(writer: _Writer) -> str:
    scene, rng = writer.scene, writer.rng
    options = [("ground", words.GROUND_TAGS)]
    if writer.labels["time"] >= 0:
        options.append(("time", words.TIME_TAGS))
    if scene.background != "none":
        options.append(("background", words.BACKGROUND_TAGS))
    if scene.light != "hidden":
        options.append(("light", words.LIGHTS))
    if scene.clouds != "none":
        options.append(("clouds", words.CLOUDS))
    if scene.thing != "none" and scene.thing_count == "one":
        options.append(("thing", words.THINGS))
    if scene.weather != "dry":
        options.append(("weather", words.WEATHERS))
    order = rng.permutation(len(options))[: int(rng.integers(1, len(options) + 1))]
    chosen = [options[i] for i in order]
    writer.name(*(name for name, _ in chosen))
    return ", ".join(writer.word(table, name) for name, table in chosen)


def _still_sentence(writer: _Writer) -> str:
    text = writer.thing()
    return f"{text} {_pick(writer.rng, words.STILL_PLACES)}" if writer.rng.random() < 0.75 else text


def _shape_group(writer: _Writer) -> str:
    """The first shapes, such as "three small red circles"."""
    scene, rng = writer.scene, writer.rng
    writer.name("shape", "shape_count")
    noun = scene.shape if scene.shape_count == "one" else plural(scene.shape)
    if rng.random() < 0.94:
        writer.name("shape_colour")
        noun = f"{scene.shape_colour} {noun}"
    if scene.shape_size != "medium" and rng.random() < 0.85:
        writer.name("shape_size")
        noun = f"{writer.word(words.SIZES, 'shape_size')} {noun}"
    if scene.shape_count == "one":
        return _article(noun) if rng.random() < 0.85 else noun
    return f"{writer.word(words.COUNTS, 'shape_count')} {noun}"


def _shape_sentence(writer: _Writer) -> str:
    scene, rng = writer.scene, writer.rng
    text = _shape_group(writer)
    if scene.relation != "none":
        writer.name("relation", "other_shape", "other_colour")
        text += f" {writer.word(words.RELATIONS, 'relation')} {_article(f'{scene.other_colour} {scene.other_shape}')}"
    elif scene.shape_place != "centre" or rng.random() < 0.2:
        writer.name("shape_place")
        text += f" {writer.word(words.PLACES, 'shape_place')}"
    if rng.random() < 0.6:
        writer.name("plain")
        text += f" on {_article(scene.plain.replace('_', ' '))} background"
    return text


def _in_style(writer: _Writer, text: str) -> str:
    """Say the style, as an opening or behind a comma; or open with words that mean no style."""
    rng = writer.rng
    if writer.says("style"):
        if rng.random() < 0.5:
            return f"{writer.word(words.STYLE_OPENINGS, 'style')} {text}"
        return f"{text}, {writer.word(words.STYLE_TAGS, 'style')}"
    return f"{_pick(rng, words.OPENINGS)} {text}" if rng.random() < 0.15 else text


def _unknown(rng: np.random.Generator) -> str:
    """A word from outside this world: a real one or mere letters."""
    if rng.random() < 0.7:
        return _pick(rng, words.STRANGERS)
    return "".join(rng.choice(list(string.ascii_lowercase), size=int(rng.integers(3, 9))))


def write_caption(scene: Scene, rng: np.random.Generator) -> Caption:
    """Describe a scene.

    Args:
        scene: what the picture shows.
        rng: decides wording and omissions; the same state gives the same caption.

    Returns:
        A caption of 1 to about 30 words, and what it names.
    """
    writer = _Writer(scene, rng)
    if rng.random() < 0.03 and scene.kind == "scene" and scene.style == "photo":
        # Words that name nothing here: any scene will do.
        pool = words.DEFECTS if rng.random() < 0.5 else words.STRANGERS
        return Caption(", ".join(_pick(rng, pool) for _ in range(int(rng.integers(1, 4)))))
    writer.name("kind")
    if scene.kind == "shape":
        text = _shape_sentence(writer)
    elif scene.kind == "still":
        text = _still_sentence(writer)
    else:
        text = _tags(writer) if rng.random() < 0.14 else _scene_sentence(writer)
    parts = [_in_style(writer, text) if scene.kind != "shape" else text]
    if rng.random() < 0.05:
        parts.append(_unknown(rng))
    for _ in range(int(rng.choice(4, p=(0.55, 0.25, 0.13, 0.07)))):
        parts.append(_pick(rng, words.FILLERS))
    text = ", ".join(parts)
    if rng.random() < 0.5:
        text = text[0].upper() + text[1:]
    return Caption(text + ("." if rng.random() < 0.1 else ""), writer.named)
