"""Processors of both kinds, whichever is here."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(params=["bfloat16", "float32"])
def processor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A processor that multiplies bfloat16, then one that does not, whichever is here; torch warns every time."""
    told = {
        **torch.cpu.get_capabilities(),
        "amx_bf16": False,
        "bf16": False,
        "avx512_bf16": request.param == "bfloat16",
    }
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: told)
    torch.set_warn_always(True)
    yield request.param
    torch.set_warn_always(False)
