"""What a worker's bytes depend on, told in one line."""

import os
import re
import subprocess
import sys
from typing import Final

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from flux_endpoint.core.catalog import FLUX_DEV, FLUX_SCHNELL
from flux_endpoint.engine.engine import FluxEngine
from flux_endpoint.engine.fake import FakeEngine
from flux_endpoint.engine.fingerprint import fingerprint_of
from flux_endpoint.engine.kernels import fingerprint_parts
from flux_endpoint.worker.process import fingerprint_of_all

_PROGRAM: Final = """
import torch
from flux_endpoint.engine.kernels import fingerprint_parts
torch.set_num_threads(1)
for name, value in fingerprint_parts(torch.device("cpu"), torch.float32).items():
    print(name, value)
"""


def parts_elsewhere(**environment: str) -> dict[str, str]:
    """The parts of a process with other settings of the libraries."""
    run = subprocess.run(
        [sys.executable, "-c", _PROGRAM], env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    return dict(line.split(" ", 1) for line in run.stdout.splitlines())


def test_the_hash_is_of_all_that_is_shown() -> None:
    parts = {"device": "cpu", "cpu": "Prozeßor\n 9"}
    text = fingerprint_of(parts)
    assert re.fullmatch(r"[0-9a-f]{8} \(device cpu, cpu Proze\?or 9\)", text)
    assert text == fingerprint_of(dict(parts))
    assert text.split()[0] != fingerprint_of(parts | {"device": "cuda"}).split()[0]


def test_a_process_like_this_one_has_the_same_fingerprint() -> None:
    assert parts_elsewhere() == fingerprint_parts(torch.device("cpu"), torch.float32)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("ATEN_CPU_CAPABILITY", "default"), ("ONEDNN_MAX_CPU_ISA", "SSE41"), ("MKL_CBWR", "COMPATIBLE")],
)
def test_other_kernels_are_another_kind(setting: str, value: str) -> None:
    here, there = fingerprint_parts(torch.device("cpu"), torch.float32), parts_elsewhere(**{setting: value})
    assert there["kernels"] != here["kernels"]
    assert fingerprint_of(there) != fingerprint_of(here)


def test_other_threads_and_another_format_are_another_kind() -> None:
    cpu = torch.device("cpu")
    one = fingerprint_parts(cpu, torch.float32)
    torch.set_num_threads(2)
    try:
        two = fingerprint_parts(cpu, torch.float32)
    finally:
        torch.set_num_threads(1)
    assert (one["threads"], two["threads"]) == ("1", "2")
    # torch's fused attention in bfloat16 needs instructions that not every processor has.
    with sdpa_kernel([SDPBackend.MATH]):
        assert fingerprint_parts(cpu, torch.bfloat16)["kernels"] != one["kernels"]


def test_an_engine_has_one_when_it_is_loaded(demo_engine: FluxEngine) -> None:
    _, levels = demo_engine._loaded()
    expected = fingerprint_of(fingerprint_parts(torch.device("cpu"), torch.float32) | levels.parts)
    assert demo_engine.info.fingerprint == expected
    fake = FakeEngine(FLUX_SCHNELL)
    assert re.fullmatch(r"[0-9a-f]{8} \(engine fake, zlib .*\)", fake.info.fingerprint)
    assert fingerprint_of_all({"a": demo_engine, "b": demo_engine}) == expected
    assert fingerprint_of_all({"a": FakeEngine(FLUX_DEV), "b": demo_engine}) == f"{fake.info.fingerprint}; {expected}"
