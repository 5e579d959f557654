"""`make bench-gpu` with small modules on the CPU: the code is the GPU's."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks import engine_gpu


def test_the_ladder_is_measured_and_written_with_its_machine(tmp_path: Path) -> None:
    out = tmp_path / "new" / "results.json"
    assert engine_gpu.main(["--tiny", "--repeats", "1", "--out", str(out)]) == 0
    written = json.loads(out.read_text())
    assert written["machine"]["device"] == "cpu"
    assert written["machine"]["versions"]["torch"] == torch.__version__
    assert [rung["name"] for rung in written["rungs"]] == ["attention", "fused", "compiled", "graphs", "decoder", "fp8"]
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
    monkeypatch.setattr(engine_gpu.Ladder, "climb", lambda _: iter(()))
    monkeypatch.setattr(engine_gpu.Ladder, "results_hash", lambda _: "")
    out = tmp_path / "results.json"
    for seconds, reason in (("10000", "OutOfMemoryError: CUDA out of memory"), ("0", "no time was left")):
        assert engine_gpu.main(["--tiny", "--repeats", "1", "--seconds", seconds, "--out", str(out)]) == 0
        left_out = json.loads(out.read_text())["left_out"]
        assert left_out[0] == f"dev 64x64 10 steps by pipeline: {reason}"
        assert len(left_out) == 8
