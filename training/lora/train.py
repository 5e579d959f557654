"""Trains two thin matrices beside each linear layer of the exported model's blocks, whose own weights stay."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from training.ae.autoencoder import encode
from training.ae.train import to_pixels
from training.clock import Budget
from training.flow.train import draw_guidance, draw_sigma, guided_weight
from training.flow.transformer import guidance_step, guidance_strength, guided_rows, pack, position_ids, predict
from training.lora.style import screen_print
from training.text.encoders import TextEncoders
from training.world.captions import write_caption
from training.world.render import render
from training.world.scenes import Scene, sample_scene

RANK = 8
# Of the other stages' scenes none has such a number.
FIRST_SCENE = 900_000_000
# Width and height; how many pictures there are of them, how many make a step, and how often it is their turn.
Sizes = Mapping[tuple[int, int], tuple[int, int, float]]
SIZES: Sizes = {
    (256, 256): (320, 24, 0.35),
    (512, 512): (96, 12, 0.35),
    (768, 512): (24, 8, 0.15),
    (1024, 1024): (8, 3, 0.15),
}
T5_LENGTH = 32
RATE = 2e-3
WARM_UP, DECAY_FROM = 0.03, 0.5
# Of the pictures of a step: these learn what guidance makes of the style, the others the style itself.
GUIDED_SHARE = 0.4


class LoraLinear(nn.Module):
    """A linear layer with a change of low rank beside it, which is nothing at first."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear
        self.down = nn.Parameter(torch.randn(RANK, linear.in_features) / math.sqrt(linear.in_features))
        self.up = nn.Parameter(torch.zeros(linear.out_features, RANK))

    def forward(self, numbers: Tensor) -> Tensor:
        """The product of the layer, and of the change."""
        return self.linear(numbers) + functional.linear(functional.linear(numbers, self.down), self.up)


@dataclass(frozen=True, slots=True)
class Pictures:
    """Pictures of one size, in the style: latents, (n, 32, h, w), and the scenes that captions are written of."""

    size: tuple[int, int]
    latents: Tensor
    scenes: list[Scene]


def wrap(model: FluxTransformer2DModel) -> dict[str, LoraLinear]:
    """Put a change beside each linear layer of the blocks, but for the modulations; by the layers' names."""
    names = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and "transformer_blocks" in name and "norm" not in name
    ]
    changes = {}
    for name in names:
        parent, _, leaf = name.rpartition(".")
        changes[name] = LoraLinear(model.get_submodule(name))
        setattr(model.get_submodule(parent), leaf, changes[name])
    return changes


def printed_pictures(vae: AutoencoderKL, sizes: Sizes) -> list[Pictures]:
    """Render scenes, print them, and encode that."""
    made, first = [], FIRST_SCENE
    for size, (count, *_) in sizes.items():
        scenes = [sample_scene(seed) for seed in range(first, first + count)]
        first += count
        latents = []
        for scene in tqdm(scenes, desc=f"{size[0]}x{size[1]}", mininterval=10):
            pixels = screen_print(render(scene, *size))[None]
            with torch.no_grad():
                latents.append(encode(vae, to_pixels(pixels, torch.device("cpu"))))
        made.append(Pictures(size, torch.cat(latents), scenes))
    return made


def train_lora(folder: Path, minutes: float, out: Path, sizes: Sizes = SIZES) -> None:
    """Train the LoRA of an exported model and write it in the layout of diffusers, in bfloat16.

    Args:
        folder: the exported model.
        minutes: of processor time, the making of the pictures not counted.
        out: the file.
        sizes: of the pictures.
    """
    torch.manual_seed(0)
    text = TextEncoders.load(folder, torch.device("cpu"))
    pictures = printed_pictures(AutoencoderKL.from_pretrained(folder / "vae", dtype=torch.float32).eval(), sizes)
    model = FluxTransformer2DModel.from_pretrained(folder / "transformer", dtype=torch.float32).requires_grad_(False)
    changes = wrap(model)
    parameters = [parameter for change in changes.values() for parameter in (change.down, change.up)]
    optimiser = torch.optim.AdamW(parameters, RATE, betas=(0.9, 0.99), weight_decay=0.0)
    budget, losses, rng = Budget(minutes), list[float](), np.random.default_rng(0)
    while budget.progress < 1:
        rate = RATE * min(1.0, budget.progress / WARM_UP + 0.05, (1 - budget.progress) / (1 - DECAY_FROM))
        for group in optimiser.param_groups:
            group["lr"] = rate
        some = pictures[rng.choice(len(pictures), p=[share for *_, share in sizes.values()])]
        loss = _loss(model, text, some, sizes[some.size][1], rng)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        losses.append(float(loss.detach()))
        if len(losses) % 50 == 0:
            tqdm.write(f"{len(losses)} steps, {budget.progress:.0%}: {np.mean(losses[-50:]):.4f}")
    out.parent.mkdir(parents=True, exist_ok=True)
    save_file(dict(_tensors(changes)), out, metadata={"format": "pt", "modelspec.title": "Screen print in four inks"})


def _loss(
    model: FluxTransformer2DModel, text: TextEncoders, pictures: Pictures, count: int, rng: np.random.Generator
) -> Tensor:
    """Mean squared error of the velocity, at guidance 1 and with what guidance adds to it; see the flow stage."""
    chosen = rng.choice(len(pictures.scenes), count, replace=False)
    captions = [write_caption(pictures.scenes[number], rng).text for number in chosen]
    x0, positions = pack(pictures.latents[chosen]), position_ids(*pictures.size, torch.device("cpu"))
    sigma = draw_sigma(count, x0.shape[1], 0.15, 0.25, x0.device)
    noise = torch.randn_like(x0)
    noisy, target = torch.lerp(x0, noise, sigma[:, None, None]), noise - x0
    is_guided = torch.rand(count) < GUIDED_SHARE
    guidance = torch.where(is_guided, draw_guidance(count, x0.device), 1.0)
    with torch.no_grad():
        prompts = text.tokenizers(captions, T5_LENGTH)
        pooled, states = text(prompts)
        rows = guided_rows(guidance, prompts.named)
        if len(rows):
            empty_pooled, empty_states = text.encode([""], T5_LENGTH)
            common, ones = (model, noisy[rows], sigma[rows]), torch.ones(len(rows))
            shown = predict(*common, ones, pooled[rows], states[rows], positions)
            hidden = empty_pooled.expand(len(rows), -1), empty_states.expand(len(rows), -1, -1)
            without = predict(*common, ones, *hidden, positions)
            strength = guidance_strength(guidance[rows])
            target = target.index_add(0, rows, guidance_step(shown, without, noisy[rows], sigma[rows], strength))
    output = predict(model, noisy, sigma, guidance, pooled, states, positions)
    return ((output - target).square().mean(dim=(1, 2)) * guided_weight(guidance)).mean()


def _tensors(changes: dict[str, LoraLinear]) -> Iterator[tuple[str, Tensor]]:
    for name, change in changes.items():
        yield f"transformer.{name}.lora_A.weight", change.down.detach().to(torch.bfloat16).contiguous()
        yield f"transformer.{name}.lora_B.weight", change.up.detach().to(torch.bfloat16).contiguous()
