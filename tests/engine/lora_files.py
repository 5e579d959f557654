"""LoRA files in the layouts that trainers write, all of one set of changes."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from flux_endpoint.files.original_names import SWAPPED, original_module

Tensors = dict[str, Tensor]
RANK = 2
ALPHA = 3.0


@dataclass(frozen=True)
class Change:
    """down, (rank, columns), and up, (rows, rank)."""

    down: Tensor
    up: Tensor

    @property
    def dense(self) -> Tensor:
        return self.up @ self.down


def linear_sizes(transformer: torch.nn.Module) -> dict[str, tuple[int, int]]:
    """Rows and columns of all linear layers, by name."""
    return {
        name: tuple(module.weight.shape)
        for name, module in transformer.named_modules()
        if isinstance(module, torch.nn.Linear)
    }


def random_changes(sizes: Mapping[str, tuple[int, int]], seed: int = 0, rank: int = RANK) -> dict[str, Change]:
    """A change of each layer; layers that the original model computes as one share `down`, as they would there."""
    generator = torch.Generator().manual_seed(seed)
    downs: dict[str, Tensor] = {}
    changes = {}
    for name, (rows, columns) in sizes.items():
        fresh = torch.randn(rank, columns, generator=generator) * 0.2
        down = downs.setdefault(original_module(name)[0], fresh)
        changes[name] = Change(down, torch.randn(rows, rank, generator=generator) * 0.2)
    return changes


def save(tensors: Mapping[str, Tensor], file: Path, metadata: Mapping[str, str] | None = None) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, file, metadata=metadata)
    return file


def named(changes: Mapping[str, Change], name_of: Callable[[str], str], down: str, up: str, *, alpha: bool) -> Tensors:
    """Tensors under other names; with an alpha beside them, `up` is so much larger that they mean the same."""
    tensors = {}
    for module, change in changes.items():
        name, rank = name_of(module), len(change.down)
        tensors |= {f"{name}.{down}": change.down, f"{name}.{up}": change.up * (rank / ALPHA if alpha else 1)}
        tensors |= {f"{name}.alpha": torch.tensor(ALPHA)} if alpha else {}
    return tensors


def stacked(changes: Mapping[str, Change]) -> dict[str, Change]:
    """The same under original names: layers that are one there have their rows below each other."""
    parts: dict[str, dict[int, Change]] = {}
    for module, change in changes.items():
        original, place = original_module(module)
        parts.setdefault(original, {})[place] = change
    originals = {}
    for original, by_place in parts.items():
        ordered = [by_place[place] for place in sorted(by_place)]
        up = torch.cat([change.up for change in ordered])
        if original == SWAPPED:
            up = torch.cat(up.chunk(2)[::-1])
        originals[original] = Change(ordered[0].down, up)
    return originals


def underscored(prefix: str) -> Callable[[str], str]:
    return lambda name: prefix + name.replace(".", "_")


def diffusers(changes: Mapping[str, Change]) -> Tensors:
    return named(changes, lambda name: f"transformer.{name}", "lora_A.weight", "lora_B.weight", alpha=False)


def old_diffusers(changes: Mapping[str, Change]) -> Tensors:
    return named(changes, lambda name: f"transformer.{name}", "lora_down.weight", "lora_up.weight", alpha=True)


def kohya(changes: Mapping[str, Change]) -> Tensors:
    return named(stacked(changes), underscored("lora_unet_"), "lora_down.weight", "lora_up.weight", alpha=True)


def comfy_down(changes: Mapping[str, Change]) -> Tensors:
    names = stacked(changes)
    return named(names, lambda name: f"diffusion_model.{name}", "lora_down.weight", "lora_up.weight", alpha=True)


def comfy_a(changes: Mapping[str, Change]) -> Tensors:
    names = stacked(changes)
    return named(names, lambda name: f"diffusion_model.{name}", "lora_A.weight", "lora_B.weight", alpha=False)


def bare_original(changes: Mapping[str, Change]) -> Tensors:
    return named(stacked(changes), str, "lora_A.weight", "lora_B.weight", alpha=False)


def one_trainer(changes: Mapping[str, Change]) -> Tensors:
    return named(changes, underscored("lora_transformer_"), "lora_down.weight", "lora_up.weight", alpha=True)


def fal_kontext(changes: Mapping[str, Change]) -> Tensors:
    names = stacked(changes)
    return named(names, lambda name: f"base_model.model.{name}", "lora_A.weight", "lora_B.weight", alpha=False)


def peft(changes: Mapping[str, Change]) -> Tensors:
    return named(changes, lambda name: f"base_model.model.{name}", "lora_A.weight", "lora_B.weight", alpha=False)


def peft_folder(changes: Mapping[str, Change], folder: Path) -> Path:
    """A folder as PEFT writes it: alpha and rank in a file of their own."""
    names = {name: Change(change.down, change.up * (len(change.down) / ALPHA)) for name, change in changes.items()}
    file = save(peft(names), folder / "adapter_model.safetensors", {"format": "pt"})
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "bias": "none", "target_modules": sorted(names)}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return file


def xlabs(changes: Mapping[str, Change]) -> Tensors:
    """Attention layers alone; queries, keys and values of single blocks without the wide layer beside them."""
    places = {
        "img_attn.qkv": "processor.qkv_lora1",
        "txt_attn.qkv": "processor.qkv_lora2",
        "img_attn.proj": "processor.proj_lora1",
        "txt_attn.proj": "processor.proj_lora2",
        "linear1": "processor.qkv_lora",
        "linear2": "processor.proj_lora",
    }
    renamed = {}
    for original, change in stacked(changes).items():
        block, number, inner = original.split(".", 2)
        renamed[f"{block}.{number}.{places[inner]}"] = change
    return named(renamed, str, "down.weight", "up.weight", alpha=False)


def loha(sizes: Mapping[str, tuple[int, int]]) -> tuple[Tensors, dict[str, Tensor]]:
    """A LoHa of layers as LyCORIS writes it, and what it means, by original names."""
    generator, tensors, meant = torch.Generator().manual_seed(5), {}, {}
    for name, (rows, columns) in sizes.items():
        w1_a, w2_a = torch.randn(2, rows, RANK, generator=generator).unbind()
        w1_b, w2_b = torch.randn(2, RANK, columns, generator=generator).unbind()
        parts = {"w1_a": w1_a, "w1_b": w1_b, "w2_a": w2_a, "w2_b": w2_b}
        key = underscored("lycoris_")(name)
        tensors |= {f"{key}.hada_{part}": tensor for part, tensor in parts.items()} | {
            f"{key}.alpha": torch.tensor(ALPHA)
        }
        meant[name] = (w1_a @ w1_b) * (w2_a @ w2_b) * ALPHA / RANK
    return tensors, meant


def lokr(sizes: Mapping[str, tuple[int, int]], *, is_factored: bool, block: int) -> tuple[Tensors, dict[str, Tensor]]:
    """A LoKr likewise, with blocks of so many rows; without factors its alpha is the nonsense that trainers write."""
    generator, tensors, meant = torch.Generator().manual_seed(6), {}, {}
    for name, (rows, columns) in sizes.items():
        w1 = torch.randn(rows // block, columns // 4, generator=generator)
        w2_a, w2_b = torch.randn(block, RANK, generator=generator), torch.randn(RANK, 4, generator=generator)
        second = {"w2_a": w2_a, "w2_b": w2_b} if is_factored else {"w2": w2_a @ w2_b}
        key = underscored("lora_unet_")(name)
        tensors |= {f"{key}.lokr_{part}": tensor for part, tensor in {"w1": w1, **second}.items()}
        tensors[f"{key}.alpha"] = torch.tensor(ALPHA if is_factored else 1e31)
        meant[name] = torch.kron(w1, w2_a @ w2_b) * (ALPHA / RANK if is_factored else 1)
    return tensors, meant


LAYOUTS = {
    maker.__name__: maker
    for maker in (diffusers, old_diffusers, kohya, comfy_down, comfy_a, bare_original, one_trainer, fal_kontext)
}
