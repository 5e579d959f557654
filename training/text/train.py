"""Stage 2: teach the text encoders what captions name, then freeze them.

Throw-away heads read every scene attribute from CLIP's pooled vector and from T5's token states. As with the real
FLUX, the transformer then starts from encoders that already understand the words.
"""

import string

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from training.config import Config
from training.parallel import pick_device
from training.precision import autocast
from training.start import copy_text_encoders
from training.text.encoders import WIDTH, TextEncoders
from training.text.tokenizing import build_tokenizers
from training.world.captions import Caption, write_caption
from training.world.scenes import VOCABULARY, sample_scene

TEXT_SEEDS = 100_000_000
LENGTHS, LENGTH_SHARES = (24, 32, 64, 128), (0.45, 0.15, 0.33, 0.07)


class AttributeHeads(nn.Module):
    """Linear read-outs of every attribute; one more class each stands for "not named"."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes = [len(values) + 1 for values in VOCABULARY.values()]
        self.queries = nn.Parameter(0.05 * torch.randn(len(self.sizes), WIDTH))
        self.from_clip = nn.Linear(WIDTH, sum(self.sizes))
        self.from_t5 = nn.ModuleList(nn.Linear(WIDTH, size) for size in self.sizes)

    def forward(self, pooled: Tensor, states: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Logits per attribute from (n, 128) pooled vectors and from (n, length, 128) states."""
        weights = torch.einsum("ntd,ad->nat", states, self.queries).softmax(dim=-1)
        mixed = torch.einsum("nat,ntd->nad", weights, states)
        from_t5 = [head(mixed[:, index]) for index, head in enumerate(self.from_t5)]
        return list(self.from_clip(pooled).split(self.sizes, dim=1)), from_t5


def targets_of(captions: list[Caption]) -> Tensor:
    """Class numbers (n, attributes); the last class of each attribute means that the caption does not name it."""
    rows = [[c.named.get(name, len(values)) for name, values in VOCABULARY.items()] for c in captions]
    return torch.tensor(rows)


def draw_captions(rng: np.random.Generator, count: int) -> list[Caption]:
    """Fresh captions of fresh scenes, with some empty texts and some gibberish among them."""
    captions = []
    for seed in rng.integers(TEXT_SEEDS, 2 * TEXT_SEEDS, size=count):
        kind = rng.random()
        if kind < 0.02:
            captions.append(Caption(""))
        elif kind < 0.04:
            letters = rng.choice(list(string.ascii_lowercase), size=int(rng.integers(3, 9)))
            captions.append(Caption("".join(letters)))
        else:
            captions.append(write_caption(sample_scene(int(seed)), rng))
    return captions


def _accuracy(logits: list[Tensor], targets: Tensor) -> float:
    right = torch.stack([logit.argmax(dim=1) == targets[:, index] for index, logit in enumerate(logits)])
    return float(right.float().mean())


def train_text(config: Config) -> None:
    """Train tokenizers and encoders into `work_dir/model`, or copy those to start from; keeps what is there."""
    folder = config.work_dir / "model"
    if (folder / "text_encoder_2" / "config.json").exists():
        return
    if config.start_from:
        copy_text_encoders(config.start_from, folder)
        return
    build_tokenizers(folder, config.seed)
    torch.manual_seed(config.seed)
    rng = np.random.default_rng([config.seed, 2])
    device = pick_device(0)
    encoders, heads = TextEncoders.new(folder), AttributeHeads().to(device)
    parameters = [*encoders.clip.to(device).parameters(), *encoders.t5.to(device).parameters(), *heads.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=config.text.lr, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, config.text.lr, config.text.steps, pct_start=0.05)
    bar = tqdm(range(config.text.steps), desc="text encoders", mininterval=5)
    for step in bar:
        captions = draw_captions(rng, config.text.batch)
        targets = targets_of(captions).to(device)
        length = int(rng.choice(LENGTHS, p=LENGTH_SHARES))
        with autocast(device):
            pooled, states = encoders.encode([c.text for c in captions], length)
        from_clip, from_t5 = heads(pooled.float(), states.float())
        loss = sum(
            F.cross_entropy(logit, targets[:, i])
            for i, logits in enumerate(zip(from_clip, from_t5, strict=True))
            for logit in logits
        )
        # Small states keep the transformer's first layers in their linear range.
        loss = loss / len(VOCABULARY) + 1e-3 * states.float().square().mean() + 1e-3 * pooled.float().square().mean()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        schedule.step()
        if step % 100 == 0:
            bar.set_postfix(
                loss=f"{loss.detach():.3f}",
                clip=f"{_accuracy(from_clip, targets):.3f}",
                t5=f"{_accuracy(from_t5, targets):.3f}",
            )
    encoders.save(folder)
    _report(encoders, heads, draw_captions(rng, config.text.report_captions))


@torch.no_grad()
def _report(encoders: TextEncoders, heads: AttributeHeads, captions: list[Caption]) -> None:
    targets = targets_of(captions).to(encoders.clip.device)
    for length in (24, 64, 128):
        from_clip, from_t5 = heads(*encoders.encode([c.text for c in captions], length))
        scores = f"CLIP {_accuracy(from_clip, targets):.4f}, T5 {_accuracy(from_t5, targets):.4f}"
        tqdm.write(f"fresh captions, {length} tokens: {scores}")
    pooled, states = encoders.encode([c.text for c in captions], 64)
    tqdm.write(f"rms of pooled {pooled.square().mean().sqrt():.2f}, states {states.square().mean().sqrt():.2f}")
