"""Describe a `Scene` in words: templates, synonyms and omissions, drawn fresh at every visit."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from training import words
from training.scenes import VOCABULARY, Scene

# How often a caption leaves an attribute out. What is not named may be anything, and that is what the model learns.
KEEP = {"time": 0.85, "ground": 0.8, "background": 0.75, "clouds": 0.3, "light": 0.35, "thing": 0.85, "colour": 0.8}


@dataclass(slots=True)
class Caption:
    """A text and what it says: `named` maps an attribute to its class number; missing means "could be anything"."""

    text: str
    named: dict[str, int] = field(default_factory=dict)


def _pick(rng: np.random.Generator, items: Sequence[str]) -> str:
    return items[int(rng.integers(len(items)))]


def _article(noun: str) -> str:
    return ("an " if noun[0] in "aeiou" else "a ") + noun


class _Writer:
    """Collects what one caption names while its parts are chosen."""

    def __init__(self, scene: Scene, rng: np.random.Generator) -> None:
        self.scene, self.rng = scene, rng
        self.named: dict[str, int] = {}

    def says(self, name: str, keep: str | None = None) -> bool:
        """Decide whether to name an attribute, and note it."""
        if self.rng.random() > KEEP[keep or name]:
            return False
        self.name(name)
        return True

    def name(self, attribute: str) -> None:
        self.named[attribute] = VOCABULARY[attribute].index(getattr(self.scene, attribute))

    def thing(self) -> str:
        """A noun phrase for the scene's thing, such as "a red house"."""
        scene, rng = self.scene, self.rng
        self.name("thing")
        noun = _pick(rng, words.THINGS[scene.thing])
        if scene.thing in ("house", "boat", "balloon") and rng.random() < KEEP["colour"]:
            self.name("thing_colour")
            if scene.thing == "boat" and rng.random() < 0.4:
                return f"a {noun} with {scene.thing_colour} sails"
            return _article(f"{scene.thing_colour} {noun}")
        return _article(noun)

    def details(self) -> list[str]:
        """Sky details for the end of the caption."""
        scene, rng, out = self.scene, self.rng, []
        if self.says("clouds"):
            out.append(_pick(rng, words.CLOUDS[scene.clouds]))
        elif scene.clouds != "none" and rng.random() < 0.15:
            out.append(_pick(rng, words.ANY_CLOUDS))
        if scene.light != "hidden" and self.says("light"):
            out.append(_pick(rng, words.LIGHTS[scene.light]))
        if "time" in self.named and rng.random() < 0.3:
            detail = _pick(rng, words.TIME_DETAILS[scene.time])
            if "through clouds" not in detail or scene.clouds != "none":
                out.append(detail)
        return out


def _landscape(writer: _Writer, has_ground: bool, has_background: bool) -> str:
    """The subject of a sentence: one to three nouns for ground, background and thing."""
    scene, rng = writer.scene, writer.rng
    adjective = _pick(rng, words.ADJECTIVES) + " " if rng.random() < 0.45 else ""
    if "time" in writer.named and rng.random() < 0.12:
        adjective += _pick(rng, words.TIME_ADJECTIVES[scene.time]) + " "
    if not has_ground and not has_background:
        return _article(
            f"{adjective}{_pick(rng, ('landscape', 'landscape', 'scene', 'view', 'scenery', 'landscape scene'))}"
        )
    ground = _pick(rng, words.GROUNDS[scene.ground])
    background = _pick(rng, words.BACKGROUNDS[scene.background])
    if not has_ground:
        if rng.random() < 0.65:
            return _article(adjective + _pick(rng, words.LANDSCAPES[scene.background]))
        return (
            adjective + background
            if adjective and not background.startswith(("a ", "an ", "the ", "no "))
            else background
        )
    if not has_background:
        if rng.random() < 0.35:
            return _article(adjective + _pick(rng, words.GROUND_LANDSCAPES[scene.ground]))
        bare = ground.split(" ", 1)[1] if ground.startswith(("a ", "an ")) else None
        return _article(adjective + bare) if adjective and bare else ground
    link = rng.random()
    if link < 0.4:
        behind = _pick(
            rng, ("with {} in the background", "with {} behind", "with {}", "below {}", "in front of {}", "and {}")
        )
        return f"{ground} " + behind.format(background)
    if link < 0.75:
        before = _pick(rng, ("{} above", "{} over", "{} behind", "{} and", "{} near"))
        return before.format(background) + f" {ground}"
    return f"{_article(adjective + _pick(rng, words.LANDSCAPES[scene.background]))} with {ground}"


def _scene_sentence(writer: _Writer) -> str:
    scene, rng = writer.scene, writer.rng
    has_time = writer.says("time")
    has_ground = writer.says("ground")
    # "no mountains" is rarely said, so an unnamed background must mostly mean anything.
    has_background = (scene.background != "none" or rng.random() < 0.25) and writer.says("background")
    subject = _landscape(writer, has_ground, has_background)
    if scene.thing != "none" and rng.random() < KEEP["thing"]:
        thing = writer.thing()
        link = {"balloon": "over", "boat": "on"}.get(scene.thing, "by")
        subject = f"{thing} {link} {subject}" if rng.random() < 0.5 else f"{subject} with {thing}"
    when = _pick(rng, words.TIME_PHRASES[scene.time]) if has_time else ""
    if rng.random() < 0.2:
        subject = f"{_pick(rng, words.OPENINGS)} {subject}"
    if has_time and rng.random() < 0.12:
        text = f"{_pick(rng, words.TIME_TAGS[scene.time])} over {subject}"
    elif has_time and rng.random() < 0.2:
        text = f"{when}, {subject}"
    else:
        text = f"{subject} {when}".strip()
    return ", ".join([text, *writer.details()])


def _tags(writer: _Writer) -> str:
    scene, rng = writer.scene, writer.rng
    options = [("time", words.TIME_TAGS[scene.time]), ("ground", words.GROUND_TAGS[scene.ground])]
    if scene.background != "none":
        options.append(("background", words.BACKGROUND_TAGS[scene.background]))
    if scene.light != "hidden":
        options.append(("light", words.LIGHTS[scene.light]))
    if scene.clouds != "none":
        options.append(("clouds", words.CLOUDS[scene.clouds]))
    if scene.thing != "none":
        options.append(("thing", words.THINGS[scene.thing]))
    order = rng.permutation(len(options))[: int(rng.integers(1, len(options) + 1))]
    chosen = [options[i] for i in order]
    for name, _ in chosen:
        writer.name(name)
    return ", ".join(_pick(rng, choices) for _, choices in chosen)


def _shape_sentence(writer: _Writer) -> str:
    scene, rng = writer.scene, writer.rng
    writer.name("shape")
    colour = ""
    if rng.random() < 0.9:
        writer.name("shape_colour")
        colour = scene.shape_colour + " "
    noun = f"{colour}{scene.shape}"
    text = _article(noun) if rng.random() < 0.75 else noun
    if rng.random() < 0.6:
        writer.name("plain")
        text += f" on {_article(scene.plain.replace('_', ' '))} background"
    return text


def write_caption(scene: Scene, rng: np.random.Generator) -> Caption:
    """Describe a scene.

    Args:
        scene: what the picture shows.
        rng: decides wording and omissions; the same state gives the same caption.

    Returns:
        A caption of 1 to about 22 words, and what it names.
    """
    writer = _Writer(scene, rng)
    if rng.random() < 0.035:  # Words that name nothing here: the picture may be anything.
        pool = words.DEFECTS if rng.random() < 0.6 else words.STRANGERS
        count = int(rng.integers(1, 4))
        return Caption(", ".join(_pick(rng, pool) for _ in range(count)))
    writer.name("kind")
    if scene.kind == "shape":
        text = _shape_sentence(writer)
    elif rng.random() < 0.14:
        text = _tags(writer)
    else:
        text = _scene_sentence(writer)
    parts = [text]
    if rng.random() < 0.04:
        parts.append(_pick(rng, words.STRANGERS))
    for _ in range(int(rng.choice(4, p=(0.5, 0.27, 0.15, 0.08)))):
        parts.append(_pick(rng, words.STYLES))
    text = ", ".join(parts)
    if rng.random() < 0.5:
        text = text[0].upper() + text[1:]
    return Caption(text + ("." if rng.random() < 0.1 else ""), writer.named)
