"""Stage 5: the dev model learns to draw in one pass what it draws in two, on the noise that it makes itself.

In the flow stage guidance was learnt on pictures mixed with noise. Where a drawing goes astray its noise is another,
and there the guidance input was never told what to do.
"""

import copy

import torch
from torch import Tensor

from training.config import Config
from training.flow.train import draw_guidance, guided_weight
from training.flow.transformer import (
    GUIDED_ABOVE,
    build_transformer,
    guidance_step,
    guidance_strength,
    guided_rows,
    predict,
)
from training.guidance.distil import distil
from training.guidance.journeys import LENGTH, Journey
from training.parallel import launch, pick_device
from training.precision import autocast
from training.start import transformer_weights
from training.text.encoders import TextEncoders

STEPS = (12, 28)  # Fewest and most of a journey: the endpoint's default, and fewer, for more journeys in the same time.
PLAIN_SHARE = 0.2  # Pictures that keep guidance 1.
DROPOUT = 0.06  # Captions left out; `guided_rows` says why they must be seen.


class GuidanceLesson:
    """Model and frozen teacher, the same at first; both on one device."""

    def __init__(self, config: Config, device: torch.device) -> None:
        self.model = build_transformer().to(device)
        self.model.load_state_dict(transformer_weights(config))
        self.teacher = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.text = TextEncoders.load(config.work_dir / "model", device)
        with torch.no_grad():
            self._empty = self.text.encode([""], LENGTH)

    def loss(self, journey: Journey) -> tuple[Tensor, Tensor]:
        """See `Lesson`: mean squared distance to the teacher's guided velocity; each picture keeps its guidance."""
        count, device = len(journey.noisy), journey.noisy.device
        if journey.guidance is None:
            plain = torch.rand(count, device=device) < PLAIN_SHARE
            journey.guidance = torch.where(plain, 1.0, draw_guidance(count, device))
        guidance, sigma = journey.guidance, torch.full((count,), journey.level, device=device)
        target = self._guided(journey, sigma, guidance)
        with autocast(device):
            output = predict(
                self.model, journey.noisy, sigma, guidance, journey.pooled, journey.states, journey.positions
            ).float()
        error = (output - target).square().mean(dim=(1, 2))
        return (error * guided_weight(guidance)).mean(), output

    @torch.no_grad()
    def _guided(self, journey: Journey, sigma: Tensor, guidance: Tensor) -> Tensor:
        """The teacher's velocity in two passes at guidance 1: (n, tokens, 128)."""
        ones = torch.ones_like(sigma)
        noisy, positions = journey.noisy, journey.positions
        with autocast(noisy.device):
            target = predict(self.teacher, noisy, sigma, ones, journey.pooled, journey.states, positions).float()
        rows = guided_rows(guidance, journey.named)
        if len(rows) == 0 or journey.level < GUIDED_ABOVE:
            return target
        pooled, states = (part.expand(len(rows), *part.shape[1:]) for part in self._empty)
        with autocast(noisy.device):
            without = predict(self.teacher, noisy[rows], sigma[rows], ones[rows], pooled, states, positions).float()
        strength = guidance_strength(guidance[rows])
        return target.index_add(0, rows, guidance_step(target[rows], without, noisy[rows], sigma[rows], strength))


def guidance_worker(rank: int, config: Config) -> None:
    """One process of the stage."""
    lesson = GuidanceLesson(config, pick_device(rank))
    distil(rank, config, config.guidance, lesson, config.work_dir / "guidance.pt", STEPS, DROPOUT)


def train_guidance(config: Config) -> None:
    """Run the stage in as many processes as the configuration says; writes `guidance.pt`."""
    launch(guidance_worker, config.processes, 29614, config)
