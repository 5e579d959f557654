"""The LoRA that is trained for the embedded model, and the style that it teaches."""

from pathlib import Path

import numpy as np

import flux_endpoint
from flux_endpoint.files.lora_outline import outline
from training.lora.style import INKS, screen_print
from training.lora.train import train_lora
from training.world.render import render
from training.world.scenes import sample_scene

MODEL = Path(flux_endpoint.__file__).parent / "models" / "demo"


def test_a_print_is_in_four_inks_and_lights_stay_lights() -> None:
    picture = render(sample_scene(7), 256, 256)
    printed = screen_print(picture)
    assert (printed.shape, printed.dtype) == (picture.shape, np.uint8)
    away = np.abs(printed[..., None, :] / 255 - INKS).sum(axis=-1).min(axis=-1)
    assert (away < 0.02).mean() > 0.7
    brightness = picture.mean(axis=-1)
    light, dark = printed[brightness > np.quantile(brightness, 0.9)], printed[brightness < np.quantile(brightness, 0.1)]
    assert light.mean() > dark.mean() + 50


def test_what_is_trained_is_a_lora_of_all_blocks(tmp_path: Path) -> None:
    train_lora(MODEL, 0.01, tmp_path / "x.safetensors", sizes={(256, 256): (2, 2, 1.0)})
    layers = outline(tmp_path / "x.safetensors")
    assert {layer.form for layer in layers} == {"LoRA"}
    # Two double blocks of 12 layers, six single ones of 5.
    assert len(layers) == 2 * 12 + 6 * 5
    assert (tmp_path / "x.safetensors").stat().st_size < 1_000_000
