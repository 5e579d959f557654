"""`flux-endpoint generate` with a model that is not well."""

import shutil
import subprocess
import sys
from pathlib import Path

import flux_endpoint

MODEL = Path(flux_endpoint.__file__).parent / "models" / "demo"


def test_it_makes_no_picture_of_numbers_that_are_none(tmp_path):
    folder = shutil.copytree(MODEL, tmp_path / "nan")
    file = folder / "transformer/diffusion_pytorch_model.safetensors"
    # bfloat16: the high half of a float32.
    data = bytearray(file.read_bytes())
    data[-2:] = b"\xc0\x7f"
    file.write_bytes(data)
    size = ["--width", "256", "--height", "256", "--steps", "1", "--threads", "1"]
    command = [
        sys.executable,
        "-m",
        "flux_endpoint",
        "generate",
        "a lake",
        "-o",
        "lake.png",
        "--model",
        str(folder),
        *size,
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 78
    assert "x_embedder.weight holds numbers that are NaN or infinite" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "lake.png").exists()
