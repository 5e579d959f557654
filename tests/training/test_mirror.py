"""Latents can be mirrored without rendering: pictures, captions and subject maps turn together."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL

import flux_endpoint
from training.clock import save_checkpoint
from training.config import Config, load_config
from training.encode.mirror import can_mirror, fit_mirror, mirror, mirrored_scene
from training.encode.pictures import Job, encode_jobs, encode_pairs, part_path
from training.flow.latents import HELD_OUT, LatentStore
from training.world.scenes import Scene, sample_scene

ROOT = Path(__file__).parents[2]
VAE = Path(flux_endpoint.__file__).parent / "models" / "demo" / "vae"
SIZE, CELLS = (256, 256), 8


def test_mirrored_latents_are_those_of_the_mirrored_picture() -> None:
    vae = AutoencoderKL.from_pretrained(VAE).eval().requires_grad_(False)
    cpu = torch.device("cpu")
    kernel = fit_mirror(encode_pairs(vae, Job(range(100, 180), SIZE), cpu))
    plain, expected = next(encode_pairs(vae, Job(range(12), SIZE), cpu))
    assert torch.equal(plain, next(encode_jobs(vae, [Job(range(12), SIZE)], cpu)).latents)
    error = (mirror(plain, kernel) - expected).square().mean() / expected.var(dim=(0, 2, 3)).mean()
    assert error < 0.08
    assert (plain.flip(3) - expected).square().mean() / expected.var(dim=(0, 2, 3)).mean() > 4 * error


def test_a_mirror_needs_pairs() -> None:
    with pytest.raises(ValueError, match="no pairs"):
        fit_mirror([])


def scenes(kind: str, attribute: str, word: str) -> list[Scene]:
    """Twenty scenes of a kind with an attribute of this value."""
    found = (s for s in map(sample_scene, range(5000)) if s.kind == kind and getattr(s, attribute) == word)
    return [next(found) for _ in range(20)]


@pytest.mark.parametrize(
    ("kind", "attribute"), [("scene", "thing_place"), ("shape", "shape_place"), ("shape", "relation")]
)
def test_a_mirrored_scene_swaps_left_and_right(kind: str, attribute: str) -> None:
    for word, other in (("left", "right"), ("right", "left")):
        for scene in scenes(kind, attribute, word):
            assert getattr(mirrored_scene(scene), attribute) == other
            assert mirrored_scene(mirrored_scene(scene)) == replace(scene, light_x=1 - (1 - scene.light_x))
    for word in ("top", "centre") if attribute.endswith("place") and kind == "shape" else ():
        assert all(getattr(mirrored_scene(scene), attribute) == word for scene in scenes(kind, attribute, word))


@pytest.mark.parametrize(("place", "expected"), [("left", True), ("right", True), ("centre", False)])
def test_what_stands_in_the_middle_is_not_mirrored(place: str, expected: bool) -> None:
    """It always faces the same way, so the renderer could not have drawn the mirrored picture."""
    scene = scenes("scene", "thing", "cat")[0]
    assert can_mirror(replace(scene, thing_place=place)) == expected
    assert can_mirror(replace(scene, thing_place=place, thing="none"))
    assert can_mirror(scenes("shape", "shape_place", place)[0])


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A work folder with one part of pictures of one scene, subject in the leftmost column, and a plain mirror."""
    config = load_config(ROOT / "training" / "smoke.toml", work_dir=tmp_path)
    kernel = torch.zeros(1, 2, 5, 5)
    kernel[0, 0, 2, 2] = 1.0  # Latents of one channel that mirror as pixels do.
    save_checkpoint(tmp_path / "latent_mirror.pt", {"kernel": kernel})
    count = 2 * HELD_OUT + 100
    subject = torch.zeros(count, CELLS // 2, CELLS // 2)
    subject[:, :, 0] = 1
    save_checkpoint(
        part_path(tmp_path / "latents", SIZE, 0),
        {
            "latents": torch.arange(8.0).expand(count, 1, CELLS, CELLS).half(),
            "subject": subject.flatten(1).half(),
            "is_shape": torch.tensor([sample_scene(seed).kind == "shape" for seed in range(count)]),
            "first_seed": 0,
        },
    )
    return config


def test_half_of_what_can_be_mirrored_is_with_subject_and_caption(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = scenes("scene", "thing_place", "left")[0]
    monkeypatch.setattr("training.flow.latents.sample_scene", lambda _seed: left)
    monkeypatch.setattr(
        "training.flow.latents.write_caption", lambda scene, _rng: type("Caption", (), {"text": scene.thing_place})
    )
    batch = LatentStore(config).draw(np.random.default_rng(0), tokens=20_000, dropout=0.0)
    rows = batch.subject.view(-1, CELLS // 2, CELLS // 2)
    for latents, subject, caption in zip(batch.latents, rows, batch.captions, strict=True):
        rising = torch.arange(8.0).expand(1, CELLS, CELLS)
        assert torch.equal(latents, rising if caption == "left" else rising.flip(2))
        assert subject[:, 0 if caption == "left" else -1].eq(1).all() and subject.sum() == CELLS // 2
    assert 0.4 < batch.captions.count("right") / len(batch.captions) < 0.6
    centred = replace(left, thing="cat", thing_place="centre")
    monkeypatch.setattr("training.flow.latents.sample_scene", lambda _seed: centred)
    batch = LatentStore(config).draw(np.random.default_rng(0), tokens=20_000, dropout=0.0)
    assert all(torch.equal(latents, rising) for latents in batch.latents)


def test_held_out_pictures_are_never_drawn_and_the_seen_ones_are(config: Config) -> None:
    path = part_path(config.work_dir / "latents", SIZE, 0)
    state = torch.load(path, weights_only=True)
    state["latents"] = torch.arange(len(state["latents"])).view(-1, 1, 1, 1).expand_as(state["latents"]).half()
    save_checkpoint(path, state)
    store, rng = LatentStore(config), np.random.default_rng(0)
    drawn = {int(n) for _ in range(10) for n in store.draw(rng, 20_000, 0.0).latents[:, 0, 0, 0]}
    held_out, seen = (store.held_out(SIZE, 64, seen).latents[:, 0, 0, 0].int().tolist() for seen in (False, True))
    assert held_out == list(range(HELD_OUT)) and not drawn & set(held_out)
    assert seen == list(range(HELD_OUT, 2 * HELD_OUT)) and set(seen) <= drawn


def test_plain_shapes_are_drawn_more_often_than_others(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = [scenes(kind, "thing_place", "left")[0] for kind in ("scene", "shape")]
    monkeypatch.setattr("training.flow.latents.sample_scene", lambda seed: kinds[seed % 2])
    path = part_path(config.work_dir / "latents", SIZE, 0)
    state = torch.load(path, weights_only=True)
    save_checkpoint(path, {**state, "is_shape": torch.arange(len(state["latents"])) % 2 == 1})
    monkeypatch.setattr(
        "training.flow.latents.write_caption", lambda scene, _rng: type("Caption", (), {"text": scene.kind})
    )
    for weight, low, high in ((1.0, 0.42, 0.58), (4.0, 0.72, 0.88)):
        flow = replace(config.flow, shape_weight=weight)
        store = LatentStore(replace(config, flow=flow))
        captions = store.draw(np.random.default_rng(0), tokens=20_000, dropout=0.0).captions
        assert low < captions.count("shape") / len(captions) < high


def test_one_picture_is_not_enough_to_hold_one_out(config: Config) -> None:
    path = part_path(config.work_dir / "latents", SIZE, 0)
    state = torch.load(path, weights_only=True)
    save_checkpoint(
        path,
        {**state, "latents": state["latents"][:1], "subject": state["subject"][:1], "is_shape": state["is_shape"][:1]},
    )
    assert LatentStore(config).held_out(SIZE, 64) is None
