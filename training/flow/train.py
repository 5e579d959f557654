"""Stage 4: train the transformer on the latents, and distil guidance into it in the last part."""

import copy
import itertools
import math
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm import tqdm

from training.clock import Budget, load_checkpoint, save_checkpoint
from training.config import Config, FlowConfig
from training.flow.latents import Batch, LatentStore, stream_batches
from training.flow.transformer import (
    DEFAULT_GUIDANCE,
    PIXELS_PER_TOKEN,
    build_transformer,
    guidance_step,
    guidance_strength,
    guided_rows,
    pack,
    position_ids,
    predict,
    training_shift,
)
from training.optim import build_optimisers, set_rate, update_average
from training.parallel import agree, average_gradients, launch, pick_device
from training.precision import autocast
from training.start import start_weights
from training.text.encoders import Prompts, TextEncoders

VALIDATED = ((256, 256), (512, 512), (1024, 1024))
SERVED_LENGTH = 64
MAX_DETAIL_SIGMA = 0.6  # Above, single outlines drown in the noise.
PLAN_ABOVE_SHIFT = 1.0  # In the logit of the noise level.


def is_block_matrix(name: str, parameter: torch.nn.Parameter) -> bool:
    """Muon takes the matrices inside the blocks, but not the zero-started modulations."""
    return parameter.ndim == 2 and "transformer_blocks" in name and "norm" not in name


def learning_rate_factor(flow: FlowConfig, progress: float) -> float:
    """Warm up, stay flat, fall linearly to zero."""
    if progress < flow.warm_up:
        return 0.05 + 0.95 * progress / flow.warm_up
    return min(1.0, (1 - progress) / (1 - flow.decay_from))


def lowest_plan_sigma(tokens: int) -> float:
    """Where high noise begins, .66 at 256 px: from here on captions tell what the picture no longer shows."""
    return 1 / (1 + math.exp(-training_shift(tokens) - PLAN_ABOVE_SHIFT))


def draw_sigma(count: int, tokens: int, detail_share: float, plan_share: float, device: torch.device) -> Tensor:
    """Noise levels (count,): logit-normal around the shift that belongs to the picture's size, but for two shares.

    Where the noise hides the picture, the caption alone says what to draw: what is asked for is learnt there. Of the
    logit-normal one in forty levels is two deviations up, and at 1024 px one in fourteen is below 0.4, where outlines
    are. So one share is uniform over the high levels, another over the low ones.
    """
    layout = torch.sigmoid(training_shift(tokens) + torch.randn(count, device=device))
    plan = 1 - (1 - lowest_plan_sigma(tokens)) * torch.rand(count, device=device)
    detail = MAX_DETAIL_SIGMA * torch.rand(count, device=device)
    which = torch.rand(count, device=device)
    return torch.where(which < detail_share, detail, torch.where(which > 1 - plan_share, plan, layout))


def draw_guidance(count: int, device: torch.device) -> Tensor:
    """Guidance inputs (count,) in 1..10; every third is the default, which most pictures are made with."""
    guidance = 1 + 9 * torch.rand(count, device=device)
    return torch.where(torch.rand(count, device=device) < 0.35, DEFAULT_GUIDANCE, guidance)


def guided_weight(guidance: Tensor) -> Tensor:
    """How much a picture's error counts, 1 at guidance 1: undamped, long guided targets would drown plain pictures."""
    return 1 / (1 + 0.15 * (guidance_strength(guidance) - 1))


def token_weight(subject: Tensor, subject_weight: float) -> Tensor:
    """How much each token's error counts: a thing is what is looked at, but only a few tokens of a picture.

    Args:
        subject: (n, tokens) share of the token that shows the subject (`Canvas.subject`), 0..1.
        subject_weight: what a token that shows nothing else counts more than one without, which counts 1.

    Returns:
        (n, tokens), at least 1. A quarter of a token is enough for the full weight: outlines matter most.
    """
    return 1 + subject_weight * (4 * subject).clamp(max=1)


def masked_mean(errors: Tensor, shown: Tensor) -> float:
    """Mean of the errors where `shown` is 1; 0 where it is nowhere."""
    return float((errors * shown).sum() / shown.sum().clamp(min=1))


def attention_kernels(tokens: int, device: torch.device) -> list[SDPBackend]:
    """On a CPU the flash kernel's backward pass is slow for short sequences; plain matrix products win there."""
    if device.type == "cpu":
        return [SDPBackend.MATH if tokens < 200 else SDPBackend.FLASH_ATTENTION]
    # On a GPU the flash kernel knows no masks, which the text encoders have.
    return [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


class FlowTrainer:
    """Model, running average and text encoders of one process; `loss` is one forward pass."""

    def __init__(self, config: Config, device: torch.device) -> None:
        self.config, self.device = config, device
        self.model = build_transformer().to(device)
        self.ema = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.text = TextEncoders.load(config.work_dir / "model", device)

    def loss(self, batch: Batch, prompts: Prompts, guided: bool) -> Tensor:
        """Mean squared velocity error of a batch; with `guided`, part of it learns the guided velocity."""
        batch, prompts = batch.to(self.device), prompts.to(self.device)
        x0, positions = pack(batch.latents), position_ids(*batch.size, self.device)
        care = token_weight(batch.subject, self.config.flow.subject_weight)
        count, tokens = x0.shape[:2]
        if batch.kept < tokens:
            kept = torch.randperm(tokens, device=self.device)[: batch.kept]
            x0, positions, care = x0[:, kept], positions[kept], care[:, kept]
        noise = torch.randn_like(x0)
        # An outline is found by looking at the neighbouring tokens; where most are left out, there is none to find.
        detail_share = self.config.flow.detail_share if batch.kept == tokens else 0.0
        sigma = draw_sigma(count, tokens, detail_share, self.config.flow.plan_share, self.device)
        noisy = torch.lerp(x0, noise, sigma[:, None, None])
        target = noise - x0
        guidance = torch.ones(count, device=self.device)
        kernels = attention_kernels(batch.kept + batch.length, self.device)
        with sdpa_kernel(kernels), autocast(self.device):
            with torch.no_grad():
                pooled, states = self.text(prompts)
            if guided:
                is_guided = torch.rand(count, device=self.device) < self.config.flow.guidance_share
                guidance = torch.where(is_guided, draw_guidance(count, self.device), guidance)
                rows = guided_rows(guidance, prompts.named)
                target = self._add_guidance(rows, target, noisy, sigma, guidance, pooled, states, positions)
            output = predict(self.model, noisy, sigma, guidance, pooled, states, positions)
        error = ((output.float() - target).square().mean(dim=2) * care).mean(dim=1) / care.mean()
        return (error * guided_weight(guidance)).mean()

    @torch.no_grad()
    def _add_guidance(
        self,
        rows: Tensor,
        target: Tensor,
        noisy: Tensor,
        sigma: Tensor,
        guidance: Tensor,
        pooled: Tensor,
        states: Tensor,
        positions: Tensor,
    ) -> Tensor:
        """Move the target of some rows along `guidance_step`, as the running average sees it at guidance 1."""
        if len(rows) == 0:
            return target
        empty_pooled, empty_states = self.text.encode([""], states.shape[1])
        ones = torch.ones(len(rows), device=self.device)
        common = (self.ema, noisy[rows], sigma[rows], ones)
        with_caption = predict(*common, pooled[rows], states[rows], positions)
        without = predict(
            *common, empty_pooled.expand(len(rows), -1), empty_states.expand(len(rows), -1, -1), positions
        )
        strength = guidance_strength(guidance[rows])
        step = guidance_step(with_caption.float(), without.float(), noisy[rows], sigma[rows], strength)
        return target.index_add(0, rows, step)

    @torch.no_grad()
    def _fixed_errors(self, batch: Batch, sigma: Tensor) -> Tensor:
        """Squared error of the running average at guidance 1, with the same noise every time: (n, tokens)."""
        batch = batch.to(self.device)
        x0 = pack(batch.latents)
        noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0)).to(self.device)
        with autocast(self.device):
            pooled, states = self.text.encode(batch.captions, batch.length)
            noisy, positions = torch.lerp(x0, noise, sigma[:, None, None]), position_ids(*batch.size, self.device)
            output = predict(self.ema, noisy, sigma, torch.ones_like(sigma), pooled, states, positions)
        return (output.float() - (noise - x0)).square().mean(dim=2)

    def validate(self, store: LatentStore) -> dict[str, float]:
        """Loss of the running average at guidance 1 on fixed pictures, with fixed noise.

        Returns:
            Per size, the mean over all tokens of held-out pictures, and over those a quarter of which is subject
            (`Canvas.subject`); the latter also at high noise, where it tells what is known from captions, and on
            pictures that are trained on. They are other pictures, so levels do not compare; but where only their loss
            falls, they are being learnt by heart.
        """
        result = {}
        for size, seen in itertools.product(VALIDATED, (False, True)):
            batch = store.held_out(size, SERVED_LENGTH, seen)
            if batch is None:
                continue
            count, tokens = len(batch.captions), size[0] * size[1] // PIXELS_PER_TOKEN**2
            spread = torch.linspace(0, 1, count, device=self.device)
            shown = (batch.subject.to(self.device) > 0.25).float()
            errors = self._fixed_errors(batch, torch.sigmoid(training_shift(tokens) + 3 * spread - 1.5))
            if not seen:
                result[f"{size[0]} px"] = float(errors.mean())
                lowest = lowest_plan_sigma(tokens)
                high = self._fixed_errors(batch, lowest + (1 - lowest) * spread)
                result[f"subjects at high noise at {size[0]} px"] = masked_mean(high, shown)
            result[f"{'seen' if seen else 'held-out'} subjects at {size[0]} px"] = masked_mean(errors, shown)
        return result


def train_worker(rank: int, config: Config) -> None:
    """Train until the budget is spent; rank 0 logs and writes `flow.pt`."""
    flow, device, path = config.flow, pick_device(rank), config.work_dir / "flow.pt"
    torch.manual_seed(config.seed)
    trainer, store = FlowTrainer(config, device), LatentStore(config)
    optimisers = build_optimisers(trainer.model, flow.muon_lr, flow.adam_lr, is_block_matrix)
    steps, samples, budget = 0, 0, Budget(flow.minutes)
    if (state := load_checkpoint(path)) is not None:
        trainer.model.load_state_dict(state["model"])
        trainer.ema.load_state_dict(state["ema"])
        for optimiser, saved in zip(optimisers, state["optimisers"], strict=True):
            peaks = [group["peak"] for group in optimiser.param_groups]
            optimiser.load_state_dict(saved)
            for group, peak in zip(optimiser.param_groups, peaks, strict=True):
                group["peak"] = peak
        steps, samples, budget = state["steps"], state["samples"], Budget(flow.minutes, state["spent_s"])
    elif config.start_from:
        start = start_weights(config.start_from, "transformer")
        trainer.model.load_state_dict(start)
        trainer.ema.load_state_dict(start)
    batches = stream_batches(config, store, [config.seed, rank, steps])
    torch.manual_seed(config.seed + 1000 * rank + steps)
    bar = tqdm(total=100, desc="transformer", disable=rank != 0, mininterval=10)
    saved_s, mean_loss = budget.spent_s, torch.ones((), device=device)  # Reading it waits for the GPU.
    while (progress := agree(budget.progress, device)) < 1.0:
        set_rate(optimisers, learning_rate_factor(flow, progress))
        batch, prompts = next(batches)
        loss = trainer.loss(batch, prompts, guided=progress > flow.guidance_from)
        loss.backward()
        average_gradients(trainer.model.parameters())
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        update_average(trainer.ema, trainer.model, flow.ema, steps)
        steps, samples = steps + 1, samples + len(batch.captions) * config.processes
        mean_loss.lerp_(loss.detach(), 0.02)
        bar.update(round(100 * progress) - bar.n)
        if budget.spent_s - saved_s > config.checkpoint_s:
            saved_s = budget.spent_s
            pictures = store.refresh()
            if rank == 0:
                _save(path, trainer, optimisers, steps, samples, budget)
                losses = ", ".join(f"{size} {value:.3f}" for size, value in trainer.validate(store).items())
                message = (
                    f"step {steps}  {budget.spent_s / 60:.1f} min  {samples} samples of {pictures}"
                    f"  loss {float(mean_loss):.3f}  {losses}"
                )
                tqdm.write(message)
    if rank == 0:
        _save(path, trainer, optimisers, steps, samples, budget)
        tqdm.write(f"done: {steps} steps, {samples} samples, {trainer.validate(store)}")


def _save(
    path: Path, trainer: FlowTrainer, optimisers: list[torch.optim.Optimizer], steps: int, samples: int, budget: Budget
) -> None:
    state = {
        "model": trainer.model.state_dict(),
        "ema": trainer.ema.state_dict(),
        "optimisers": [o.state_dict() for o in optimisers],
    }
    save_checkpoint(path, {**state, "steps": steps, "samples": samples, "spent_s": budget.spent_s})


def train_flow(config: Config) -> None:
    """Run the stage in as many processes as the configuration says."""
    launch(train_worker, config.processes, 29613, config)
