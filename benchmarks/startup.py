"""How long a person waits: from `flux-endpoint serve` to the first accepted request and to the first picture.

Each round starts the server twice on one data folder: a first start, which makes the database, keys and folders, and a
second start. Both make one 1024 x 1024 picture of 28 steps with the embedded model.

    python -m benchmarks.startup --rounds 3
"""

import argparse
import json
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table

from benchmarks.load import free_port, plain_environment
from benchmarks.machine import describe_machine

RESULTS = Path(__file__).parent / "results" / "startup.json"
DEV = "/v2/black-forest-labs-flux-1-dev"
PICTURE = {"input": {"prompt": "A serene mountain landscape at sunset", "seed": 42, "image_format": "png"}}


def start_and_draw(data_dir: Path) -> dict[str, float]:
    """Start a server, wait until it accepts requests, make one picture, stop it. Returns seconds since the start."""
    key, port = secrets.token_hex(), free_port()
    settings = {"PORT": str(port), "DATA_DIR": str(data_dir), "API_KEY": key}
    environment = plain_environment() | {f"FLUX_ENDPOINT_{name}": value for name, value in settings.items()}
    start = time.perf_counter()
    command = [sys.executable, "-m", "flux_endpoint", "serve"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    base, headers = f"http://127.0.0.1:{port}", {"Authorization": f"Bearer {key}"}
    try:
        with httpx.Client(base_url=base, headers=headers, timeout=120) as client:
            while True:
                try:
                    client.get(f"{DEV}/health").raise_for_status()
                    break
                except httpx.TransportError:
                    if process.poll() is not None:
                        raise RuntimeError(f"serve ended with exit code {process.returncode}") from None
                    time.sleep(0.02)
            ready_s = time.perf_counter() - start
            job = client.post(f"{DEV}/runsync", json=PICTURE).raise_for_status().json()
            if job["status"] != "COMPLETED":
                raise RuntimeError(f"no picture: {job}")
            picture_s = time.perf_counter() - start
    finally:
        process.terminate()
        process.wait()
    return {"ready_s": ready_s, "first_picture_s": picture_s, "execution_s": job["executionTime"] / 1_000}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    result: dict[str, object] = {"machine": describe_machine(("torch", "diffusers", "transformers"))}
    rows: dict[str, list[dict[str, float]]] = {"first start": [], "second start": []}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            for name in rows:
                rows[name].append(start_and_draw(Path(folder) / "data"))
    table = Table(title=f"seconds, median of {rounds} rounds (min-max)")
    for column in ("", "accepts requests", "first picture 1024x1024", "of which execution"):
        table.add_column(column)
    for name, measured in rows.items():
        columns = [[row[field] for row in measured] for field in ("ready_s", "first_picture_s", "execution_s")]
        table.add_row(name, *(f"{statistics.median(c):.2f} ({min(c):.2f}-{max(c):.2f})" for c in columns))
    Console().print(table)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result | rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
