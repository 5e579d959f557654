"""Write the model in the diffusers folder layout, as `FluxPipeline.from_pretrained` reads it."""

import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, FluxPipeline

from training.ae.autoencoder import build_autoencoder, fold_mixing
from training.clock import load_checkpoint, require_checkpoint
from training.config import Config
from training.flow.transformer import build_scheduler, build_transformer
from training.start import dev_weights
from training.text.encoders import TextEncoders
from training.world.vocabulary import write_vocabulary

MAX_BYTES = 25_000_000  # Of the dev model.
MAX_BYTES_WITH_STUDENT = 45_000_000
STUDENT_FOLDER = "transformer_schnell"  # Everything else is shared with the dev model.


def load_autoencoder(config: Config) -> AutoencoderKL:
    """The trained autoencoder with the mixing of its latents folded into its weights.

    Where its stage has not run, it is the one that the configuration starts from, in float32.
    """
    if config.start_from and not (config.work_dir / "ae.pt").exists():
        return AutoencoderKL.from_pretrained(config.start_from / "vae", dtype=torch.float32)
    vae = build_autoencoder()
    vae.load_state_dict(require_checkpoint(config.work_dir / "ae.pt")["model"])
    fold_mixing(vae, require_checkpoint(config.work_dir / "latent_mixing.pt")["matrix"])
    return vae.eval()


def assemble_pipeline(config: Config) -> FluxPipeline:
    """A float32 pipeline of the latest checkpoints."""
    text = TextEncoders.load(config.work_dir / "model", torch.device("cpu"))
    transformer = build_transformer()
    transformer.load_state_dict(dev_weights(config))
    return FluxPipeline(
        scheduler=build_scheduler(),
        vae=load_autoencoder(config),
        text_encoder=text.clip,
        tokenizer=text.tokenizers.clip,
        text_encoder_2=text.t5,
        tokenizer_2=text.tokenizers.t5,
        transformer=transformer.eval(),
    )


def export_model(config: Config, folder: Path | None = None) -> Path:
    """Write the pipeline in bfloat16 safetensors to `folder` (default: the configured one); keeps a README there.

    A trained student goes into a folder of its own beside the transformer.

    Raises:
        ValueError: the folder is larger than the package may carry; it stays for inspection.
    """
    folder = folder or config.output_dir
    pipeline = assemble_pipeline(config).to(dtype=torch.bfloat16)
    for name in ("vae", "transformer", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler"):
        shutil.rmtree(folder / name, ignore_errors=True)
    pipeline.save_pretrained(folder)
    write_vocabulary(folder)
    shutil.rmtree(folder / STUDENT_FOLDER, ignore_errors=True)
    _check_size(folder, MAX_BYTES)
    if (state := load_checkpoint(config.work_dir / "student.pt")) is not None:
        student = build_transformer(guided=False)
        student.load_state_dict(state["ema"])
        student.to(torch.bfloat16).save_pretrained(folder / STUDENT_FOLDER)
        _check_size(folder, MAX_BYTES_WITH_STUDENT)
    return folder


def _check_size(folder: Path, limit: int) -> None:
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    if size > limit:
        raise ValueError(f"{folder} takes {size / 1e6:.1f} MB; at most {limit / 1e6:.0f} MB fit into the package")
