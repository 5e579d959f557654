"""The journeys that the page of the architecture draws are those that a job takes."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
TEXT = (ROOT / "docs" / "architecture.md").read_text()
TITLES = {
    "A request down, and its picture back": "request",
    "A worker's take, and its report": "worker",
    "A key, from header to decision": "key",
}
MAX_STEPS = 9


@pytest.fixture(scope="module")
def traced() -> dict[str, dict[str, object]]:
    command = [sys.executable, "-m", "benchmarks.journeys", "--json"]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(process.stdout)


@pytest.mark.parametrize("title", TITLES)
def test_a_journey_is_drawn_as_it_is_in_the_code(title, traced):
    section = TEXT.partition(f"### {title}\n")[2].partition("\n### ")[0].partition("\nBetween the two")[0]
    steps = re.findall(r"^\d+\. `([\w/]+\.py)`", section, re.MULTILINE)
    assert 0 < len(steps) <= MAX_STEPS
    files = re.findall(r"`([\w/]+\.py)`", section)
    assert sorted(files) == sorted(traced[TITLES[title]]["files"])


def test_a_job_takes_no_more_than_this(traced):
    """The bar is a count and no time: whoever adds a layer to what every job does, changes this line on purpose."""
    assert traced["total"]["calls"] <= 150
    assert len(traced["total"]["files"]) <= 38
