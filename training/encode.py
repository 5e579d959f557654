"""Stage 3: render the transformer's pictures and keep only their latents, and where their subjects are.

A picture's scene follows from its seed alone, so captions need not be kept: they are written fresh at every visit.
Parts are written one after the other over all sizes; training may begin after the first.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor
from tqdm import tqdm

from training.autoencoder import LATENT_CHANNELS, build_autoencoder, encode, flatten_spectrum
from training.clock import load_checkpoint, save_checkpoint
from training.config import Config
from training.flow import PIXELS_PER_TOKEN
from training.mirror import fit_mirror
from training.parallel import launch, pick_device
from training.precision import autocast
from training.render import draw
from training.scenes import sample_scene
from training.train_ae import to_pixels

PARTS = 8
STATISTICS = {(256, 256): 320, (512, 512): 80, (1024, 1024): 16}  # Pictures to measure spectrum and mirroring on.
BATCH_PIXELS = 4 * 512 * 512


def load_encoder(config: Config, device: torch.device) -> AutoencoderKL:
    """The autoencoder as soon as its encoder is final; the decoder may still be in training."""
    state = load_checkpoint(config.work_dir / "encoder_ready.pt") or load_checkpoint(config.work_dir / "ae.pt")
    if state is None:
        raise FileNotFoundError(f"no autoencoder in {config.work_dir}: run that stage first")
    vae = build_autoencoder()
    vae.load_state_dict(state["model"])
    return vae.to(device, memory_format=torch.channels_last).eval().requires_grad_(False)


def _draw_batches(seeds: range, width: int, height: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Rendered scenes: pixels (n, 3, height, width) in -1..1 and their subjects, (n, height, width) 0 or 1."""
    batch = max(BATCH_PIXELS // (width * height), 1)
    for start in range(0, len(seeds), batch):
        canvases = [draw(sample_scene(seed), width, height) for seed in seeds[start : start + batch]]
        pixels = to_pixels(np.stack([canvas.to_uint8() for canvas in canvases]), device)
        yield pixels, torch.from_numpy(np.stack([canvas.subject for canvas in canvases])).float()


@torch.no_grad()
def _encode(vae: AutoencoderKL, pixels: Tensor) -> Tensor:
    with autocast(pixels.device):
        return encode(vae, pixels).float().cpu()


def encode_seeds(
    vae: AutoencoderKL, seeds: range, width: int, height: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Render and encode scenes.

    Returns:
        Latents (n, 32, height/32, width/32), not mixed, and the share of every token that shows the subject
        (`Canvas.subject`), (n, height/64 * width/64) in 0..1, row by row; both float32 on the CPU.
    """
    chunks, subjects = [], []
    for pixels, masks in _draw_batches(seeds, width, height, device):
        chunks.append(_encode(vae, pixels))
        subjects.append(F.avg_pool2d(masks, PIXELS_PER_TOKEN).flatten(1))
    return torch.cat(chunks), torch.cat(subjects)


def encode_pairs(
    vae: AutoencoderKL, seeds: range, width: int, height: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Render scenes, and encode each picture as it is and turned left to right: batches of latents, not mixed."""
    for pixels, _ in _draw_batches(seeds, width, height, device):
        yield _encode(vae, pixels), _encode(vae, pixels.flip(3))


def _statistics_seeds(config: Config) -> list[tuple[tuple[int, int], range]]:
    """Sizes, and seeds of pictures that are not trained on."""
    first, counts = config.flow.first_scene, []
    for size, pictures in ((size, bucket.pictures) for bucket in config.flow.buckets for size in bucket.sizes):
        if (count := min(STATISTICS.get(size, 0), pictures)) > 0:
            counts.append((size, range(first - count, first)))
    return counts


def mix(mixing: Tensor, latents: Tensor) -> Tensor:
    """Multiply the channels of latents (n, 32, h, w) with the matrix."""
    return torch.einsum("om,nmhw->nohw", mixing, latents)


def latent_mixing(config: Config, vae: AutoencoderKL, device: torch.device) -> Tensor:
    """Matrix that the transformer's latents are made with, (32, 32); worked out once, then read from disk.

    An exported autoencoder has its mixing inside already, and the transformer exported with it knows those latents.
    """
    path = config.work_dir / "latent_mixing.pt"
    if (state := load_checkpoint(path)) is not None:
        return state["matrix"]
    matrix = torch.eye(LATENT_CHANNELS)
    if config.start_from is None:
        covariances = []
        for size, seeds in _statistics_seeds(config):
            latents, _ = encode_seeds(vae, seeds, *size, device)
            covariances.append(latents.transpose(0, 1).reshape(LATENT_CHANNELS, -1).cov())
        matrix = flatten_spectrum(torch.stack(covariances).mean(dim=0))
    save_checkpoint(path, {"matrix": matrix})
    return matrix


def latent_mirror(config: Config, vae: AutoencoderKL, mixing: Tensor, device: torch.device) -> Tensor:
    """Kernel that mirrors mixed latents (`mirror.mirror`); worked out once, then read from disk."""
    path = config.work_dir / "latent_mirror.pt"
    if (state := load_checkpoint(path)) is not None:
        return state["kernel"]
    kernel = fit_mirror(
        (mix(mixing, plain), mix(mixing, mirrored))
        for size, seeds in _statistics_seeds(config)
        for plain, mirrored in encode_pairs(vae, seeds, *size, device)
    )
    save_checkpoint(path, {"kernel": kernel})
    return kernel


def part_path(folder: Path, size: tuple[int, int], part: int) -> Path:
    """File of one part of one size's latents."""
    return folder / f"{size[0]}x{size[1]}-{part:02d}.pt"


def find_parts(folder: Path, size: tuple[int, int]) -> list[tuple[int, Path]]:
    """Numbers and files of one size's parts that are there, in order."""
    return [(int(path.stem.split("-")[1]), path) for path in sorted(folder.glob(f"{size[0]}x{size[1]}-*.pt"))]


def _encode_worker(rank: int, config: Config, processes: int) -> None:
    device = pick_device(rank)
    vae = load_encoder(config, device)
    mixing = latent_mixing(config, vae, device)
    folder = config.work_dir / "latents"
    sizes = [(size, bucket.pictures) for bucket in config.flow.buckets for size in bucket.sizes]
    jobs = [(part, number, size, pictures) for part in range(PARTS) for number, (size, pictures) in enumerate(sizes)]
    for part, number, size, pictures in tqdm(jobs[rank::processes], desc="latents", disable=rank != 0, mininterval=10):
        path = part_path(folder, size, part)
        if path.exists():
            continue
        scenes = config.flow.first_scene + number * 1_000_000
        seeds = range(scenes + part * pictures // PARTS, scenes + (part + 1) * pictures // PARTS)
        latents, subject = encode_seeds(vae, seeds, *size, device)
        latents = mix(mixing, latents).half()
        save_checkpoint(path, {"latents": latents, "subject": subject.half(), "first_seed": seeds.start})


def encode_pictures(config: Config) -> None:
    """Write mixed float16 latents of every configured size to `work_dir/latents`."""
    device = pick_device(0)
    vae = load_encoder(config, device)
    latent_mirror(config, vae, latent_mixing(config, vae, device), device)
    launch(_encode_worker, config.processes, 29612, config, config.processes)
