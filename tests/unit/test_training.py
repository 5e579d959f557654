"""The procedural world behind the embedded model: seeded, the same at every size, described truthfully."""

import numpy as np
import pytest

from training.captions import write_caption
from training.checker import time_by_palette
from training.render import render
from training.scenes import VOCABULARY, Scene, sample_scene, scene_from_dict


def scenes(count: int) -> list[Scene]:
    return [sample_scene(seed) for seed in range(count)]


def test_one_seed_is_one_picture() -> None:
    first, again = render(sample_scene(5), 192, 128), render(sample_scene(5), 192, 128)
    assert first.shape == (128, 192, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, again)
    assert not np.array_equal(first, render(sample_scene(6), 192, 128))


def test_a_scene_survives_the_way_through_plain_values() -> None:
    assert all(scene_from_dict(scene.to_dict()) == scene for scene in scenes(20))


@pytest.mark.parametrize("seed", range(6))
def test_a_scene_looks_alike_at_every_size(seed: int) -> None:
    large, small = render(sample_scene(seed), 256, 256), render(sample_scene(seed), 128, 128)
    shrunk = large.reshape(128, 2, 128, 2, 3).mean(axis=(1, 3))
    assert np.abs(shrunk - small).mean() < 6


def test_the_palette_rule_reads_the_time_off_true_renders() -> None:
    shown = [scene for scene in scenes(120) if scene.kind == "scene"]
    right = [time_by_palette(render(scene, 64, 64)) == scene.time for scene in shown]
    assert sum(right) / len(right) >= 0.98


def test_captions_name_only_what_the_picture_shows() -> None:
    rng = np.random.default_rng(0)
    for scene in scenes(300):
        caption = write_caption(scene, rng)
        assert caption.text
        for name, number in caption.named.items():
            assert VOCABULARY[name][number] == getattr(scene, name)


def test_captions_vary_in_wording_but_not_with_the_same_state() -> None:
    scene = sample_scene(11)
    texts = {write_caption(scene, np.random.default_rng(state)).text for state in range(30)}
    assert len(texts) > 20
    assert write_caption(scene, np.random.default_rng(4)) == write_caption(scene, np.random.default_rng(4))


def test_captions_are_short_enough_for_the_text_encoder() -> None:
    rng = np.random.default_rng(1)
    assert max(len(write_caption(scene, rng).text.split()) for scene in scenes(500)) <= 45
