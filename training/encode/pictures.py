"""Stage 3: render the transformer's pictures and keep only their latents, and where their subjects are.

A picture's scene follows from its seed alone, so captions need not be kept: they are written fresh at every visit.
Parts are written one after the other over all sizes; training may begin after the first.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from training.ae.autoencoder import LATENT_CHANNELS, build_autoencoder, encode, flatten_spectrum
from training.ae.train import to_pixels
from training.clock import load_checkpoint, save_checkpoint
from training.config import Config
from training.encode.mirror import fit_mirror
from training.flow.transformer import PIXELS_PER_TOKEN
from training.loaders import prepare
from training.parallel import launch, pick_device
from training.precision import autocast
from training.world.render import draw
from training.world.scenes import sample_scene

PARTS = 8
STATISTICS = {(256, 256): 320, (512, 512): 80, (1024, 1024): 16}  # Pictures to measure spectrum and mirroring on.
BATCH_PIXELS = 4 * 512 * 512


@dataclass(frozen=True, slots=True)
class Job:
    """Scenes to be drawn and encoded at one size, width and height in pixels."""

    seeds: range
    size: tuple[int, int]

    @property
    def batch(self) -> int:
        """How many are encoded at once."""
        return max(BATCH_PIXELS // (self.size[0] * self.size[1]), 1)


def load_encoder(config: Config, device: torch.device) -> AutoencoderKL:
    """The autoencoder as soon as its encoder is final; the decoder may still be in training."""
    state = load_checkpoint(config.work_dir / "encoder_ready.pt") or load_checkpoint(config.work_dir / "ae.pt")
    if state is None:
        raise FileNotFoundError(f"no autoencoder in {config.work_dir}: run that stage first")
    vae = build_autoencoder()
    vae.load_state_dict(state["model"])
    return vae.to(device, memory_format=torch.channels_last).eval().requires_grad_(False)


@dataclass(frozen=True, slots=True)
class Encoded:
    """Scenes as training keeps them, all float32 and on the CPU.

    Attributes:
        latents: (n, 32, height/32, width/32), not mixed.
        subject: (n, height/64 * width/64) share of every token that shows the subject (`Canvas.subject`), 0..1, row by
            row.
        is_shape: (n,) bool, whether it is a picture of plain shapes.
    """

    latents: Tensor
    subject: Tensor
    is_shape: Tensor


class _Drawings(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Batches of rendered scenes: pixels (n, height, width, 3) uint8, and the rest of what `Encoded` says of them."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._batches = [
            (job.seeds[start : start + job.batch], job.size)
            for job in jobs
            for start in range(0, len(job.seeds), job.batch)
        ]

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor, Tensor]:
        seeds, size = self._batches[number]
        scenes = [sample_scene(seed) for seed in seeds]
        canvases = [draw(scene, *size) for scene in scenes]
        masks = torch.from_numpy(np.stack([canvas.subject for canvas in canvases])).float()
        pixels = torch.from_numpy(np.stack([canvas.to_uint8() for canvas in canvases]))
        is_shape = torch.tensor([scene.kind == "shape" for scene in scenes])
        return pixels, F.avg_pool2d(masks, PIXELS_PER_TOKEN).flatten(1), is_shape


@torch.no_grad()
def _encode(vae: AutoencoderKL, pixels: Tensor) -> Tensor:
    with autocast(pixels.device):
        return encode(vae, pixels).float().cpu()


def encode_jobs(vae: AutoencoderKL, jobs: Sequence[Job], device: torch.device, loaders: int = 0) -> Iterator[Encoded]:
    """Render and encode scenes, job by job; `loaders` processes render ahead, over the ends of jobs."""
    drawings = prepare(_Drawings(jobs), loaders)
    for job in jobs:
        done = [
            (_encode(vae, to_pixels(pixels.numpy(), device)), *rest)
            for pixels, *rest in itertools.islice(drawings, math.ceil(len(job.seeds) / job.batch))
        ]
        yield Encoded(*(torch.cat(parts) for parts in zip(*done, strict=True)))


def encode_pairs(
    vae: AutoencoderKL, job: Job, device: torch.device, loaders: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """Render scenes, and encode each picture as it is and turned left to right: batches of latents, not mixed."""
    for drawn, *_ in prepare(_Drawings([job]), loaders):
        pixels = to_pixels(drawn.numpy(), device)
        yield _encode(vae, pixels), _encode(vae, pixels.flip(3))


def _statistics_jobs(config: Config) -> list[Job]:
    """Some pictures of a few sizes that are not trained on."""
    first, jobs = config.flow.first_scene, []
    for size, pictures in ((size, bucket.pictures) for bucket in config.flow.buckets for size in bucket.sizes):
        if (count := min(STATISTICS.get(size, 0), pictures)) > 0:
            jobs.append(Job(range(first - count, first), size))
    return jobs


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
        for made in encode_jobs(vae, _statistics_jobs(config), device, config.loaders):
            covariances.append(made.latents.transpose(0, 1).reshape(LATENT_CHANNELS, -1).cov())
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
        for job in _statistics_jobs(config)
        for plain, mirrored in encode_pairs(vae, job, device, config.loaders)
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
    sizes = [(size, bucket.pictures) for bucket in config.flow.buckets for size in bucket.sizes]
    jobs = {}
    for part, (number, (size, pictures)) in itertools.product(range(PARTS), enumerate(sizes)):
        first = config.flow.first_scene + number * 1_000_000
        seeds = range(first + part * pictures // PARTS, first + (part + 1) * pictures // PARTS)
        jobs[part_path(config.work_dir / "latents", size, part)] = Job(seeds, size)
    mine = {path: job for path, job in list(jobs.items())[rank::processes] if not path.exists()}
    made = encode_jobs(vae, list(mine.values()), device, config.loaders)
    bar = tqdm(mine.items(), desc="latents", disable=rank != 0, mininterval=10)
    for (path, job), part in zip(bar, made, strict=True):
        state = {"latents": mix(mixing, part.latents).half(), "subject": part.subject.half()}
        save_checkpoint(path, {**state, "is_shape": part.is_shape, "first_seed": job.seeds.start})


def encode_pictures(config: Config) -> None:
    """Write mixed float16 latents of every configured size to `work_dir/latents`."""
    device = pick_device(0)
    vae = load_encoder(config, device)
    latent_mirror(config, vae, latent_mixing(config, vae, device), device)
    launch(_encode_worker, config.processes, 29612, config, config.processes)
