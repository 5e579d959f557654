import subprocess
import sys

import pytest

from flux_endpoint.engine import allocator

PROGRAM = """
import os, threading
import torch
from flux_endpoint.engine import allocator
torch.set_num_threads(1)
allocator.keep_freed_memory()

def resident_bytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

def use_and_free():
    for _ in range(3):
        torch.ones(64 * 2**20)

before = resident_bytes()
thread = threading.Thread(target=use_and_free)
thread.start()
thread.join()
kept = resident_bytes() - before
allocator.give_back_freed_memory()
left = resident_bytes() - before
assert kept > 200 * 2**20, kept
assert left < 50 * 2**20, left
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc only")
def test_freed_memory_is_kept_and_given_back() -> None:
    subprocess.run([sys.executable, "-c", PROGRAM], check=True)


def test_does_nothing_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    allocator.keep_freed_memory()
    allocator.give_back_freed_memory()
