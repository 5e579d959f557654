"""Hand out training batches from the cached latents, with captions written fresh each time."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from training.clock import require_checkpoint
from training.config import Config
from training.encode.mirror import can_mirror, mirror, mirrored_scene
from training.encode.pictures import find_parts
from training.flow.transformer import PIXELS_PER_TOKEN
from training.loaders import loader_rng, prepare
from training.text.encoders import Prompts, Tokenizers
from training.world.captions import write_caption
from training.world.scenes import Scene, sample_scene

HELD_OUT = 48  # The first pictures of each size are never trained on; they measure the loss.
# T5 tokens per caption. Captions fit into 28; the pipeline pads to 64 without a mask, so that must be seen too.
LENGTHS, LENGTH_SHARES = (28, 64, 40), (0.75, 0.20, 0.05)

# A large picture's tokens say much the same: a random 80 of them, at their true places, teach its layout at a third
# of the cost. The rest of the batches keep all tokens, as sampling does.
SPARSE_TOKENS, SPARSE_SHARE = 80, 0.4
REFRESH_EVERY = 20  # Batches of a loader between looks for new parts on disk.


@dataclass(frozen=True, slots=True)
class Batch:
    """One training batch.

    Attributes:
        latents: (n, 32, h, w) float32.
        subject: (n, tokens) float32: share of each picture token that shows its subject (`Canvas.subject`).
        captions: n texts.
        length: T5 tokens that captions are padded to.
        size: width and height of the pictures in pixels.
        kept: how many of the picture tokens to train on.
    """

    latents: Tensor
    subject: Tensor
    captions: list[str]
    length: int
    size: tuple[int, int]
    kept: int

    def to(self, device: torch.device) -> "Batch":
        """The same on a device."""
        latents, subject = (part.to(device, non_blocking=True) for part in (self.latents, self.subject))
        return replace(self, latents=latents, subject=subject)

    def pin_memory(self) -> "Batch":
        """The same in page-locked memory, for `DataLoader`."""
        return replace(self, latents=self.latents.pin_memory(), subject=self.subject.pin_memory())


@dataclass(frozen=True, slots=True)
class _Part:
    """Cached pictures of one size.

    Attributes:
        latents: (n, 32, h, w) float16.
        subject: (n, tokens) float16.
        first_seed: of the first scene; the others follow.
        odds: (n,) how likely each is drawn, relative to the others; 0 for those held out.
    """

    latents: Tensor
    subject: Tensor
    first_seed: int
    odds: np.ndarray


def _load_part(path: Path, number: int, shape_weight: float) -> _Part:
    state = torch.load(path, weights_only=True, mmap=True)  # Loaders share what they map.
    odds = np.where(state["is_shape"].numpy(), shape_weight, 1.0)
    odds[: HELD_OUT if number == 0 and len(odds) > 2 * HELD_OUT else 0] = 0
    return _Part(state["latents"], state["subject"], state["first_seed"], odds)


class LatentStore:
    """All latents on disk so far; `refresh` takes in parts written since, or copied there from an earlier run."""

    def __init__(self, config: Config) -> None:
        self._folder = config.work_dir / "latents"
        self._mirror = require_checkpoint(config.work_dir / "latent_mirror.pt")["kernel"]
        self._shape_weight = config.flow.shape_weight
        self._scenes: dict[int, Scene] = {}  # By seed: most are drawn many times.
        self._parts: dict[tuple[int, int], dict[int, _Part]] = {}
        self._shares: dict[tuple[int, int], float] = {}
        for bucket in config.flow.buckets:
            for size in bucket.sizes:
                self._parts[size] = {}
                self._shares[size] = bucket.share / len(bucket.sizes)
        self.refresh()

    def refresh(self) -> int:
        """Load new parts; returns the number of pictures on hand."""
        for size, parts in self._parts.items():
            for part, path in find_parts(self._folder, size):
                if part not in parts:
                    parts[part] = _load_part(path, part, self._shape_weight)
        self._ready = [size for size, parts in self._parts.items() if parts]
        shares = np.array([self._shares[size] for size in self._ready])
        self._probability = shares / shares.sum()
        return sum(len(part.latents) for parts in self._parts.values() for part in parts.values())

    def draw(self, rng: np.random.Generator, tokens: int, dropout: float) -> Batch:
        """A batch of one size with about `tokens` text and picture tokens; half of those that can be are mirrored.

        Args:
            rng: decides everything.
            tokens: of the whole batch.
            dropout: chance of a caption to be replaced by "".
        """
        size = self._ready[int(rng.choice(len(self._ready), p=self._probability))]
        length = int(rng.choice(LENGTHS, p=LENGTH_SHARES))
        kept = size[0] * size[1] // PIXELS_PER_TOKEN**2
        if kept > SPARSE_TOKENS and rng.random() < SPARSE_SHARE:
            kept = SPARSE_TOKENS
        count = max(tokens // (length + kept), 1)
        parts = list(self._parts[size].values())
        odds = np.concatenate([part.odds for part in parts])
        starts = np.cumsum([0, *(len(part.odds) for part in parts[:-1])])
        chosen, subjects, captions, turned = [], [], [], []
        for row in rng.choice(len(odds), size=count, p=odds / odds.sum()):
            which = int(np.searchsorted(starts, row, side="right")) - 1
            part, index = parts[which], int(row - starts[which])
            chosen.append(part.latents[index])
            subjects.append(part.subject[index])
            scene = self._scene(part.first_seed + index)
            turned.append(can_mirror(scene) and rng.random() < 0.5)
            seen = mirrored_scene(scene) if turned[-1] else scene
            captions.append("" if rng.random() < dropout else write_caption(seen, rng).text)
        batch = Batch(torch.stack(chosen).float(), torch.stack(subjects).float(), captions, length, size, kept)
        self._turn(batch, torch.tensor(turned))
        return batch

    def _scene(self, seed: int) -> Scene:
        if seed not in self._scenes:
            self._scenes[seed] = sample_scene(seed)
        return self._scenes[seed]

    def _turn(self, batch: Batch, turned: Tensor) -> None:
        """Mirror the chosen pictures of a batch and the map of their subjects, in place."""
        batch.latents[turned] = mirror(batch.latents[turned], self._mirror)
        columns = batch.size[0] // PIXELS_PER_TOKEN
        batch.subject[turned] = batch.subject[turned].unflatten(1, (-1, columns)).flip(2).flatten(1)

    def held_out(self, size: tuple[int, int], length: int, seen: bool = False) -> Batch | None:
        """The held-out pictures of one size with fixed captions, or None while that size has none to hold out.

        Args:
            size: width and height in pixels.
            length: T5 tokens of a caption.
            seen: as many pictures that are trained on instead: where only their loss falls, they are too few.
        """
        if 0 not in self._parts.get(size, {}):
            return None
        part = self._parts[size][0]
        rng, count = np.random.default_rng(1), min(HELD_OUT, len(part.latents) // 2)
        if count == 0:
            return None
        start = count if seen else 0
        chosen = slice(start, start + count)
        seeds = range(part.first_seed + start, part.first_seed + start + count)
        captions = [write_caption(sample_scene(seed), rng).text for seed in seeds]
        tokens = size[0] * size[1] // PIXELS_PER_TOKEN**2
        return Batch(part.latents[chosen].float(), part.subject[chosen].float(), captions, length, size, tokens)


class _Stream(IterableDataset[tuple[Batch, Prompts]]):
    def __init__(self, config: Config, store: LatentStore, seed: list[int]) -> None:
        self._store, self._seed, self._flow = store, seed, config.flow
        self._tokenizers = Tokenizers.load(config.work_dir / "model")

    def __iter__(self) -> Iterator[tuple[Batch, Prompts]]:
        rng = loader_rng(self._seed)
        for number in itertools.count(1):
            batch = self._store.draw(rng, self._flow.tokens_per_step, self._flow.caption_dropout)
            yield batch, self._tokenizers(batch.captions, batch.length)
            if number % REFRESH_EVERY == 0:
                self._store.refresh()


def stream_batches(config: Config, store: LatentStore, seed: list[int]) -> Iterator[tuple[Batch, Prompts]]:
    """Batches without end, as `LatentStore.draw` makes them, with their captions tokenised.

    Args:
        config: says how large a batch is, how many captions are left out and how many loaders there are.
        store: the latents.
        seed: decides all batches, together with the number of loaders.
    """
    return prepare(_Stream(config, store, seed), config.loaders)
