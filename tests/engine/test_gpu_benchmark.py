"""`make bench-gpu` with small modules on the CPU: the code is the GPU's."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from benchmarks import engine_gpu
from flux_endpoint.engine.gpu.ladder import Rung


def test_the_ladder_is_measured_and_written_with_its_machine(tmp_path: Path) -> None:
    out = tmp_path / "new" / "results.json"
    assert engine_gpu.main(["--tiny", "--repeats", "1", "--out", str(out)]) == 0
    written = json.loads(out.read_text())
    assert written["machine"]["device"] == "cpu"
    assert written["machine"]["versions"]["torch"] == torch.__version__
    assert [rung["name"] for rung in written["rungs"]] == ["attention", "fused", "compiled", "graphs", "fp8", "decoder"]
    assert written["rungs"][1]["is_kept"], written["rungs"]
    assert written["left_out"] == []
    for kernels in written["kernels"].values():
        assert 0 < sum(row["ms"] for row in kernels["longest"]) <= kernels["ms"] + 1
        assert any("mm" in row["name"] for row in kernels["longest"])
    drawn = ["pipeline", *written["levels"]]
    assert [(row["case"], row["by"]) for row in written["rows"]] == [
        (str(case), name) for case in engine_gpu.TINY_CASES for name in drawn
    ]
    passes = {row["by"]: row["passes"] for row in written["rows"] if row["case"].startswith("dev")}
    assert (passes["none"], passes["high"]) == (10, 9)
    assert all(row["are_bytes_the_same_again"] and row["by_pipeline"] > 0 for row in written["rows"])
    torch._dynamo.reset()


def test_without_a_gpu_it_says_so_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    out = tmp_path / "results.json"
    assert engine_gpu.main(["--out", str(out)]) == 1
    assert "needs a CUDA device with 45 GiB" in capsys.readouterr().out
    assert not out.exists()


def test_a_picture_that_fails_or_comes_too_late_is_written_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory\nmore")

    monkeypatch.setattr(engine_gpu.Contest, "draw", fails)

    def climb(_: object) -> Iterator[Rung]:
        for name in ("attention", "fused"):
            logging.getLogger("flux_endpoint.engine.gpu.graphs").warning("it gives other bits")
            yield Rung(is_kept=True, name=name)

    monkeypatch.setattr(engine_gpu.Ladder, "climb", climb)
    monkeypatch.setattr(engine_gpu.Ladder, "results_hash", fails)
    monkeypatch.setattr(engine_gpu, "kernels_of", fails)
    out, reason = tmp_path / "results.json", "OutOfMemoryError: CUDA out of memory"
    for seconds, reason_of_picture, rungs in (("10000", reason, 2), ("0", "no time was left", 1)):
        assert engine_gpu.main(["--tiny", "--repeats", "1", "--seconds", seconds, "--out", str(out)]) == 0
        written = json.loads(out.read_text())
        first, *others = written["left_out"]
        assert first == f"dev 64x64 10 steps by pipeline: {reason_of_picture}"
        assert others[-3:] == [
            f"{of}: {reason}" for of in ("kernels of none", "kernels of high", "the hash of the results")
        ]
        assert len(others) == 10 + 2 - rungs
        assert len(written["rungs"]) == len(written["log"]) == rungs
        assert "it gives other bits" in written["log"][0]
