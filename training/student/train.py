"""Stage 6: a schnell model that draws in four steps and has no guidance input, taught by the trained dev model.

The student starts as the teacher at its default guidance. Then each of its four steps learns to arrive where the
teacher arrives with several smaller ones.
"""

import itertools

import numpy as np
import torch
from diffusers import FluxTransformer2DModel
from torch import Tensor

from training.config import Config
from training.flow.transformer import DEFAULT_GUIDANCE, build_transformer, predict
from training.guidance.distil import distil
from training.guidance.journeys import Journey
from training.parallel import launch, pick_device
from training.precision import autocast
from training.start import dev_weights
from training.text.encoders import TextEncoders

STEPS = 4


@torch.no_grad()
def without_guidance_input(teacher: FluxTransformer2DModel, guidance: float) -> FluxTransformer2DModel:
    """The same function at one fixed guidance: its embedding is a constant, which a bias can hold."""
    student = build_transformer(guided=False).to(teacher.device)
    student.load_state_dict({n: v for n, v in teacher.state_dict().items() if "guidance_embedder" not in n})
    embed = teacher.time_text_embed
    # The pipeline multiplies guidance by 1000, as it does the noise level.
    projected = embed.time_proj(torch.tensor([1000 * guidance], device=teacher.device))
    student.time_text_embed.timestep_embedder.linear_2.bias += embed.guidance_embedder(projected)[0]
    return student


class StudentLesson:
    """Student and frozen teacher on one device."""

    def __init__(self, config: Config, device: torch.device) -> None:
        self._substeps = config.student.substeps
        self.teacher = build_transformer().to(device).eval().requires_grad_(False)
        self.teacher.load_state_dict(dev_weights(config))
        self.model = without_guidance_input(self.teacher, DEFAULT_GUIDANCE)
        self.text = TextEncoders.load(config.work_dir / "model", device)

    def loss(self, journey: Journey) -> tuple[Tensor, Tensor]:
        """See `Lesson`: mean squared distance to the teacher's mean velocity over one step."""
        mean_velocity = (journey.noisy - self._teach(journey)) / (journey.level - journey.next_level)
        sigma = torch.full((len(journey.noisy),), journey.level, device=journey.noisy.device)
        with autocast(journey.noisy.device):
            output = predict(
                self.model, journey.noisy, sigma, None, journey.pooled, journey.states, journey.positions
            ).float()
        return (output - mean_velocity).square().mean(), output

    @torch.no_grad()
    def _teach(self, journey: Journey) -> Tensor:
        """Where the teacher gets to at the next noise level in its own steps: (n, tokens, 128)."""
        noisy, text = journey.noisy, (journey.pooled, journey.states)
        levels = np.linspace(journey.level, journey.next_level, self._substeps + 1)
        guidance = torch.full((len(noisy),), DEFAULT_GUIDANCE, device=noisy.device)
        for before, after in itertools.pairwise(levels):
            sigma = torch.full_like(guidance, float(before))
            with autocast(noisy.device):
                velocity = predict(self.teacher, noisy, sigma, guidance, *text, journey.positions).float()
            noisy = noisy + float(after - before) * velocity
        return noisy


def student_worker(rank: int, config: Config) -> None:
    """One process of the stage."""
    lesson = StudentLesson(config, pick_device(rank))
    distil(rank, config, config.student, lesson, config.work_dir / "student.pt", (STEPS, STEPS), 0.0)


def train_student(config: Config) -> None:
    """Run the stage in as many processes as the configuration says; writes `student.pt`."""
    launch(student_worker, config.processes, 29615, config)
