"""Judge pictures without any outside model: a small network for scenes, plain arithmetic for shapes.

The network is trained on renders only (blurred, tinted and cropped at random, so that it looks at gross structure) and
on renders whose layout was spoiled: rolled, tiled, stacked. It never sees a generated picture.
"""

import itertools
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm

from training.checker.data import Examples, make_examples
from training.checker.rules import FoundShape, find_shapes
from training.config import Config
from training.precision import autocast
from training.world.scenes import VOCABULARY

SIDE = 96  # The network sees a thumbnail of this many pixels, whatever the picture's aspect.
HEADS = (
    "kind", "style", "time", "weather", "season", "ground", "background", "thing", "thing_colour", "thing_count",
    "thing_place",
)  # fmt: skip
WEIGHTS = Path(__file__).parent / "checker.safetensors"


class CheckerNetwork(nn.Module):
    """Four strided convolutions; rows and columns are kept apart to the end, because questions are about places."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 32, 64, 128, 160)
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        cells = SIDE // 16
        seen = (2 * cells + 1) * widths[-1]
        self.heads = nn.ModuleDict({name: nn.Linear(seen, len(VOCABULARY[name])) for name in HEADS})
        self.horizon = nn.Linear(seen, 1)

    def forward(self, thumbnails: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Logits per attribute, and one for "one horizon": (n, 3, 96, 96) in -1..1 to {name: (n, classes)}, (n,)."""
        maps = self.features(thumbnails)
        rows, columns, strongest = maps.mean(dim=3).flatten(1), maps.mean(dim=2).flatten(1), maps.amax(dim=(2, 3))
        seen = torch.cat([rows, columns, strongest], dim=1)
        return {name: head(seen) for name, head in self.heads.items()}, self.horizon(seen).squeeze(1)


def thumbnail(picture: np.ndarray) -> np.ndarray:
    """(h, w, 3) uint8 of any shape to (96, 96, 3) uint8, areas averaged."""
    return cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def to_network(thumbnails: np.ndarray) -> Tensor:
    """(n, 96, 96, 3) uint8 to (n, 3, 96, 96) float32 in -1..1."""
    pixels = torch.from_numpy(thumbnails).permute(0, 3, 1, 2).float().div(127.5).sub(1)
    return pixels.contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the checker sees in one picture.

    Attributes:
        seen: attribute to value, in the words of `scenes.VOCABULARY`.
        has_one_horizon: whether the layout is that of one picture, not of several stacked ones.
        shapes: what stands on a plain background; meaningless for scenes.
    """

    seen: dict[str, str]
    has_one_horizon: bool
    shapes: list[FoundShape] = field(default_factory=list)


class Checker:
    """The trained network with the shape rules."""

    def __init__(self, network: CheckerNetwork) -> None:
        self._network = network.eval()

    @classmethod
    def load(cls, path: Path = WEIGHTS) -> "Checker":
        """Read the network from a safetensors file."""
        network = CheckerNetwork()
        state = {n: value.float() if value.is_floating_point() else value for n, value in load_file(path).items()}
        network.load_state_dict(state)
        return cls(network)

    @torch.no_grad()
    def judge(self, pictures: list[np.ndarray]) -> list[Verdict]:
        """Look at (h, w, 3) uint8 pictures of any size."""
        logits, horizon = self._network(to_network(np.stack([thumbnail(picture) for picture in pictures])))
        names = {name: [VOCABULARY[name][int(i)] for i in value.argmax(dim=1)] for name, value in logits.items()}
        return [
            Verdict({name: values[i] for name, values in names.items()}, bool(horizon[i] > 0), find_shapes(picture))
            for i, picture in enumerate(pictures)
        ]


def _loss(network: CheckerNetwork, examples: Examples, chosen: Tensor) -> Tensor:
    """Cross entropy of every head that applies, plus that of the horizon, over the chosen examples."""
    logits, horizon = network(to_network(examples.thumbnails[chosen.numpy()]))
    terms = []
    for name in HEADS:
        classes = examples.classes[name][chosen]
        if bool((classes >= 0).any()):
            terms.append(F.cross_entropy(logits[name], classes, ignore_index=-1))
    intact = examples.intact[chosen]
    weight = (intact >= 0).float()
    return sum(terms) + F.binary_cross_entropy_with_logits(horizon, intact.clamp(min=0).float(), weight=weight)


def train_checker(config: Config) -> None:
    """Train the network on renders and write it in float16; does nothing when it is there."""
    path, epochs = config.checker.file, config.checker.epochs
    if path.exists():
        return
    torch.manual_seed(0)
    examples = make_examples(config.checker.scenes, config.checker.variants, HEADS, thumbnail)
    network = CheckerNetwork().to(memory_format=torch.channels_last)
    batch = min(128, len(examples.intact))
    optimiser = torch.optim.AdamW(network.parameters(), lr=4e-3, weight_decay=0.05)
    steps = max(epochs * len(examples.intact) // batch, 2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, steps, pct_start=0.1)
    bar = tqdm(range(steps), desc="checker", mininterval=10)
    for step in bar:
        with autocast(torch.device("cpu")):
            loss = _loss(network, examples, torch.randint(len(examples.intact), (batch,)))
        loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        schedule.step()
        if step % 50 == 0:
            bar.set_postfix(loss=f"{float(loss.detach()):.3f}")
    state = {name: value.half() if value.is_floating_point() else value for name, value in network.state_dict().items()}
    save_file({name: value.contiguous() for name, value in state.items()}, path)
