"""Plants faults in a copy of the package, one at a time, and tells which test finds each: `python -m tests.faults`.

The faults are in `faults.toml`. One whose text is not in the store any more is reported as stale: plant it anew. With
arguments, only those are planted whose names hold one of them.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
HISTORIES = "tests/contract/test_random_histories.py"
# In this order, until one fails.
SUITES = {
    "histories on SQLite": [HISTORIES, "-k", "sqlite"],
    "histories on PostgreSQL": [HISTORIES, "-k", "postgres"],
    "another contract test": ["tests/contract", "--ignore", HISTORIES],
}


@dataclass(frozen=True)
class Fault:
    """A text that stands once in a file of the store, and what stands in its place when the store is wrong."""

    name: str
    file: str
    old: str
    new: str


def plant(fault: Fault, package: Path) -> bool:
    """Change the copy; False when the text does not stand there exactly once."""
    path = package / "stores" / fault.file
    text = path.read_text()
    if text.count(fault.old) != 1:
        return False
    path.write_text(text.replace(fault.old, fault.new))
    return True


def is_caught(suite: list[str], folder: Path) -> bool:
    """Whether a test of a suite fails on the copy; a run that breaks down is no finding and ends everything."""
    options = ["-q", "-x", "-p", "no:cacheprovider", "--basetemp", str(folder / "tmp")]
    environment = os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", *options, *suite]
    process = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    summary = process.stdout.strip().rpartition("\n")[2]
    if process.returncode not in (0, 1) or "error" in summary:
        sys.exit(process.stdout + process.stderr)
    return process.returncode == 1


def found_by(fault: Fault | None) -> str:
    """Which suite finds a fault; without one, the histories must pass."""
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "flux_endpoint"
        shutil.copytree(ROOT / "src" / "flux_endpoint", package, ignore=shutil.ignore_patterns("models", "__pycache__"))
        if fault is not None and not plant(fault, package):
            return "STALE"
        for name, suite in SUITES.items():
            if fault is None and suite[0] != HISTORIES:
                continue
            began_s = time.monotonic()
            if is_caught(suite, Path(folder)):
                return f"{name}, {time.monotonic() - began_s:.0f} s"
        return "NOT FOUND"


def main() -> None:
    """Print who finds each fault; 1 when there is one that nobody finds."""
    faults = [Fault(**fault) for fault in tomllib.loads(Path(__file__).with_suffix(".toml").read_text())["fault"]]
    wanted = [fault for fault in faults if any(word in fault.name for word in sys.argv[1:] or [""])]
    if (failing := found_by(None)) != "NOT FOUND":
        sys.exit(f"without any fault, this fails: {failing}")
    findings = []
    for fault in wanted:
        findings.append(found_by(fault))
        print(f"{fault.name}: {findings[-1]}", flush=True)
    sys.exit(any(finding in ("STALE", "NOT FOUND") for finding in findings))


if __name__ == "__main__":
    main()
