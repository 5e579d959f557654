"""What guidance and student have in common: a model learns from a finished one, on journeys of its own."""

import copy
from pathlib import Path
from typing import Protocol

import torch
from diffusers import FluxTransformer2DModel
from torch import Tensor
from torch.nn.attention import sdpa_kernel
from tqdm import tqdm

from training.clock import Budget, load_checkpoint, save_checkpoint
from training.config import Config, DistilConfig
from training.flow.train import attention_kernels, is_block_matrix
from training.guidance.journeys import Journey, Journeys
from training.optim import build_optimisers, set_rate, update_average
from training.parallel import agree, average_gradients
from training.text.encoders import TextEncoders


class Lesson(Protocol):
    """What one stage teaches."""

    model: FluxTransformer2DModel
    text: TextEncoders

    def loss(self, journey: Journey) -> tuple[Tensor, Tensor]:
        """Scalar error at the journey's noise level, and the model's velocity (n, tokens, 128), float32.

        It multiplies in `compute_dtype`, whoever calls.
        """


def distil(
    rank: int, config: Config, stage: DistilConfig, lesson: Lesson, path: Path, steps: tuple[int, int], dropout: float
) -> None:
    """Train until the budget is spent; rank 0 logs and writes checkpoints to `path`.

    Args:
        rank: number of this process.
        config: everything else.
        stage: budget and rates.
        lesson: model and error.
        path: checkpoint, which is also resumed from.
        steps: fewest and most steps of a journey.
        dropout: share of captions that are replaced by "".
    """
    model, device = lesson.model, lesson.model.device
    average = copy.deepcopy(model).eval().requires_grad_(False)
    optimisers = build_optimisers(model, stage.muon_lr, stage.adam_lr, is_block_matrix)
    done, budget = 0, Budget(stage.minutes)
    if (state := load_checkpoint(path)) is not None:
        model.load_state_dict(state["model"])
        average.load_state_dict(state["ema"])
        done, budget = state["steps"], Budget(stage.minutes, state["spent_s"])
    torch.manual_seed(config.seed + 1000 * rank + done)
    journeys = Journeys(config, lesson.text, [config.seed, rank, done], stage.tokens_per_step, steps, dropout)
    saved_s, mean_loss = budget.spent_s, torch.zeros((), device=device)  # Reading it waits for the GPU.

    def save() -> None:
        state = {"model": model.state_dict(), "ema": average.state_dict()}
        save_checkpoint(path, {**state, "steps": done, "spent_s": budget.spent_s})
        tqdm.write(f"{path.stem}: step {done}  {budget.spent_s / 60:.1f} min  loss {float(mean_loss):.4f}")

    for journey in journeys:
        if (progress := agree(budget.progress, device)) >= 1.0:
            break
        set_rate(optimisers, min(1.0, done / 20 + 0.05, 1.0 - progress))
        with sdpa_kernel(attention_kernels(journey.sequence_length, device)):
            loss, velocity = lesson.loss(journey)
        loss.backward()
        average_gradients(model.parameters())
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        update_average(average, model, stage.ema, done)
        journey.move(velocity.detach())
        done += 1
        mean_loss.lerp_(loss.detach(), max(0.02, 1 / done))
        if rank == 0 and budget.spent_s - saved_s > config.checkpoint_s:
            saved_s = budget.spent_s
            save()
    if rank == 0:
        save()
