"""Batches that other processes prepare are those that would be made here."""

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from torch.utils.data import IterableDataset

import flux_endpoint
from training.encode.pictures import Encoded, Job, encode_jobs
from training.loaders import loader_rng, prepare
from training.text.encoders import Tokenizers
from training.world.scenes import sample_scene

MODEL = Path(flux_endpoint.__file__).parent / "models" / "demo"


class Draws(IterableDataset[int]):
    """A few random numbers of each loader."""

    def __iter__(self):
        yield from loader_rng([7]).integers(10**9, size=3).tolist()


def test_no_two_loaders_draw_the_same_and_a_seed_repeats_them() -> None:
    alone, two, again = (list(prepare(Draws(), loaders)) for loaders in (0, 2, 2))
    assert len(alone) == 3 and len(set(two)) == 6
    assert two == again and set(alone) < set(two)


@pytest.fixture(scope="module")
def encoded() -> list[Encoded]:
    """Nine small pictures and three wide ones."""
    vae = AutoencoderKL.from_pretrained(MODEL / "vae").eval().requires_grad_(False)
    return list(encode_jobs(vae, [Job(range(20, 29), (128, 128)), Job(range(40, 43), (256, 64))], torch.device("cpu")))


def test_pictures_are_kept_job_by_job(encoded: list[Encoded]) -> None:
    small, wide = encoded
    assert (small.latents.shape, wide.latents.shape) == ((9, 32, 4, 4), (3, 32, 2, 8))
    assert (small.subject.shape, wide.subject.shape) == ((9, 4), (3, 4))
    assert small.is_shape.tolist() == [sample_scene(seed).kind == "shape" for seed in range(20, 29)]
    assert wide.is_shape.tolist() == [sample_scene(seed).kind == "shape" for seed in range(40, 43)]


def test_loaders_render_the_same_pictures_over_the_ends_of_jobs(
    encoded: list[Encoded], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "training.encode.pictures.BATCH_PIXELS", 4 * 128 * 128
    )  # Three batches, and one of three wide pictures.
    vae = AutoencoderKL.from_pretrained(MODEL / "vae").eval().requires_grad_(False)
    jobs = [Job(range(20, 29), (128, 128)), Job(range(40, 43), (256, 64))]
    for expected, made in zip(encoded, encode_jobs(vae, jobs, torch.device("cpu"), loaders=2), strict=True):
        assert torch.allclose(made.latents, expected.latents, atol=1e-3)
        assert torch.equal(made.subject, expected.subject) and torch.equal(made.is_shape, expected.is_shape)


def test_only_the_empty_prompt_says_nothing() -> None:
    prompts = Tokenizers.load(MODEL)(["a lake", "", "xqzrt"], 28)
    assert prompts.named.tolist() == [True, False, True]
    assert prompts.t5.shape == (3, 28) and len(prompts.clip) == 3
    assert torch.equal(prompts.to(torch.device("cpu")).t5, prompts.t5)
