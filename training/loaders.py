"""Processes that prepare batches ahead of time: a CPU that trains does not notice, a GPU would wait for them."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

AHEAD = 4  # Batches that each process may be ahead.

Item = TypeVar("Item")


def loader_rng(seed: Sequence[int]) -> np.random.Generator:
    """Random numbers of the process that asks, for use inside a dataset: no two loaders draw the same."""
    worker = get_worker_info()
    return np.random.default_rng([*seed, worker.id if worker else 0])


def prepare(dataset: Dataset[Item], loaders: int) -> Iterator[Item]:
    """What a dataset makes, in order; in page-locked memory where there is a GPU to send it to.

    Args:
        dataset: makes whole batches.
        loaders: processes that make them; 0 makes them here, when they are asked for.
    """
    ahead = AHEAD if loaders else None
    pinned = torch.cuda.is_available()
    return iter(DataLoader(dataset, batch_size=None, num_workers=loaders, prefetch_factor=ahead, pin_memory=pinned))
