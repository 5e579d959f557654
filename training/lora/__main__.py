"""Train the LoRA that comes with the package.

python -m training.lora --minutes 5
"""

import argparse
from pathlib import Path

import torch

from training.lora.train import train_lora

PACKAGE = Path("src/flux_endpoint/models")


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(prog="python -m training.lora", description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=PACKAGE / "demo", help="exported model to train it for")
    parser.add_argument("--minutes", type=float, default=5.0, help="of processor time")
    parser.add_argument("--out", type=Path, default=PACKAGE / "loras" / "screenprint.safetensors")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    train_lora(arguments.model, arguments.minutes, arguments.out)


if __name__ == "__main__":
    main()
