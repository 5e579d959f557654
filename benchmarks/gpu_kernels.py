"""Which operations one forward pass of a speed level spends a device's time in."""

from typing import Any, Final

import torch
from torch.profiler import ProfilerActivity, profile

from flux_endpoint.engine.level import Level
from flux_endpoint.engine.probe import Probe

MOST: Final = 25


def kernels_of(level: Level, probe: Probe, device: torch.device) -> dict[str, Any]:
    """The time of the longest operations of a pass, in milliseconds, and of all of them.

    Args:
        level: whose pass; it has run before, so that nothing is compiled or recorded any more.
        probe: what it draws.
        device: whose time counts. On CUDA it is that of its kernels, of a replayed graph's as well.
    """
    is_cuda = device.type == "cuda"
    velocity = probe.velocity(level.passes)
    with (
        torch.inference_mode(),
        profile(activities=[ProfilerActivity.CUDA if is_cuda else ProfilerActivity.CPU], acc_events=True) as made,
    ):
        probe.ask(velocity)
        if is_cuda:
            torch.cuda.synchronize(device)
    spent = "self_device_time_total" if is_cuda else "self_cpu_time_total"
    rows = sorted(made.key_averages(), key=lambda row: getattr(row, spent), reverse=True)
    longest = [
        {"ms": round(getattr(row, spent) / 1000, 3), "calls": row.count, "name": row.key[:120]} for row in rows[:MOST]
    ]
    return {"ms": round(sum(getattr(row, spent) for row in rows) / 1000, 3), "longest": longest}
