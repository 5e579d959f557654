"""Which card keeps FLUX.1-dev how, computed by the planner from shapes; nothing is measured.

python -m benchmarks.cards
"""

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from benchmarks.random_files import shapes_of
from benchmarks.random_flux import TRUE_SIZES, meta_clip, meta_t5, meta_transformer, meta_vae
from flux_endpoint.core.catalog import ModelFamily
from flux_endpoint.core.errors import CheckpointError
from flux_endpoint.engine.detect import Component, FileKind
from flux_endpoint.engine.layout import CheckedComponent
from flux_endpoint.engine.memory_plan import AUTO, MemoryPlan, Needs, choose_placement
from flux_endpoint.engine.original_layout import OriginalTensor
from flux_endpoint.engine.step_estimate import TEXT_TOKENS, step_operations
from flux_endpoint.engine.stored import StoredTensor
from flux_endpoint.engine.stored_layers import size_of
from flux_endpoint.engine.weights import numbers_at_work
from flux_endpoint.files.safetensors_header import TensorHeader

_CUDA: Final = torch.device("cuda")
# Of each card's memory, the driver and torch's own context.
_TAKEN_GIB: Final = 0.7
# What cards of a size are assumed to do: about half of what their makers write. Put in what yours does.
_CARDS: Final = {8: 15, 12: 30, 16: 50, 24: 80, 32: 100, 48: 120, 80: 400}
_LINK_GB_PER_S: Final = 20
_IMAGE_TOKENS: Final = 4_096
# Bytes a number of the transformer's large layers.
_FILES: Final = {"bf16": ("BF16", 2.0), "fp8": ("F8_E4M3", 1.0), "GGUF Q4_0": ("Q4_0", 18 / 32)}


@dataclass(frozen=True)
class Card:
    """One row: how a card keeps a kind of file."""

    gib: int
    file: str
    plan: MemoryPlan | None
    step_s: float

    def cells(self) -> tuple[str, ...]:
        """For people."""
        if self.plan is None:
            return f"{self.gib} GB", self.file, "does not fit", "", ""
        peak = f"{self.plan.peak_bytes / 2**30:.1f} GiB"
        return f"{self.gib} GB", self.file, str(self.plan.placement.mode), peak, f"{self.step_s:.1f} s"


def table() -> str:
    """Markdown."""
    head = ("card", "transformer file", "mode", "peak", "a step, 1024 x 1024")
    rows = [head, ("---",) * len(head), *(card.cells() for card in cards())]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def cards() -> list[Card]:
    """All cards with all kinds of files; `auto` chooses."""
    transformer, vae = meta_transformer(TRUE_SIZES, ModelFamily.DEV), meta_vae(TRUE_SIZES)
    others = {
        Component.VAE: _checked(Component.VAE, vae),
        Component.CLIP: _checked(Component.CLIP, meta_clip(TRUE_SIZES)),
        Component.T5: _checked(Component.T5, meta_t5(TRUE_SIZES)),
    }
    operations = step_operations(shapes_of(transformer), _IMAGE_TOKENS, TEXT_TOKENS)
    found = []
    for gib, tera_per_s in _CARDS.items():
        for file, stored in _FILES.items():
            checked = {Component.TRANSFORMER: _checked(Component.TRANSFORMER, transformer, *stored), **others}
            sizes = {component: size_of(each, _CUDA, torch.bfloat16) for component, each in checked.items()}
            needs = Needs({"bfloat16": sizes}, numbers_at_work(vae.config))
            free = int((gib - _TAKEN_GIB) * 2**30)
            step_s = operations / tera_per_s / 1e12
            try:
                plan: MemoryPlan | None = choose_placement(AUTO, needs, "cuda", free)
            except CheckpointError:
                plan = None
            if plan and Component.TRANSFORMER in plan.placement.streamed:
                step_s = max(step_s, sizes[Component.TRANSFORMER].stored / _LINK_GB_PER_S / 1e9)
            found.append(Card(gib, file, plan, step_s))
    return found


def _checked(component: Component, module: nn.Module, dtype: str = "BF16", weight_bytes: float = 2) -> CheckedComponent:
    shapes: Any = shapes_of(module)
    tensors = {}
    for name, shape in shapes.items():
        is_large = len(shape) == 2 and name.endswith("weight")
        size = round(prod(shape) * (weight_bytes if is_large else 2))
        header = TensorHeader(dtype if is_large else "BF16", shape, size, Path(), name)
        tensors[name] = StoredTensor(shape, (header,))
    layout = {name: OriginalTensor(shape, ((name, shape[0]),)) for name, shape in shapes.items()}
    kind = FileKind(frozenset({component}), None, "shapes")
    return CheckedComponent(component, Path(), kind, module, layout, tensors)


if __name__ == "__main__":
    print(table())
