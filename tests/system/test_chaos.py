"""A small cut of the chaos run (`make chaos`): the same house, fewer orders, workers that no Ray places."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import clean_environment

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_nothing_is_lost_or_charged_wrongly_while_everything_breaks(tmp_path):
    # Another seed at each run would find more, and could not be repeated: `make chaos` draws one.
    command = [sys.executable, "-m", "tests.soak.chaos", "--jobs", "24", "--distinct", "4", "--workers", "1"]
    done = subprocess.run(
        [*command, "--longest", "1.5", "--seed", "7", "--out", str(tmp_path)],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "chaos.json").read_text())
    # Things did break, and each of 28 orders has its picture and its charge.
    assert len(report["troubles"]) > 3
    assert report["figures"]["pictures"]["decoded"] == report["figures"]["charges"]
    assert report["figures"]["promised"] == 28
    assert "<svg" in (tmp_path / "chaos.svg").read_text()
