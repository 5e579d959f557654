"""Pictures on their way from noise: a student that learns where it goes itself needs captions only, no latents."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from training.config import Config
from training.flow.transformer import PIXELS_PER_TOKEN, position_ids, schedule
from training.loaders import loader_rng, prepare
from training.text.encoders import Prompts, TextEncoders, Tokenizers
from training.world.captions import write_caption
from training.world.scenes import sample_scene

LENGTH = 64  # T5 tokens of a caption, as the pipeline pads.
LANES = 6  # Journeys under way in turn, so that one step's noise level says nothing about the next one's.
SCENES = 8_000_000  # Captions are those of so many scenes from the configured first one on.


@dataclass(slots=True)
class Journey:
    """A batch of pictures of one size, all at one noise level.

    Attributes:
        size: width and height in pixels.
        named: (n,) whether a caption says anything: False for "".
        noisy: (n, tokens, 128) where the pictures are.
        positions: (tokens, 3) from `position_ids`.
        pooled: (n, 128) from CLIP.
        states: (n, length, 128) from T5.
        levels: noise levels on the way, 1 to 0.
        index: number of the level they are at.
        guidance: (n,) guidance inputs for the whole way, once a stage that has such an input has set them.
    """

    size: tuple[int, int]
    named: Tensor
    noisy: Tensor
    positions: Tensor
    pooled: Tensor
    states: Tensor
    levels: list[float]
    index: int = 0
    guidance: Tensor | None = None

    @property
    def level(self) -> float:
        """The noise level the pictures are at."""
        return self.levels[self.index]

    @property
    def next_level(self) -> float:
        """The noise level they go to."""
        return self.levels[self.index + 1]

    @property
    def sequence_length(self) -> int:
        """Text and picture tokens together."""
        return self.states.shape[1] + self.noisy.shape[1]

    def move(self, velocity: Tensor) -> None:
        """Go to the next noise level along (n, tokens, 128)."""
        self.noisy = self.noisy + (self.next_level - self.level) * velocity
        self.index += 1

    def has_arrived(self) -> bool:
        """Whether no noise is left."""
        return self.index == len(self.levels) - 1


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a journey is to show, and in how many steps."""

    size: tuple[int, int]
    steps: int
    prompts: Prompts

    def pin_memory(self) -> "_Plan":
        return replace(self, prompts=self.prompts.pin_memory())


class _Plans(IterableDataset[_Plan]):
    def __init__(
        self,
        config: Config,
        tokenizers: Tokenizers,
        seed: list[int],
        tokens: int,
        steps: tuple[int, int],
        dropout: float,
    ) -> None:
        self._tokenizers, self._seed = tokenizers, seed
        self._tokens, self._steps, self._dropout = tokens, steps, dropout
        self._first_scene = config.flow.first_scene
        shares = {size: bucket.share / len(bucket.sizes) for bucket in config.flow.buckets for size in bucket.sizes}
        self._sizes, self._shares = list(shares), np.array(list(shares.values())) / sum(shares.values())

    def __iter__(self) -> Iterator[_Plan]:
        rng = loader_rng(self._seed)
        while True:
            size = self._sizes[int(rng.choice(len(self._sizes), p=self._shares))]
            count = max(self._tokens // (LENGTH + size[0] * size[1] // PIXELS_PER_TOKEN**2), 1)
            captions = [self._caption(rng) for _ in range(count)]
            steps = int(rng.integers(self._steps[0], self._steps[1] + 1))
            yield _Plan(size, steps, self._tokenizers(captions, LENGTH))

    def _caption(self, rng: np.random.Generator) -> str:
        if rng.random() < self._dropout:
            return ""
        return write_caption(sample_scene(self._first_scene + int(rng.integers(SCENES))), rng).text


class Journeys:
    """Starts journeys without end, of the sizes and shares of the configured buckets, and hands them out in turn.

    Args:
        config: says what sizes there are, whose scenes' captions to take, and how many loaders write them.
        text: encodes the captions.
        seed: decides sizes, captions and numbers of steps, together with the number of loaders.
        tokens: text and picture tokens of a batch.
        steps: fewest and most steps of a journey.
        dropout: chance of a caption to be replaced by "".
    """

    def __init__(
        self,
        config: Config,
        text: TextEncoders,
        seed: list[int],
        tokens: int,
        steps: tuple[int, int],
        dropout: float = 0.0,
    ) -> None:
        self._text = text
        self._plans = prepare(_Plans(config, text.tokenizers, seed, tokens, steps, dropout), config.loaders)

    def __iter__(self) -> Iterator[Journey]:
        """Journeys to be moved one level each; those that have arrived make room for new ones."""
        lanes = [self._start() for _ in range(LANES)]
        while True:
            for number, journey in enumerate(lanes):
                yield journey
                if journey.has_arrived():
                    lanes[number] = self._start()

    @torch.no_grad()
    def _start(self) -> Journey:
        plan, device = next(self._plans), self._text.clip.device
        prompts, positions = plan.prompts.to(device), position_ids(*plan.size, device)
        pooled, states = self._text(prompts)
        return Journey(
            size=plan.size,
            named=prompts.named,
            noisy=torch.randn(len(pooled), len(positions), 128, device=device),
            positions=positions,
            pooled=pooled,
            states=states,
            levels=schedule(len(positions), plan.steps),
        )
