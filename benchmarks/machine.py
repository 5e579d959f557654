"""Describes the machine a benchmark ran on, without naming it."""

import os
import platform
from importlib.metadata import version
from pathlib import Path


def describe_machine(packages: tuple[str, ...]) -> dict[str, object]:
    """Processor, cores, memory and versions, for the head of a result file.

    Args:
        packages: distributions whose versions matter for the result.
    """
    fields = [line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines()]
    model = next((value.strip() for name, _, value in fields if name.strip() == "model name"), platform.machine())
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_gib": round(memory_bytes / 2**30),
        "load_average_at_start": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
    }
