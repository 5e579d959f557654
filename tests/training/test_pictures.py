"""The procedural world behind the embedded model: seeded, the same at every size, described truthfully."""

from dataclasses import replace

import numpy as np
import pytest

from training.checker.rules import find_shapes, place_of
from training.world import words
from training.world.captions import plural, write_caption
from training.world.paint import Canvas
from training.world.render import draw, render
from training.world.scenes import COUNTS, STYLES, THINGS, VOCABULARY, Scene, sample_scene
from training.world.things import RECIPES


def scenes(count: int) -> list[Scene]:
    return [sample_scene(seed) for seed in range(count)]


def test_one_seed_is_one_picture() -> None:
    first, again = render(sample_scene(5), 192, 128), render(sample_scene(5), 192, 128)
    assert first.shape == (128, 192, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, again)
    assert not np.array_equal(first, render(sample_scene(6), 192, 128))


@pytest.mark.parametrize("seed", range(6))
def test_a_scene_looks_alike_at_every_size(seed: int) -> None:
    large, small = render(sample_scene(seed), 256, 256), render(sample_scene(seed), 128, 128)
    shrunk = large.reshape(128, 2, 128, 2, 3).mean(axis=(1, 3))
    assert np.abs(shrunk - small).mean() < 6


@pytest.mark.parametrize("style", STYLES[1:])
def test_a_style_really_changes_the_picture(style: str) -> None:
    scene = next(scene for scene in scenes(400) if scene.kind == "scene" and scene.time == "day")
    plain, styled = (render(replace(scene, style=name), 96, 96).astype(int) for name in ("photo", style))
    assert np.abs(plain - styled).mean() > 4


def test_every_thing_is_large_and_can_be_named() -> None:
    assert set(RECIPES) == set(words.THINGS) == set(THINGS) - {"none"}
    for recipe in RECIPES.values():
        assert max(recipe.size, recipe.size * recipe.width) >= 0.2


@pytest.mark.parametrize("thing", ["none", "house", "balloon"])
def test_the_canvas_knows_where_its_things_are(thing: str) -> None:
    scene = replace(sample_scene(5), kind="scene", style="photo", ground="meadow", thing=thing, thing_count="one")
    scene = replace(scene, background="none", light="hidden")
    shown, without = draw(scene, 192, 128), draw(replace(scene, thing="none"), 192, 128)
    changed = np.abs(shown.pixels - without.pixels).max(axis=2) > 60
    assert shown.subject.any() == (thing != "none")
    assert shown.subject[changed].all()


@pytest.mark.parametrize("thing", ["house", "dog", "balloon"])
@pytest.mark.parametrize("place", ["left", "right", "centre"])
def test_words_alone_decide_where_a_thing_stands_and_how(thing: str, place: str) -> None:
    scene = replace(sample_scene(5), kind="scene", style="photo", ground="meadow", background="none", light="hidden")
    scene = replace(scene, thing=thing, thing_count="one", thing_place=place)
    first, other = (draw(replace(scene, seed=seed), 192, 128).subject for seed in (1, 2))
    assert (first != other).mean() < 0.004
    if place == "centre":
        return
    facing = {"left": "right", "right": "left"}[place]
    turned = draw(replace(scene, seed=1, thing_place=facing), 192, 128).subject[:, ::-1]
    # Shadows fall to the same side, so it is not quite the mirror image.
    assert (first != turned).sum() < 0.35 * first.sum()


@pytest.mark.parametrize("background", ["hills", "mountains"])
def test_the_canvas_knows_where_its_skyline_is(background: str) -> None:
    scene = replace(sample_scene(5), kind="scene", style="photo", ground="meadow", thing="none", light="hidden")
    scene = replace(scene, time="sunset", weather="dry")
    shown = draw(replace(scene, background=background), 512, 512)
    without = draw(replace(scene, background="none"), 512, 512)
    horizon = int(scene.horizon * 512)
    seen = (np.abs(shown.pixels - without.pixels).max(axis=2) > 24)[:horizon]
    tops = np.where(seen.any(axis=0), seen.argmax(axis=0), horizon)
    columns = np.flatnonzero(tops < horizon)
    assert len(columns) > 256
    assert shown.subject[tops[columns] + 2, columns].mean() > 0.9
    assert 0.01 < shown.subject.mean() < 0.15


def test_a_near_ridge_hides_what_was_noted_behind_it() -> None:
    canvas = Canvas.empty(64, 64, notes_subject=True)
    canvas.subject[40:] = True
    canvas.note_skyline(np.full(64, 20.0))
    assert np.flatnonzero(canvas.subject[:, 0]).tolist() == list(range(15, 26))


def test_the_canvas_knows_where_its_shapes_are() -> None:
    scene = next(s for s in map(sample_scene, range(1000)) if s.kind == "shape" and s.shape_colour != "white")
    canvas = draw(scene, 256, 256)
    background = np.median(canvas.pixels.reshape(-1, 3), axis=0)
    assert np.array_equal(canvas.subject, np.abs(canvas.pixels - background).max(axis=2) > 16)


def test_the_shape_rules_read_true_renders() -> None:
    right = []
    for scene in (scene for scene in scenes(700) if scene.kind == "shape"):
        found = find_shapes(render(scene, 256, 256))
        first = [s for s in found if (s.shape, s.colour) == (scene.shape, scene.shape_colour)]
        hits = [len(first) == 1 + COUNTS.index(scene.shape_count)]
        if scene.relation == "none":
            hits.append(scene.shape_count != "one" or place_of(found[0]) == scene.shape_place)
        right.append(all(hits))
    assert sum(right) / len(right) >= 0.97


def test_plurals() -> None:
    assert [plural(noun) for noun in ("boat", "cherry", "boy", "vase of flowers", "church")] == [
        "boats", "cherries", "boys", "vases of flowers", "churches"
    ]  # fmt: skip


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
