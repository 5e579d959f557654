"""Judge pictures without any outside model: a palette rule for the time of day, and a small network for the rest.

The network is trained on renders only (blurred, tinted and cropped at random, so that it looks at gross structure) and
on renders whose layout was spoiled: rolled, tiled, stacked. It never sees a generated picture.
"""

import itertools
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm

from training.render import render
from training.scenes import VOCABULARY, sample_scene

SIDE = 64  # The network sees a thumbnail of this many pixels.
HEADS = ("time", "ground", "background", "thing", "kind")
CHECKER_SEEDS = 400_000_000
WEIGHTS = Path(__file__).parent / "checker.safetensors"


def time_by_palette(picture: np.ndarray) -> str:
    """Time of day from the mean colour of the top quarter of an (h, w, 3) uint8 picture.

    The thresholds lie midway between the hours' ranges over 800 renders: brightness 13..56 at night and over 100
    otherwise; red minus blue 50..100 at sunset, -27..21 at dawn, -162..-67 by day.
    """
    red, green, blue = picture[: max(len(picture) // 4, 1)].reshape(-1, 3).mean(axis=0)
    if 0.3 * red + 0.59 * green + 0.11 * blue < 79:
        return "night"
    if red - blue > 35:
        return "sunset"
    return "day" if red - blue < -47 else "dawn"


class CheckerNetwork(nn.Module):
    """Four strided convolutions; rows are kept apart to the end, because the question is what lies above what."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 24, 48, 72, 96)
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        self.heads = nn.ModuleDict({name: nn.Linear(4 * widths[-1], len(VOCABULARY[name])) for name in HEADS})
        self.horizon = nn.Linear(4 * widths[-1], 1)

    def forward(self, thumbnails: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Logits per attribute, and one for "one horizon": (n, 3, 64, 64) in -1..1 to {name: (n, classes)}, (n,)."""
        rows = self.features(thumbnails).mean(dim=3).flatten(1)
        return {name: head(rows) for name, head in self.heads.items()}, self.horizon(rows).squeeze(1)


def thumbnail(picture: np.ndarray) -> np.ndarray:
    """(h, w, 3) uint8 of any shape to (64, 64, 3) uint8, areas averaged."""
    return cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def to_network(thumbnails: np.ndarray) -> Tensor:
    """(n, 64, 64, 3) uint8 to (n, 3, 64, 64) float32 in -1..1."""
    return torch.from_numpy(thumbnails).permute(0, 3, 1, 2).float().div(127.5).sub(1)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the checker sees in one picture."""

    time: str
    ground: str
    background: str
    thing: str
    kind: str
    has_one_horizon: bool


class Checker:
    """The trained network with the palette rule."""

    def __init__(self, network: CheckerNetwork) -> None:
        self._network = network.eval()

    @classmethod
    def load(cls, path: Path = WEIGHTS) -> "Checker":
        """Read the network from a safetensors file."""
        network = CheckerNetwork()
        network.load_state_dict(
            {name: value.float() if value.is_floating_point() else value for name, value in load_file(path).items()}
        )
        return cls(network)

    @torch.no_grad()
    def judge(self, pictures: list[np.ndarray]) -> list[Verdict]:
        """Look at (h, w, 3) uint8 pictures of any size."""
        logits, horizon = self._network(to_network(np.stack([thumbnail(picture) for picture in pictures])))
        names = {name: [VOCABULARY[name][int(i)] for i in value.argmax(dim=1)] for name, value in logits.items()}
        return [
            Verdict(
                time=time_by_palette(picture),
                ground=names["ground"][index],
                background=names["background"][index],
                thing=names["thing"][index],
                kind=names["kind"][index],
                has_one_horizon=bool(horizon[index] > 0),
            )
            for index, picture in enumerate(pictures)
        ]


def spoil_layout(picture: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Make a picture that has no single horizon: rolled, tiled, stacked on another, or cut into bands."""
    side = len(picture)
    kind = int(rng.integers(5))
    if kind == 0:
        return np.roll(picture, int(side * rng.uniform(0.3, 0.7)), axis=0)
    if kind == 1:
        half = cv2.resize(picture, (side, side // 2), interpolation=cv2.INTER_AREA)
        return np.concatenate([half, half])
    if kind == 2:
        return np.concatenate(
            [cv2.resize(p, (side, side // 2), interpolation=cv2.INTER_AREA) for p in (picture, other)]
        )
    if kind == 3:
        small = cv2.resize(picture, (side // 2, side // 2), interpolation=cv2.INTER_AREA)
        return np.tile(small, (2, 2, 1))
    bands = np.array_split(picture, int(rng.integers(3, 6)))
    order = rng.permutation(len(bands))
    if (order == np.arange(len(bands))).all():
        order = order[::-1]
    return np.concatenate([bands[i] for i in order])


def disturb(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blur, tint, noise, slight crop and mirror: (h, w, 3) uint8 to the same shape."""
    side = len(picture)
    if rng.random() < 0.5:
        picture = picture[:, ::-1]
    margin = int(side * 0.08)
    top, left = rng.integers(0, margin + 1, size=2)
    picture = cv2.resize(picture[top : side - margin + top, left : side - margin + left], (side, side))
    if rng.random() < 0.7:
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.3, 2.2) * side / SIDE)
    out = picture * rng.uniform(0.9, 1.1, 3) + rng.uniform(-8, 8) + rng.normal(0, rng.uniform(0, 6), picture.shape)
    return np.clip(out, 0, 255).astype(np.uint8)


@dataclass(frozen=True, slots=True)
class _Examples:
    """Disturbed thumbnails (n, 64, 64, 3) uint8; classes (n,) per head, -1 to ignore; `intact` (n,) likewise."""

    thumbnails: np.ndarray
    classes: dict[str, Tensor]
    intact: Tensor


def _make_examples(count: int, variants: int) -> _Examples:
    rng = np.random.default_rng(0)
    scenes = [sample_scene(CHECKER_SEEDS + index) for index in range(count)]
    labels = [scene.labels() for scene in scenes]
    pictures = [
        render(scene, 2 * SIDE, 2 * SIDE) for scene in tqdm(scenes, desc="render for the checker", mininterval=5)
    ]
    views, rows, intact = [], [], []
    for index in tqdm(np.tile(np.arange(count), variants), desc="disturb", mininterval=5):
        views.append(thumbnail(disturb(pictures[index], rng)))
        rows.append(labels[index])
        # Plain shapes have no horizon at all: they count neither way.
        is_scene = scenes[index].kind == "scene"
        intact.append(1 if is_scene else -1)
        if is_scene and rng.random() < 0.6:
            spoiled = spoil_layout(pictures[index], pictures[int(rng.integers(count))], rng)
            views.append(thumbnail(disturb(spoiled, rng)))
            rows.append(dict.fromkeys(HEADS, -1))
            intact.append(0)
    classes = {name: torch.tensor([row[name] for row in rows]) for name in HEADS}
    return _Examples(np.stack(views), classes, torch.tensor(intact))


def train_checker(path: Path = WEIGHTS, count: int = 4000, variants: int = 3, epochs: int = 10) -> None:
    """Train the network on renders and write it (float16) to `path`; does nothing when it is there."""
    if path.exists():
        return
    torch.manual_seed(0)
    examples = _make_examples(count, variants)
    network, batch = CheckerNetwork(), 128
    optimiser = torch.optim.AdamW(network.parameters(), lr=4e-3, weight_decay=0.05)
    steps = epochs * (len(examples.intact) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, steps, pct_start=0.1)
    bar = tqdm(range(steps), desc="checker", mininterval=5)
    for step in bar:
        chosen = torch.randint(len(examples.intact), (batch,))
        logits, horizon = network(to_network(examples.thumbnails[chosen.numpy()]))
        loss = sum(F.cross_entropy(logits[name], examples.classes[name][chosen], ignore_index=-1) for name in HEADS)
        intact = examples.intact[chosen]
        weight = (intact >= 0).float()
        loss = loss + F.binary_cross_entropy_with_logits(horizon, intact.clamp(min=0).float(), weight=weight)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        schedule.step()
        if step % 50 == 0:
            bar.set_postfix(loss=f"{float(loss.detach()):.3f}")
    state = {name: value.half() if value.is_floating_point() else value for name, value in network.state_dict().items()}
    save_file(state, path)


def share_of_stacked_passing(checker: Checker, count: int = 200) -> float:
    """How many spoiled renders the checker wrongly lets pass as one horizon, 0..1."""
    rng = np.random.default_rng(9)
    scenes = [s for s in (sample_scene(CHECKER_SEEDS + 1_000_000 + i) for i in range(2 * count)) if s.kind == "scene"][
        :count
    ]
    pictures = [render(scene, 2 * SIDE, 2 * SIDE) for scene in scenes]
    spoiled = [spoil_layout(picture, pictures[i - 1], rng) for i, picture in enumerate(pictures)]
    return float(np.mean([verdict.has_one_horizon for verdict in checker.judge(spoiled)]))
