"""The words that the model knows, as the server tells them to whoever writes a prompt.

A tokenizer cannot tell: it also has a token for what the model only learnt to pass over, such as "robot".

python -m training.world.vocabulary src/flux_endpoint/models/demo
"""

import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from training.world import words
from training.world.captions import plural
from training.world.kin import NEAREST
from training.world.scenes import SHAPES, VOCABULARY

FILE = "vocabulary.json"
_TABLES = (
    words.TIME_PHRASES, words.TIME_TAGS, words.TIME_ADJECTIVES, words.TIME_DETAILS, words.WEATHERS,
    words.SEASON_PHRASES, words.SEASON_ADJECTIVES, words.BACKGROUNDS, words.BACKGROUND_TAGS, words.LANDSCAPES,
    words.GROUNDS, words.GROUND_TAGS, words.GROUND_LANDSCAPES, words.CLOUDS, words.LIGHTS, words.THINGS, words.LINKS,
    words.PLACES, words.COUNTS, words.SIZES, words.RELATIONS, words.STYLE_OPENINGS, words.STYLE_TAGS,
)  # fmt: skip
_LISTS = (words.ANY_CLOUDS, words.STILL_PLACES, words.ADJECTIVES, words.OPENINGS, words.FILLERS)
# What only the templates of `captions.py` say.
_OF_TEMPLATES = "background behind clothes sails shirt view scene scenery landscape"
# They name nothing to look at, whoever trained the model.
_GRAMMAR = """
    a about all along also am an and any are around as at be been beside between but by can did do does down during each
    every for from had has have he her here him his how if in into is it its just like made make me more most much my no
    not of off on one only onto or other our out over own please some so such than that the their them then there these
    they this those through to too toward towards under up upon us very was we were what when where which while who will
    with within without you your
"""
# Things that came out torn in most of six pictures each ("a cat", 512 x 512), seen by eye; the checker still knew them.
_TORN = ("balloon", "aeroplane", "car", "bird", "cat", "dog", "horse")
# Styles among the words of praise, which change nothing; and plurals that only our own grammar makes.
_EXCEPT = "poly childs mans womans flowerses"


def split_words(phrases: Iterable[str]) -> set[str]:
    """The words of some phrases: letters, at least two."""
    return {word for phrase in phrases for word in re.findall(r"[a-z]{2,}", phrase.lower().replace("_", " "))}


def known_words() -> list[str]:
    """What the model draws, moods and praise that it learnt to take no harm from, and grammar; sorted.

    Not what stands for things that it cannot draw, though its captions held it: `STRANGERS`, and the `DEFECTS` of
    negative prompts.
    """
    known = split_words(phrase for table in _TABLES for phrases in table.values() for phrase in phrases)
    known |= split_words(plural(thing) for things in words.THINGS.values() for thing in things)
    known |= split_words(phrase for phrases in _LISTS for phrase in phrases)
    known |= split_words(value for values in VOCABULARY.values() for value in values)
    known |= split_words([*map(plural, SHAPES), _OF_TEMPLATES, _GRAMMAR])
    return sorted(known - split_words([_EXCEPT]))


def torn_words() -> list[str]:
    """The nouns of things that the model knows and draws badly, with their plurals; sorted."""
    nouns = [noun.split()[-1] for thing in _TORN for noun in words.THINGS[thing]]
    return sorted({*nouns, *map(plural, nouns)})


def write_vocabulary(folder: Path) -> None:
    """Write `vocabulary.json`: `words`; `nearest`, the known one for some that are not; `torn`, the badly drawn."""
    content = {"words": known_words(), "nearest": dict(sorted(NEAREST.items())), "torn": torn_words()}
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    (folder / FILE).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_vocabulary(Path(sys.argv[1]))
