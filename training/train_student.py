"""Stage 5: a schnell model that draws in four steps and has no guidance input, taught by the trained dev model.

The student starts as the teacher at its default guidance. Then each of its four steps learns to arrive where the
teacher arrives with several smaller ones.
"""

import copy
import itertools

import numpy as np
import torch
from diffusers import FluxTransformer2DModel
from torch import Tensor
from torch.nn.attention import sdpa_kernel
from tqdm import tqdm

from training.clock import Budget, load_checkpoint, require_checkpoint, save_checkpoint
from training.config import Config
from training.flow import (
    BASE_SHIFT,
    BASE_TOKENS,
    DEFAULT_GUIDANCE,
    MAX_SHIFT,
    MAX_TOKENS,
    build_transformer,
    pack,
    position_ids,
    predict,
)
from training.latents import Batch, LatentStore, stream_batches
from training.optim import build_optimisers, set_rate
from training.parallel import pick_device
from training.precision import autocast
from training.text import TextEncoders
from training.train_flow import attention_kernel, is_block_matrix

STEPS = 4


def schedule(tokens: int, steps: int = STEPS) -> list[float]:
    """Noise levels at which `FluxPipeline` calls the model for a picture of so many tokens, and the final 0."""
    slope = (MAX_SHIFT - BASE_SHIFT) / (MAX_TOKENS - BASE_TOKENS)
    shift = float(np.exp(BASE_SHIFT + slope * (tokens - BASE_TOKENS)))
    levels = np.linspace(1.0, 1.0 / steps, steps)
    return [float(shift / (shift + 1 / level - 1)) for level in levels] + [0.0]


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


class StudentTrainer:
    """Teacher, student and the student's running average on one device."""

    def __init__(self, config: Config, device: torch.device) -> None:
        self.config, self.device = config, device
        self.teacher = build_transformer().to(device).eval().requires_grad_(False)
        self.teacher.load_state_dict(require_checkpoint(config.work_dir / "flow.pt")["ema"])
        self.model = without_guidance_input(self.teacher, DEFAULT_GUIDANCE)
        self.ema = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.text = TextEncoders.load(config.work_dir / "model", device)

    def loss(self, batch: Batch) -> Tensor:
        """Mean squared distance between the student's velocity and the teacher's mean velocity over one step."""
        x0, positions = pack(batch.latents.to(self.device)), position_ids(*batch.size, self.device)
        count, tokens = x0.shape[:2]
        levels = schedule(tokens)
        index = int(torch.randint(STEPS, ()))
        start, end = levels[index], levels[index + 1]
        noisy = torch.lerp(x0, torch.randn_like(x0), start)
        kernel = attention_kernel(tokens + batch.length, self.device)
        with sdpa_kernel(kernel), autocast(self.device):
            with torch.no_grad():
                pooled, states = self.text(batch.captions, batch.length)
                arrived = self._teach(noisy, start, end, pooled, states, positions)
            sigma = torch.full((count,), start, device=self.device)
            output = predict(self.model, noisy, sigma, None, pooled, states, positions)
        return (output.float() - (noisy - arrived) / (start - end)).square().mean()

    @torch.no_grad()
    def _teach(
        self, noisy: Tensor, start: float, end: float, pooled: Tensor, states: Tensor, positions: Tensor
    ) -> Tensor:
        """Where the teacher gets from noise level `start` to `end` in its own steps: (n, tokens, 128)."""
        levels = np.linspace(start, end, self.config.student.substeps + 1)
        guidance = torch.full((len(noisy),), DEFAULT_GUIDANCE, device=self.device)
        for before, after in itertools.pairwise(levels):
            sigma = torch.full((len(noisy),), float(before), device=self.device)
            velocity = predict(self.teacher, noisy, sigma, guidance, pooled, states, positions).float()
            noisy = noisy + float(after - before) * velocity
        return noisy

    def update_ema(self, steps: int) -> None:
        """Move the running average towards the student; faster while it is young."""
        decay = min(self.config.student.ema, (1 + steps) / (10 + steps))
        torch._foreach_lerp_(list(self.ema.parameters()), list(self.model.parameters()), 1 - decay)


def train_student(config: Config) -> None:
    """Train in one process until the budget is spent; writes `student.pt`."""
    student, device, path = config.student, pick_device(0), config.work_dir / "student.pt"
    trainer, store = StudentTrainer(config, device), LatentStore(config)
    optimisers = build_optimisers(trainer.model, student.muon_lr, student.adam_lr, is_block_matrix)
    steps, budget = 0, Budget(student.minutes)
    if (state := load_checkpoint(path)) is not None:
        trainer.model.load_state_dict(state["model"])
        trainer.ema.load_state_dict(state["ema"])
        steps, budget = state["steps"], Budget(student.minutes, state["spent_s"])
    batches = stream_batches(store, [config.seed, 5, steps], student.tokens_per_step, 0.0, config.loaders, sparse=False)
    torch.manual_seed(config.seed + steps)
    saved_s, mean_loss = budget.spent_s, 0.0

    def save() -> None:
        state = {"model": trainer.model.state_dict(), "ema": trainer.ema.state_dict()}
        save_checkpoint(path, {**state, "steps": steps, "spent_s": budget.spent_s})
        tqdm.write(f"student: step {steps}  {budget.spent_s / 60:.1f} min  loss {mean_loss:.4f}")

    while (progress := budget.progress) < 1.0:
        set_rate(optimisers, min(1.0, steps / 20 + 0.05, 1.0 - progress))
        loss = trainer.loss(next(batches))
        loss.backward()
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        trainer.update_ema(steps)
        steps += 1
        mean_loss += max(0.02, 1 / steps) * (float(loss.detach()) - mean_loss)
        if budget.spent_s - saved_s > config.checkpoint_s:
            saved_s = budget.spent_s
            save()
    save()
