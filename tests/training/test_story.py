"""The pictures of the story: different subjects, one scene in all styles, and what the autoencoder makes of renders."""

from dataclasses import replace
from pathlib import Path

import numpy as np

import flux_endpoint
from training.evaluate.sampling import load_pipeline
from training.evaluate.story import different_scenes, sheet, styles_of_one_scene, through_autoencoder
from training.world.render import render
from training.world.scenes import STYLES

MODEL = Path(flux_endpoint.__file__).parent / "models" / "demo"


def test_no_subject_is_shown_twice() -> None:
    scenes = different_scenes(8)
    assert len({(s.thing, s.background if s.thing == "none" else "") for s in scenes}) == len(scenes) == 8
    assert scenes[:3] == different_scenes(3)


def test_styles_differ_in_nothing_else() -> None:
    scenes = styles_of_one_scene()
    assert [scene.style for scene in scenes] == list(STYLES)
    assert {replace(scene, style="photo") for scene in scenes} == {scenes[0]} and scenes[0].thing == "castle"


def test_a_sheet_is_read_row_by_row() -> None:
    pictures = [np.full((8, 8, 3), 10 * n, np.uint8) for n in range(6)]
    image = np.asarray(sheet(pictures, columns=3, cell=4))
    assert image.shape == (8, 12, 3)
    assert image[::4, ::4, 0].tolist() == [[0, 10, 20], [30, 40, 50]]


def test_the_autoencoder_gives_back_what_it_got() -> None:
    renders = [render(scene, 256, 256) for scene in different_scenes(2)]
    decoded = through_autoencoder(load_pipeline(MODEL), renders)
    errors = [np.abs(d.astype(int) - r).mean() for d, r in zip(decoded, renders, strict=True)]
    assert all(0 < error < 12 for error in errors)
