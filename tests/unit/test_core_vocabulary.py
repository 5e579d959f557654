"""Words that the embedded model does not know are named, with the nearest that it does."""

from pathlib import Path

import pytest

import flux_endpoint
from flux_endpoint.core.vocabulary import Vocabulary

FILE = Path(flux_endpoint.__file__).parent / "models" / "demo" / "vocabulary.json"
NEWCOMER = Path(__file__).parents[1] / "browser" / "newcomer.txt"
# Of each of the prompts that a newcomer types, what the model does not know; written down by a reader of both lists.
UNKNOWN_OF_NEWCOMER = {
    "a cat": [],
    "a red fox in snow": ["fox"],
    "a robot drinking coffee in a café": ["robot", "drinking", "coffee", "café"],
    "portrait of an astronaut on the moon": ["portrait", "astronaut"],
    "cyberpunk city at night, neon lights, rain": ["cyberpunk", "neon", "lights"],
    "a castle on a hill, fantasy art": ["fantasy"],
    "a cute puppy wearing sunglasses": ["cute", "wearing", "sunglasses"],
    "a bowl of ramen, studio lighting": ["bowl", "ramen", "studio"],
    "an old man with a beard, oil painting": ["old", "beard"],
    "a dragon flying over mountains at sunset": ["dragon"],
    "a red sports car on a coastal road": ["sports", "coastal"],
    'a sign that says "hello world"': ["sign", "says", "hello", "world"],
}


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return Vocabulary.read(FILE.read_bytes())


def test_every_prompt_of_a_newcomer_says_what_is_not_known(vocabulary):
    prompts = NEWCOMER.read_text(encoding="utf-8").splitlines()
    assert {prompt: vocabulary.unknown(prompt) for prompt in prompts} == UNKNOWN_OF_NEWCOMER


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A serene mountain landscape at sunset, golden light filtering through clouds, photorealistic",
        "MASTERPIECE, 4k, 8-bit, 35mm, 1920x1080, f/1.8",
        "it's a boat's sails",
        "ﬁelds of wheat".replace("ﬁelds", "ﬁeld"),
    ],
)
def test_nothing_is_said_of_what_is_known(vocabulary, text):
    assert vocabulary.unknown(text) == []
    said = [*vocabulary.warnings("prompt", text)]
    assert said == []


@pytest.mark.parametrize(
    ("word", "nearest"),
    [("fox", "dog"), ("foxes", "dog"), ("café", "house"), ("mountian", "mountain"), ("lakes", "lake"), ("xqzrt", None)],
)
def test_the_nearest_word_is_found_by_meaning_or_by_spelling(vocabulary, word, nearest):
    assert vocabulary.nearest_to(word) == nearest


def test_every_nearest_word_is_known(vocabulary):
    assert vocabulary.words.issuperset(vocabulary.nearest.values())
    assert vocabulary.words.isdisjoint(vocabulary.nearest)


def test_what_is_known_and_drawn_badly_is_named_too(vocabulary):
    assert [*vocabulary.warnings("prompt", "two cats and a Cat by a lake")] == [
        "prompt asks for what this small model knows but draws with torn outlines: cats, cat."
    ]
    assert vocabulary.torn <= vocabulary.words


def test_a_warning_names_the_words_and_stays_short(vocabulary):
    def warning(text):
        [sentence] = vocabulary.warnings("prompt", text)
        return sentence

    start = "prompt has words that this small model does not know: "
    assert warning("A robot, a Robot and a lake") == f"{start}robot; nearest: person for robot."
    assert warning("xqzrt") == f"{start}xqzrt."
    long = warning(" ".join("q" * length for length in range(20, 60)))
    assert "and 32 more" in long and len(long) < 400
