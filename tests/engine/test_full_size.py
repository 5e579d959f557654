"""The check of a checkpoint with FLUX.1-dev's true sizes: 33 GB of weights that are holes in their files."""

import json
import shutil
import struct
import time
from collections.abc import Callable, Iterable
from math import prod
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from benchmarks.random_flux import TRUE_SIZES, meta_transformer, meta_vae
from flux_endpoint.core.catalog import ModelFamily
from flux_endpoint.core.errors import CheckpointError
from flux_endpoint.engine import weights
from flux_endpoint.engine.original_layout import original_tensors

Shapes = dict[str, tuple[int, ...]]
CPU = torch.device("cpu")


def write_holes(file: Path, shapes: Shapes) -> None:
    """A safetensors file in bfloat16 whose weights take no room on the disk."""
    header, position = {}, 0
    for name, shape in shapes.items():
        end = position + 2 * prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [position, end]}
        position = end
    text = json.dumps(header).encode()
    with file.open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        stream.truncate(8 + len(text) + position)


def write_shards(folder: Path, stem: str, shapes: Shapes, count: int) -> None:
    names = list(shapes)
    weight_map = {}
    for number in range(count):
        shard = f"{stem}-{number + 1:05}-of-{count:05}.safetensors"
        mine = names[number * len(names) // count : (number + 1) * len(names) // count]
        write_holes(folder / shard, {name: shapes[name] for name in mine})
        weight_map |= dict.fromkeys(mine, shard)
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(index))


def shapes_of(module: nn.Module, without: Iterable[str] = ()) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items() if name not in without}


@pytest.fixture
def full_size(copy_checkpoint: Callable[[ModelFamily], Path]) -> Path:
    folder = copy_checkpoint(ModelFamily.DEV)
    for component in ("transformer", "vae", "text_encoder", "text_encoder_2"):
        shutil.rmtree(folder / component)
        (folder / component).mkdir()
    transformer, vae = meta_transformer(TRUE_SIZES, ModelFamily.DEV), meta_vae(TRUE_SIZES)
    with torch.device("meta"):
        clip = CLIPTextModel(CLIPTextConfig(**TRUE_SIZES.clip))
        t5 = T5EncoderModel(T5Config(vocab_size=32128, feed_forward_proj="gated-gelu", **TRUE_SIZES.t5))
    for component, module in (("transformer", transformer), ("vae", vae)):
        module.save_config(folder / component)
    for component, module in (("text_encoder", clip), ("text_encoder_2", t5)):
        config = module.config.to_dict() | {"architectures": [type(module).__name__]}
        (folder / component / "config.json").write_text(json.dumps(config))
    write_shards(folder / "transformer", "diffusion_pytorch_model", shapes_of(transformer), 3)
    write_holes(folder / "vae/diffusion_pytorch_model.safetensors", shapes_of(vae))
    write_holes(folder / "text_encoder/model.safetensors", shapes_of(clip))
    write_shards(folder / "text_encoder_2", "model", shapes_of(t5, ["encoder.embed_tokens.weight"]), 2)
    return folder


def test_a_full_size_checkpoint_is_checked_in_a_moment(full_size: Path) -> None:
    started = time.process_time()
    report = weights.check_source(str(full_size), ModelFamily.DEV, device=CPU, download=False, available=10**11)
    assert time.process_time() - started < 10
    parameters = {component.name: component.parameters for component in report.components}
    assert parameters == {
        "transformer": 11_901_408_320,
        "vae": 83_819_683,
        "text_encoder": 123_060_480,
        "text_encoder_2": 4_762_310_656,
    }
    assert [len(component.files) for component in report.components] == [3, 1, 1, 2]
    # Float32 on the CPU: 4 bytes for each of 16.9 billion, and room to decode a picture.
    assert 4 * report.parameters < report.memory.peak_bytes < 4 * report.parameters + 5 * 10**9


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_full_size_checkpoint_does_not_fit_everywhere(full_size: Path, device: str) -> None:
    with pytest.raises(CheckpointError) as refused:
        weights.check_source(
            str(full_size),
            ModelFamily.DEV,
            device=torch.device(device),
            download=False,
            available=24 * 2**30,
            memory="full",
        )
    needed, advice = {
        "cpu": ("65.8 GiB of memory", "low would fit"),
        "cuda": ("32.9 GiB of memory on cuda", "offload would fit"),
    }[device]
    text = f"it needs {needed} and 24.0 GiB are available (MEMORY=full; {advice})"
    assert str(refused.value) == f"Model {full_size}: {text}"


@pytest.mark.parametrize(
    ("device", "gib", "mode", "peak_gib"),
    [
        ("cpu", 22, "low", 1.7),
        ("cpu", 64, "offload", 48.3),
        ("cpu", 66, "full", 65.8),
        ("cuda", 7.3, "low", 3.0),
        ("cuda", 24, "offload", 23.8),
        ("cuda", 33, "full", 32.9),
    ],
)
def test_how_a_full_size_checkpoint_is_kept(
    full_size: Path, device: str, gib: float, mode: str, peak_gib: float
) -> None:
    plan = weights.check_source(
        str(full_size), ModelFamily.DEV, device=torch.device(device), download=False, available=int(gib * 2**30)
    ).memory
    assert (plan.placement.mode, round(plan.peak_bytes / 2**30, 1)) == (mode, peak_gib)


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_the_published_single_file(full_size: Path, prefix: str) -> None:
    shapes = shapes_of(meta_transformer(TRUE_SIZES, ModelFamily.DEV))
    shutil.rmtree(full_size / "transformer")
    file = full_size / "flux1-dev.safetensors"
    write_holes(file, {prefix + name: tensor.shape for name, tensor in original_tensors(shapes).items()})
    report = weights.check_source(str(file), ModelFamily.DEV, device=CPU, download=False, available=10**11)
    assert (report.components[0].tensors, report.components[0].parameters) == (780, 11_901_408_320)
