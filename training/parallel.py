"""Data-parallel training with plain processes: one thread each on a CPU, one GPU each otherwise."""

import os
from collections.abc import Callable, Iterable

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn


def pick_device(rank: int) -> torch.device:
    """The GPU of this rank if there is one, else the CPU."""
    return torch.device("cuda", rank) if torch.cuda.is_available() else torch.device("cpu")


def launch(worker: Callable[..., None], processes: int, port: int, *args: object) -> None:
    """Run `worker(rank, *args)` in `processes` processes that can average gradients; wait for all of them."""
    if processes == 1:
        _run(0, worker, 1, port, *args)
        return
    mp.spawn(_run, (worker, processes, port, *args), nprocs=processes)


def _run(rank: int, worker: Callable[..., None], processes: int, port: int, *args: object) -> None:
    torch.set_num_threads(1)
    if processes > 1:
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo", rank=rank, world_size=processes)
    worker(rank, *args)
    if processes > 1:
        dist.destroy_process_group()


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace every gradient by its mean over the processes; sent as one bfloat16 message."""
    if not dist.is_initialized():
        return
    grads = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([g.flatten() for g in grads]).bfloat16()
    dist.all_reduce(flat)
    flat = flat.float() / dist.get_world_size()
    offset = 0
    for g in grads:
        g.copy_(flat[offset : offset + g.numel()].view_as(g))
        offset += g.numel()


def agree(value: float, device: torch.device) -> float:
    """Rank 0's value on every rank, so that clocks cannot make two ranks part."""
    if not dist.is_initialized():
        return value
    box = torch.tensor([value], dtype=torch.float64, device=device)
    dist.broadcast(box, 0)
    return float(box.item())


def gather_sum(value: Tensor) -> Tensor:
    """Sum of a tensor over the processes."""
    if dist.is_initialized():
        dist.all_reduce(value)
    return value


def process_rank() -> int:
    """Number of this process, 0 when alone."""
    return dist.get_rank() if dist.is_initialized() else 0


def process_count() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1
