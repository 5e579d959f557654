"""Begin with a model that was exported before, instead of from nothing."""

import shutil
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from training.clock import load_checkpoint, require_checkpoint
from training.config import Config

_TEXT_FOLDERS = ("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")


def start_weights(start_from: Path, part: str) -> dict[str, Tensor]:
    """Weights of one part of an exported model, in float32.

    Args:
        start_from: its folder.
        part: "vae" or "transformer".

    Raises:
        FileNotFoundError: there are none; a warm start must never turn into a cold one unnoticed.
    """
    tensors = load_file(start_from / part / "diffusion_pytorch_model.safetensors")
    return {name: tensor.float() for name, tensor in tensors.items()}


def transformer_weights(config: Config) -> dict[str, Tensor]:
    """What the flow stage has made; where it has not run, the transformer that the configuration starts from.

    Raises:
        FileNotFoundError: there is neither.
    """
    path = config.work_dir / "flow.pt"
    if config.start_from and not path.exists():
        return start_weights(config.start_from, "transformer")
    return require_checkpoint(path)["ema"]


def dev_weights(config: Config) -> dict[str, Tensor]:
    """What the guidance stage has made; where it has not run, `transformer_weights`, whose guidance is learnt too.

    Raises:
        FileNotFoundError: there is neither.
    """
    guided = load_checkpoint(config.work_dir / "guidance.pt")
    return guided["ema"] if guided else transformer_weights(config)


def copy_text_encoders(start_from: Path, folder: Path) -> None:
    """Copy text encoders and tokenizers: they are trained once, and the transformer has learnt to read just these.

    Raises:
        FileNotFoundError: there are none.
    """
    for name in _TEXT_FOLDERS:
        shutil.copytree(start_from / name, folder / name, dirs_exist_ok=True)
