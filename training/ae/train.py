"""Stage 1: train the autoencoder on renders; most of the gain comes late, when the learning rate has fallen."""

import math
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor
from tqdm import tqdm

from training.ae.autoencoder import build_autoencoder, encode, latent_penalty, reconstruction_loss
from training.clock import Budget, load_checkpoint, save_checkpoint
from training.config import AutoencoderConfig, Config
from training.optim import build_optimisers, set_rate
from training.parallel import agree, average_gradients, launch, pick_device
from training.precision import autocast
from training.start import start_weights
from training.world.render import render
from training.world.scenes import sample_scene

# Seeds of training scenes start here per stage, held-out ones far above: no stage sees another's test pictures.
AE_SEEDS = 1_000_000
HELD_OUT_SEEDS = 900_000_000
PENALTY = 3e-3
MAX_NOISE = 0.10  # Latents from the transformer are never exact; the decoder learns to forgive that much.


def cache_renders(config: Config) -> dict[int, np.ndarray]:
    """Render the training pictures once: {side: (n, side, side, 3) uint8}, kept on disk and mapped into memory."""
    folder = config.work_dir / "renders"
    folder.mkdir(parents=True, exist_ok=True)
    counts = {256: config.ae.renders_256, 512: config.ae.renders_512, 1024: config.ae.renders_1024}
    arrays = {}
    for side, count in counts.items():
        path = folder / f"{side}.npy"
        if not path.exists():
            seeds = range(AE_SEEDS + side * 100_000, AE_SEEDS + side * 100_000 + count)
            pictures = [render(sample_scene(s), side, side) for s in tqdm(seeds, desc=f"render {side} px")]
            partial = path.with_suffix(".partial.npy")
            np.save(partial, np.stack(pictures))
            partial.replace(path)
        arrays[side] = np.load(path, mmap_mode="r")
    return arrays


def to_pixels(pictures: np.ndarray, device: torch.device) -> Tensor:
    """(n, h, w, 3) uint8 to (n, 3, h, w) float32 in -1..1, channels last in memory (a third faster on CPUs)."""
    tensor = torch.from_numpy(np.ascontiguousarray(pictures)).to(device)
    return tensor.permute(0, 3, 1, 2).float().div(127.5).sub(1).contiguous(memory_format=torch.channels_last)


def draw_batch(renders: dict[int, np.ndarray], rng: np.random.Generator, batch: int, progress: float) -> np.ndarray:
    """Pick `batch` x 256 x 256 pixels: whole 256 px pictures, whole 512 px, crops, late a whole 1024 px picture."""
    kind = rng.random()
    if progress > 0.5 and kind > 0.985:
        return renders[1024][rng.integers(len(renders[1024]), size=1)]
    if kind < 0.40:
        return renders[256][np.sort(rng.integers(len(renders[256]), size=batch))]
    if kind < 0.72:
        return renders[512][np.sort(rng.integers(len(renders[512]), size=max(batch // 4, 1)))]
    crops = []
    for _ in range(batch):
        side = 512 if rng.random() < 0.35 else 1024
        x, y = rng.integers(0, side - 256 + 1, size=2)
        crops.append(renders[side][int(rng.integers(len(renders[side])))][y : y + 256, x : x + 256])
    return np.stack(crops)


def learning_rate_factor(progress: float, flat: float = 0.25) -> float:
    """Warm up over the first 1 %, stay flat, then fall along a cosine to zero."""
    if progress < flat:
        return min(1.0, 0.05 + progress / 0.01)
    return 0.5 + 0.5 * math.cos(math.pi * (progress - flat) / (1 - flat))


@torch.no_grad()
def measure_psnr(vae: AutoencoderKL, device: torch.device, counts: dict[int, int] | None = None) -> dict[int, float]:
    """Round-trip quality on held-out renders: {side: mean peak signal-to-noise ratio in dB}."""
    result = {}
    for side, count in (counts or {256: 16, 512: 6, 1024: 2}).items():
        values = []
        for index in range(count):
            pixels = to_pixels(render(sample_scene(HELD_OUT_SEEDS + index), side, side)[None], device)
            with autocast(device):
                output = vae.decoder(encode(vae, pixels))
            mse = ((output.float().clamp(-1, 1) - pixels) / 2).square().mean()
            values.append(-10 * math.log10(float(mse)))
        result[side] = sum(values) / count
    return result


def _step(vae: AutoencoderKL, pixels: Tensor, frozen: bool) -> Tensor:
    with autocast(pixels.device):
        with torch.set_grad_enabled(not frozen):
            latents = encode(vae, pixels)
        level = MAX_NOISE * torch.rand(len(latents), 1, 1, 1, device=latents.device)
        output = vae.decoder(latents + level * torch.randn_like(latents))
    loss = reconstruction_loss(output.float(), pixels)
    return loss if frozen else loss + PENALTY * latent_penalty(latents.float())


def train_worker(rank: int, config: Config) -> None:
    """Train until the budget is spent; rank 0 logs and writes `ae.pt` (and `encoder_ready` once it is frozen)."""
    ae: AutoencoderConfig = config.ae
    device, path = pick_device(rank), config.work_dir / "ae.pt"
    torch.manual_seed(config.seed)
    vae = build_autoencoder().to(device, memory_format=torch.channels_last)
    optimisers = build_optimisers(vae, ae.muon_lr, ae.adam_lr, lambda name, p: p.ndim == 4)
    state = load_checkpoint(path)
    steps, budget = 0, Budget(ae.minutes)
    if state is not None:
        vae.load_state_dict(state["model"])
        for optimiser, saved in zip(optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        steps, budget = state["steps"], Budget(ae.minutes, state["spent_s"])
    elif config.start_from:
        vae.load_state_dict(start_weights(config.start_from, "vae"))
    renders = cache_renders(config)
    rng = np.random.default_rng([config.seed, rank, steps])
    torch.manual_seed(config.seed + 1000 * rank + steps)
    bar = tqdm(total=100, desc="autoencoder", disable=rank != 0, mininterval=10)
    saved_s, mean_loss = budget.spent_s, 0.0
    while (progress := agree(budget.progress, device)) < 1.0:
        set_rate(optimisers, learning_rate_factor(progress))
        frozen = progress >= ae.decoder_only_from
        if frozen and vae.encoder.conv_in.weight.requires_grad:
            vae.encoder.requires_grad_(False)
            if rank == 0:
                _save(path.with_name("encoder_ready.pt"), vae, optimisers, steps, budget)
        pixels = to_pixels(draw_batch(renders, rng, ae.batch, progress), device)
        loss = _step(vae, pixels, frozen)
        loss.backward()
        average_gradients(vae.parameters())
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        steps += 1
        mean_loss += 0.02 * (float(loss) - mean_loss)
        bar.update(round(100 * progress) - bar.n)
        if rank == 0 and budget.spent_s - saved_s > config.checkpoint_s:
            saved_s = budget.spent_s
            _save(path, vae, optimisers, steps, budget)
            psnr = ", ".join(f"{side} px {value:.1f} dB" for side, value in measure_psnr(vae, device).items())
            tqdm.write(f"step {steps}  {budget.spent_s / 60:.1f} min  loss {mean_loss:.4f}  {psnr}")
    if rank == 0:
        _save(path, vae, optimisers, steps, budget)
        counts = {side: max(len(pictures) // 50, 1) for side, pictures in renders.items()}
        tqdm.write(f"done, {steps} steps: {measure_psnr(vae, device, counts)}")


def _save(path: Path, vae: AutoencoderKL, optimisers: list[torch.optim.Optimizer], steps: int, budget: Budget) -> None:
    state = {"model": vae.state_dict(), "optimisers": [o.state_dict() for o in optimisers]}
    save_checkpoint(path, {**state, "steps": steps, "spent_s": budget.spent_s})


def train_autoencoder(config: Config) -> None:
    """Run the stage in as many processes as the configuration says."""
    cache_renders(config)
    launch(train_worker, config.processes, 29611, config)
