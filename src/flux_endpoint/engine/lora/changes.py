"""What a LoRA adds to the product of a linear layer, without the weight that it was trained beside."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional


class Change(Protocol):
    """A change of a weight."""

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """What it is kept in."""
        ...

    def plus(self, result: Tensor, numbers: Tensor, scale: float) -> Tensor:
        """The product of the unchanged layer plus what the change adds to it.

        Args:
            result: of the layer, (..., rows); may be overwritten.
            numbers: what the layer read, (..., columns).
            scale: how strongly the change acts.
        """
        ...

    def merged(self, weight: Tensor, scale: float) -> Tensor:
        """A weight, (rows, columns), with the change in it: a new tensor."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class LowRank:
    """up @ down, two narrow products instead of one as large as the layer's own.

    Attributes:
        down: (rank, columns).
        up: (rows, rank), with everything that the change is multiplied with but the scale of a request.
    """

    down: Tensor
    up: Tensor

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """See `Change.tensors`."""
        return self.down, self.up

    def plus(self, result: Tensor, numbers: Tensor, scale: float) -> Tensor:
        """See `Change.plus`."""
        narrow = functional.linear(numbers, self.down).flatten(0, -2)
        return result.flatten(0, -2).addmm_(narrow, self.up.t(), alpha=scale).view_as(result)

    def merged(self, weight: Tensor, scale: float) -> Tensor:
        """See `Change.merged`."""
        return torch.addmm(weight, self.up, self.down, alpha=scale)


@dataclass(frozen=True, slots=True, eq=False)
class Kronecker:
    """The Kronecker product of two small matrices, which is never written out.

    Attributes:
        first: (rows of blocks, columns of blocks).
        second: a block, with everything that the change is multiplied with.
    """

    first: Tensor
    second: Tensor

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """See `Change.tensors`."""
        return self.first, self.second

    def plus(self, result: Tensor, numbers: Tensor, scale: float) -> Tensor:
        """See `Change.plus`."""
        blocks = numbers.view(*numbers.shape[:-1], self.first.shape[1], self.second.shape[1])
        # (..., columns of blocks, block) to (..., rows of blocks, block), then the same within the blocks.
        mixed = functional.linear(torch.matmul(self.first, blocks), self.second)
        return result.add_(mixed.flatten(-2), alpha=scale)

    def merged(self, weight: Tensor, scale: float) -> Tensor:
        """See `Change.merged`."""
        return torch.add(weight, torch.kron(self.first, self.second), alpha=scale)


@dataclass(frozen=True, slots=True, eq=False)
class Whole:
    """A change that is as large as the weight: rows that cut through the blocks of a Kronecker product.

    Attributes:
        weight: (rows, columns).
    """

    weight: Tensor

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """See `Change.tensors`."""
        return (self.weight,)

    def plus(self, result: Tensor, numbers: Tensor, scale: float) -> Tensor:
        """See `Change.plus`."""
        return result.add_(functional.linear(numbers, self.weight), alpha=scale)

    def merged(self, weight: Tensor, scale: float) -> Tensor:
        """See `Change.merged`."""
        return torch.add(weight, self.weight, alpha=scale)


def together(changes: Sequence[tuple[Change, float]]) -> list[tuple[Change, float]]:
    """The same changes, those of low rank as one: three cost little more than one of three times the rank.

    Args:
        changes: of one layer, with their scales.
    """
    low = [(change, scale) for change, scale in changes if isinstance(change, LowRank)]
    if len(low) < 2:
        return list(changes)
    down = torch.cat([change.down for change, _ in low])
    up = torch.cat([change.up * scale for change, scale in low], dim=1)
    return [(LowRank(down, up), 1.0), *((one, scale) for one, scale in changes if not isinstance(one, LowRank))]
