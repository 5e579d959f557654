"""How much memory a device has left."""

import os
from pathlib import Path

import torch


def available_bytes(device: torch.device) -> int:
    """Free memory of a CUDA device, or of this machine for the CPU."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return available_ram_bytes()


def available_ram_bytes(root: Path = Path("/")) -> int:
    """Memory this process may still take: what the machine has left, or less inside a container with a limit.

    Args:
        root: of the file system with `proc` and `sys`.
    """
    meminfo = root / "proc/meminfo"
    if meminfo.is_file():
        machine = _field(meminfo, "MemAvailable:") * 1024
    else:
        # Not Linux: all memory there is, as the free part cannot be asked for without another package.
        machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    group = root / "sys/fs/cgroup"
    limit = group / "memory.max"
    if not limit.is_file() or limit.read_text().strip() == "max":
        return machine
    used = int((group / "memory.current").read_text())
    # File pages that were not used lately are given up before a process is refused memory.
    reclaimable = _field(group / "memory.stat", "inactive_file")
    return min(machine, int(limit.read_text()) - used + reclaimable)


def _field(file: Path, name: str) -> int:
    for line in file.read_text().splitlines():
        key, value, *_ = line.split()
        if key == name:
            return int(value)
    raise ValueError(f"{file} has no {name}")
