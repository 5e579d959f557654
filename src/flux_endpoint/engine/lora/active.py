"""Applies LoRAs to single forward passes: between two passes the model is what it was."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from flux_endpoint.engine.lora.adapter import Adapter
from flux_endpoint.engine.lora.changes import Change, together
from flux_endpoint.files.lora_names import Tower


class ActiveLoras:
    """The LoRAs of one picture.

    Resident weights stay untouched: what is added and taken away again does not leave them as they were, and other
    pictures are drawn between two steps of this one (docs/decisions/0047-loras-beside-the-weights.md).

    Args:
        adapters: with their scales, in the order in which they are added up.

    Attributes:
        adapters: as above; equal for two pictures that are changed in the same way.
    """

    def __init__(self, adapters: Sequence[tuple[Adapter, float]]) -> None:
        self.adapters = tuple(adapters)
        changes: dict[tuple[Tower, str], list[tuple[Change, float]]] = {}
        for adapter, scale in adapters:
            # What is multiplied with 0 is left out: the bytes are those without it.
            for where, change in adapter.changes.items() if scale else ():
                changes.setdefault(where, []).append((change, scale))
        self._changes: Mapping[tuple[Tower, str], list[tuple[Change, float]]] = {
            where: together(ones) for where, ones in changes.items()
        }

    def changes(self, *towers: Tower) -> bool:
        """Whether anything in these components acts differently."""
        return any(tower in towers for tower, _ in self._changes)

    def of(self, tower: Tower) -> Iterator[tuple[str, Sequence[tuple[Change, float]]]]:
        """The layers of a component that are changed, and how."""
        return ((name, changes) for (where, name), changes in self._changes.items() if where is tower)


@contextmanager
def acting_on(loras: ActiveLoras | None, tower: Tower, module: nn.Module) -> Iterator[None]:
    """While a component of the model computes something for one picture.

    Args:
        loras: of the picture; None for nothing.
        tower: which component it is.
        module: the component.
    """
    with ExitStack() as hooks:
        for name, changes in loras.of(tower) if loras else ():
            hooks.enter_context(module.get_submodule(name).register_forward_hook(_adding(changes)))
        yield


def _adding(changes: Sequence[tuple[Change, float]]) -> Any:
    def hook(module: nn.Module, read: tuple[Tensor, ...], result: Tensor) -> Tensor:
        for change, scale in changes:
            result = change.plus(result, read[0], scale)
        return result

    return hook
