"""Guidance and student: what the model is taught, and the journeys on which it learns."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import flux_endpoint
from training.config import Config, load_config
from training.evaluate.sampling import load_pipeline, sample, sample_taught
from training.flow.transformer import GUIDED_ABOVE, build_transformer, guidance_step, schedule
from training.guidance.journeys import LANES, Journeys
from training.guidance.train import GuidanceLesson
from training.optim import update_average
from training.student.train import STEPS, StudentLesson
from training.text.encoders import TextEncoders

pytestmark = pytest.mark.usefixtures("processor")

ROOT = Path(__file__).parents[2]
MODEL = Path(flux_endpoint.__file__).parent / "models" / "demo"


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A work folder with real text encoders and a transformer that answers something."""
    torch.manual_seed(0)
    config = replace(load_config(ROOT / "training" / "smoke.toml", work_dir=tmp_path), loaders=0)
    (tmp_path / "model").symlink_to(MODEL)
    transformer = build_transformer()
    for parameter in transformer.parameters():
        if parameter.requires_grad and parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.05)
    for name in ("flow", "guidance"):
        torch.save({"ema": transformer.state_dict()}, tmp_path / f"{name}.pt")
    return config


def journeys(config: Config, steps: tuple[int, int], dropout: float = 0.0) -> Journeys:
    text = TextEncoders.load(config.work_dir / "model", torch.device("cpu"))
    return Journeys(config, text, [0], 400, steps, dropout)


def velocities(count: int) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.randn(count, 16, 128, generator=generator) for _ in range(3))


def test_guidance_moves_the_picture_at_right_angles_to_itself() -> None:
    with_caption, without, noisy = velocities(3)
    sigma, strength = torch.tensor([0.5, 0.8, 1.0]), torch.tensor([3.6, 2.0, 3.6])
    step = guidance_step(with_caption, without, noisy, sigma, strength)
    picture = noisy - sigma[:, None, None] * with_caption
    assert torch.allclose((step * picture).sum(dim=(1, 2)), torch.zeros(3), atol=1e-2)
    # What is left of plain guidance points the same way.
    plain = (strength - 1)[:, None, None] * (with_caption - without)
    assert (torch.cosine_similarity(step.flatten(1), plain.flatten(1)) > 0.5).all()
    assert (step.flatten(1).norm(dim=1) <= plain.flatten(1).norm(dim=1)).all()


def test_guidance_leaves_low_noise_and_strength_one_alone() -> None:
    with_caption, without, noisy = velocities(3)
    sigma = torch.tensor([GUIDED_ABOVE - 0.01, GUIDED_ABOVE, 0.9])
    step = guidance_step(with_caption, without, noisy, sigma, torch.tensor([3.6, 3.6, 1.0]))
    assert [bool(part.any()) for part in step] == [False, True, False]


def test_journeys_go_from_noise_to_a_picture_and_start_again(config: Config) -> None:
    stream = iter(journeys(config, (2, 3)))
    for _ in range(2 * LANES):
        journey = next(stream)
        assert journey.size in ((256, 256), (320, 192))
        tokens = journey.size[0] * journey.size[1] // 64**2
        assert journey.noisy.shape == (400 // (64 + tokens), tokens, 128)
        assert (journey.index, journey.level) == (0, pytest.approx(1.0))
        assert len(journey.levels) - 1 in (2, 3)
        assert journey.levels == schedule(tokens, len(journey.levels) - 1)
        # A velocity of noise minus picture leads from the noise to the picture, whatever the steps.
        noise, picture = journey.noisy, torch.full_like(journey.noisy, 0.5)
        while not journey.has_arrived():
            journey.move(noise - picture)
        assert torch.allclose(journey.noisy, picture, atol=1e-5)


def test_some_captions_are_left_out(config: Config) -> None:
    named = [next(iter(journeys(config, (2, 2), dropout))).named for dropout in (0.0, 1.0)]
    assert named[0].all()
    assert not named[1].any()


def test_without_guidance_or_caption_the_model_already_knows_its_lesson(config: Config) -> None:
    lesson = GuidanceLesson(config, torch.device("cpu"))
    plain, guided = (next(iter(journeys(config, (2, 2)))) for _ in range(2))
    plain.guidance = torch.ones(len(plain.named))
    guided.guidance = torch.full((len(guided.named),), 7.5)
    with torch.no_grad():
        assert float(lesson.loss(plain)[0]) < 1e-4
        assert float(lesson.loss(guided)[0]) > 1e-4
    empty = next(iter(journeys(config, (2, 2), dropout=1.0)))
    sigma = torch.full((len(empty.named),), 0.7)
    target = lesson._guided(empty, sigma, torch.full_like(sigma, 7.5))
    assert torch.equal(target, lesson._guided(empty, sigma, torch.ones_like(sigma)))


def test_a_student_goes_as_far_in_one_step_as_its_teacher_in_several(config: Config) -> None:
    lesson = StudentLesson(config, torch.device("cpu"))
    journey = next(iter(journeys(config, (STEPS, STEPS))))
    with torch.no_grad():
        arrived = lesson._teach(journey)
        loss, velocity = lesson.loss(journey)
    before = journey.noisy
    journey.move(velocity)
    share = journey.levels[0] - journey.levels[1]
    assert float(loss) == pytest.approx(float(((arrived - journey.noisy) / share).square().mean()), rel=1e-3)
    assert not torch.equal(before, journey.noisy)


def test_without_a_guidance_stage_the_flow_stage_teaches_the_student(config: Config) -> None:
    flow = torch.load(config.work_dir / "flow.pt", weights_only=True)["ema"]
    torch.save({"ema": {name: value + 1 for name, value in flow.items()}}, config.work_dir / "guidance.pt")
    guided = StudentLesson(config, torch.device("cpu")).teacher.state_dict()
    (config.work_dir / "guidance.pt").unlink()
    plain = StudentLesson(config, torch.device("cpu")).teacher.state_dict()
    name = "proj_out.weight"
    assert torch.equal(plain[name], flow[name]) and torch.equal(guided[name], flow[name] + 1)


def test_a_running_average_is_quick_while_it_is_young() -> None:
    average, model = torch.nn.Linear(1, 1, bias=False), torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(average.weight)
    torch.nn.init.ones_(model.weight)
    update_average(average, model, decay=0.99, steps=0)
    assert average.weight.item() == pytest.approx(0.9)
    update_average(average, model, decay=0.5, steps=1000)
    assert average.weight.item() == pytest.approx(0.95)


def test_what_is_taught_is_the_models_own_drawing_where_guidance_adds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.flow.transformer.GUIDED_ABOVE", 2.0)
    asked = load_pipeline(MODEL), ["a red house on a meadow", "a lake at dawn"], [3, 4], (256, 256)
    drawn, taught = sample(*asked, guidance=1.0), sample_taught(*asked)
    assert np.abs(np.stack(drawn).astype(int) - np.stack(taught)).max() <= 1
    monkeypatch.setattr("training.flow.transformer.GUIDED_ABOVE", 0.4)
    assert np.abs(np.stack(sample_taught(*asked)).astype(int) - np.stack(taught)).mean() > 5
