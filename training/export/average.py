"""Mean of the transformers of two exported models.

A run that began with another's weights ends in the same valley of the loss: the mean of both has less of the noise that
each step leaves in the weights, and can be better than both (Wortsman et al., 2022, "Model soups").
"""

import argparse
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from training.start import start_weights

WEIGHTS = Path("transformer") / "diffusion_pytorch_model.safetensors"


def average_models(first: Path, second: Path, share: float, folder: Path) -> None:
    """Write `second` to `folder`, with the mean of both transformers in bfloat16 and without a student.

    Args:
        first: folder of an exported model.
        second: folder of another, which shares the first's autoencoder and text encoders.
        share: weight of the second transformer, 0..1.
        folder: where the mean goes; must not be there yet.

    Raises:
        ValueError: the two transformers are of different shapes, or the share is not between 0 and 1.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share must be from 0 to 1, not {share}")
    a, b = start_weights(first, "transformer"), start_weights(second, "transformer")
    if {name: tensor.shape for name, tensor in a.items()} != {name: tensor.shape for name, tensor in b.items()}:
        raise ValueError(f"the transformers of {first} and {second} are of different shapes")
    mean = {name: torch.lerp(a[name], b[name], share).to(torch.bfloat16).contiguous() for name in a}
    # A student learnt from one teacher and would not draw like the mean.
    shutil.copytree(second, folder, ignore=shutil.ignore_patterns("transformer_schnell"))
    save_file(mean, folder / WEIGHTS, metadata={"format": "pt"})


def main() -> None:
    """Parse the command line and write the mean."""
    parser = argparse.ArgumentParser(prog="python -m training.export.average", description="Mean of two models")
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("--share", type=float, default=0.5, help="weight of the second, 0 to 1")
    parser.add_argument("--out", type=Path, required=True, help="new folder for the mean")
    arguments = parser.parse_args()
    average_models(arguments.first, arguments.second, arguments.share, arguments.out)


if __name__ == "__main__":
    main()
