"""The words that the package says its model knows are those of the captions that it learnt from."""

import collections
from pathlib import Path

import numpy as np

import flux_endpoint
from training.world import words
from training.world.captions import write_caption
from training.world.scenes import sample_scene
from training.world.vocabulary import FILE, known_words, split_words, write_vocabulary

SHIPPED = Path(flux_endpoint.__file__).parent / "models" / "demo" / FILE


def test_the_package_has_the_vocabulary_of_this_world(tmp_path: Path) -> None:
    write_vocabulary(tmp_path)
    assert SHIPPED.read_bytes() == (tmp_path / FILE).read_bytes()


def test_what_captions_often_say_is_known_and_what_they_say_at_random_is_not() -> None:
    rng = np.random.default_rng(5)
    captions = [write_caption(sample_scene(seed), rng).text for seed in range(1500)]
    counts = collections.Counter(word for caption in captions for word in split_words([caption]))
    often = {word for word, count in counts.items() if count >= 5}
    passed_over = split_words(words.STRANGERS) | split_words(words.DEFECTS) | {"poly"}
    assert often - passed_over <= set(known_words())
    assert not set(known_words()) & {"robot", "fox", "dragon", "watermark", "blurry"}
