"""All stages of training run from nothing and end in a model that the stock pipeline draws with."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_every_stage_runs_from_nothing(tmp_path: Path) -> None:
    work, model = tmp_path / "work", tmp_path / "model"
    command = [sys.executable, "-m", "training", "--config", "training/smoke.toml"]
    done = subprocess.run(
        [*command, "--work-dir", str(work), "--output-dir", str(model)],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert {path.name for path in model.iterdir()} >= {"model_index.json", "transformer", "transformer_schnell", "vae"}
    assert {path.name for path in work.iterdir()} >= {"scores.json", "contact-sheet.jpg", "checker.safetensors"}
