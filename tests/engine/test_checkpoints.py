"""Every way a checkpoint can be wrong is told in one line, before any weight is read."""

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import T5Tokenizer

from flux_endpoint.core.catalog import FLUX_DEV, ModelFamily
from flux_endpoint.core.errors import CheckpointError
from flux_endpoint.engine import weights
from flux_endpoint.engine.factory import check_source
from flux_endpoint.engine.memory_plan import MemoryMode
from flux_endpoint.engine.stored import StoredTensor
from tests.engine.conftest import SPECS, open_engine, rewrite_file

DEV, SCHNELL = ModelFamily.DEV, ModelFamily.SCHNELL
TRANSFORMER_INDEX = "transformer/diffusion_pytorch_model.safetensors.index.json"
T5_INDEX = "text_encoder_2/model.safetensors.index.json"
VAE = "vae/diffusion_pytorch_model.safetensors"

Copy = Callable[[ModelFamily], Path]


def refusal(source: Path, family: ModelFamily = DEV) -> str:
    """The text of the refusal, which must be the same for the check and for the engine."""
    with pytest.raises(CheckpointError) as checked:
        check_source(str(source), family, device="cpu")
    with pytest.raises(CheckpointError) as loaded:
        open_engine(source, SPECS[family])
    text = str(checked.value)
    assert text == str(loaded.value)
    assert "\n" not in text
    assert text.startswith(f"Model {source}: ")
    return text


def edit_json(file: Path, **changes: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize("family", [DEV, SCHNELL])
def test_a_good_checkpoint_passes(checkpoints: dict[ModelFamily, Path], family: ModelFamily) -> None:
    report = check_source(str(checkpoints[family]), family, device="cpu")
    assert (report.name, report.family, report.device) == (f"FLUX.1-{family}", family, "cpu")
    assert [component.name for component in report.components] == [
        "transformer",
        "vae",
        "text_encoder",
        "text_encoder_2",
    ]
    assert all(component.dtypes == ("BF16",) for component in report.components)
    assert len(report.components[0].files) > 1
    assert len(report.components[3].files) > 1
    assert report.size_bytes == 2 * report.parameters
    assert report.memory.peak_bytes > 4 * report.parameters


def test_the_embedded_model_serves_both_families() -> None:
    reports = [check_source("demo", family, device="cpu") for family in SPECS]
    assert [report.family for report in reports] == [DEV, SCHNELL]
    assert all(report.size_bytes < 25_000_000 for report in reports)


def test_checking_reads_no_weights(checkpoints: dict[ModelFamily, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("weights were opened")

    monkeypatch.setattr(StoredTensor, "read", refuse)
    check_source(str(checkpoints[DEV]), DEV, device="cpu")


@pytest.mark.parametrize(
    "name",
    [
        "model_index.json",
        "scheduler/scheduler_config.json",
        "transformer/config.json",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "text_encoder_2/config.json",
        T5_INDEX,
        TRANSFORMER_INDEX,
        "tokenizer/vocab.json",
        "tokenizer/merges.txt",
        "tokenizer/tokenizer_config.json",
        "tokenizer_2/tokenizer.json",
        "tokenizer_2/tokenizer_config.json",
    ],
)
def test_missing_file(copy_checkpoint: Copy, name: str) -> None:
    folder = copy_checkpoint(DEV)
    (folder / name).unlink()
    text = refusal(folder)
    assert Path(name).name in text
    assert "missing" in text or "lacks" in text


@pytest.mark.parametrize("index", [TRANSFORMER_INDEX, T5_INDEX])
def test_missing_shard(copy_checkpoint: Copy, index: str) -> None:
    folder = copy_checkpoint(DEV)
    shards = sorted((folder / index).parent.glob("*.safetensors"))
    shards[1].unlink()
    assert f"lacks {shards[1].name} of {len(shards)} files" in refusal(folder)


@pytest.mark.parametrize("index", [TRANSFORMER_INDEX, T5_INDEX])
def test_index_names_tensors_that_no_shard_has(copy_checkpoint: Copy, index: str) -> None:
    folder = copy_checkpoint(DEV)
    weight_map = json.loads((folder / index).read_text())["weight_map"]
    edit_json(folder / index, weight_map=weight_map | {"ghost.weight": next(iter(weight_map.values()))})
    assert "names tensors that its files do not hold: ghost.weight" in refusal(folder)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"weight_map": {}}', '{"weight_map": 3}'])
def test_damaged_index(copy_checkpoint: Copy, content: str) -> None:
    folder = copy_checkpoint(DEV)
    (folder / T5_INDEX).write_text(content)
    assert "model.safetensors.index.json" in refusal(folder)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:5],
        lambda data: data[:100],
        lambda data: data[:-1],
        lambda data: data + b"x",
        lambda data: b"\xff" * 8 + data[8:],
        lambda data: data[:8] + b"{}" + data[10:],
        lambda data: (15).to_bytes(8, "little") + b'{"a": {"b": 1}}',
    ],
)
def test_damaged_weights(copy_checkpoint: Copy, damage: Callable[[bytes], bytes]) -> None:
    folder = copy_checkpoint(DEV)
    (folder / VAE).write_bytes(damage((folder / VAE).read_bytes()))
    text = refusal(folder)
    assert VAE in text
    assert "is damaged" in text


def with_header(data: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    """A file whose header says something else, in as many bytes."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    change(header)
    text = json.dumps(header, separators=(",", ":")).encode()
    assert len(text) <= length
    return data[:8] + text.ljust(length) + data[8 + length :]


def overlap(header: dict[str, Any]) -> None:
    one, other, *_ = (entry for name, entry in header.items() if name != "__metadata__" and entry["shape"] == [4])
    other["data_offsets"] = one["data_offsets"]


def misfit(header: dict[str, Any]) -> None:
    next(entry for name, entry in header.items() if name == "decoder.conv_out.bias")["shape"] = [2]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (overlap, "has a damaged header: tensors overlap (at "),
        (misfit, "the bytes of decoder.conv_out.bias do not match"),
    ],
)
def test_damaged_headers_are_told_by_name(
    copy_checkpoint: Copy, change: Callable[[dict[str, Any]], None], text: str
) -> None:
    folder = copy_checkpoint(DEV)
    file = folder / VAE
    file.write_bytes(with_header(file.read_bytes(), change))
    assert text in refusal(folder)


@pytest.mark.parametrize("component", ["transformer", "vae", "text_encoder", "text_encoder_2"])
def test_missing_tensors(copy_checkpoint: Copy, component: str) -> None:
    folder = copy_checkpoint(DEV)
    index = next((folder / component).glob("*.index.json"), None)
    file = sorted((folder / component).glob("*.safetensors"))[-1]
    names = [name for name in load_file(file) if not name.endswith("position_ids")][:5]
    rewrite_file(file, lambda tensors: {name: tensor for name, tensor in tensors.items() if name not in names})
    if index:
        weight_map = json.loads(index.read_text())["weight_map"]
        edit_json(index, weight_map={name: shard for name, shard in weight_map.items() if name not in names})
    text = refusal(folder)
    assert f"{component} lacks {len(names)} of " in text
    assert sum(name.removeprefix("text_model.") in text for name in names) == min(3, len(names))


@pytest.mark.parametrize("component", ["transformer", "vae", "text_encoder", "text_encoder_2"])
def test_unexpected_tensors(copy_checkpoint: Copy, component: str) -> None:
    folder = copy_checkpoint(DEV)
    file = sorted((folder / component).glob("*.safetensors"))[0]
    rewrite_file(file, lambda tensors: tensors | {f"extra.{number}": torch.zeros(1) for number in range(4)})
    assert f"{component} has 4 tensors that FLUX.1 has not: extra.0, extra.1, extra.2 and 1 more" in refusal(folder)


def test_wrong_shape(copy_checkpoint: Copy) -> None:
    folder = copy_checkpoint(DEV)
    rewrite_file(folder / VAE, lambda tensors: tensors | {"decoder.conv_out.bias": torch.zeros(4)})
    assert "vae has 1 tensors of a wrong shape: decoder.conv_out.bias is 4 instead of 3" in refusal(folder)


def test_integer_weights(copy_checkpoint: Copy) -> None:
    folder = copy_checkpoint(DEV)
    bias = torch.zeros(3, dtype=torch.int8)
    rewrite_file(folder / VAE, lambda tensors: tensors | {"decoder.conv_out.bias": bias})
    assert "vae has 1 tensors that are not plain numbers: decoder.conv_out.bias (I8)" in refusal(folder)


def test_config_of_another_size(copy_checkpoint: Copy) -> None:
    folder = copy_checkpoint(DEV)
    edit_json(folder / "transformer/config.json", num_layers=3)
    assert "transformer lacks 32 of " in refusal(folder)


@pytest.mark.parametrize(("given", "needed"), [(DEV, SCHNELL), (SCHNELL, DEV)])
def test_wrong_family(checkpoints: dict[ModelFamily, Path], given: ModelFamily, needed: ModelFamily) -> None:
    text = refusal(checkpoints[given], needed)
    assert f"this is a {given} checkpoint" in text
    assert text.endswith(f"the endpoint needs {needed}")


@pytest.mark.parametrize(
    ("name", "changes", "expected"),
    [
        (
            "model_index.json",
            {"_class_name": "StableDiffusionPipeline"},
            "a StableDiffusionPipeline, not a FluxPipeline",
        ),
        ("transformer/config.json", {"_class_name": "UNet2DConditionModel"}, "not a FluxTransformer2DModel"),
        ("vae/config.json", {"_class_name": "AutoencoderTiny"}, "a AutoencoderTiny, not a AutoencoderKL"),
        ("vae/config.json", {"shift_factor": None}, "shift_factor is None, not a number"),
        ("vae/config.json", {"block_out_channels": []}, "vae/config.json cannot be used"),
        ("transformer/config.json", {"num_attention_heads": "two"}, "transformer/config.json cannot be used"),
        ("text_encoder/config.json", {"architectures": ["BertModel"]}, "a BertModel, not a CLIPTextModel"),
        ("text_encoder_2/config.json", {"architectures": []}, "a model of unknown kind, not a T5EncoderModel"),
        ("scheduler/scheduler_config.json", {"_class_name": "DDIMScheduler"}, "a DDIMScheduler, not a FlowMatch"),
    ],
)
def test_wrong_class_or_config(copy_checkpoint: Copy, name: str, changes: dict[str, object], expected: str) -> None:
    folder = copy_checkpoint(DEV)
    edit_json(folder / name, **changes)
    assert expected in refusal(folder)


def test_config_that_is_no_json(copy_checkpoint: Copy) -> None:
    folder = copy_checkpoint(DEV)
    (folder / "vae/config.json").write_text("<html>")
    assert "vae/config.json cannot be read as JSON" in refusal(folder)


def test_components_of_another_model(copy_checkpoint: Copy) -> None:
    folder = copy_checkpoint(DEV)
    demo = Path(check_source("demo", DEV, device="cpu").location)
    shutil.rmtree(folder / "text_encoder_2")
    shutil.copytree(demo / "text_encoder_2", folder / "text_encoder_2")
    text = refusal(folder)
    assert "text_encoder_2 is of another model: it gives 128 numbers a token, the transformer reads 32" in text


def test_a_tokenizer_without_words(copy_checkpoint: Copy) -> None:
    folder = copy_checkpoint(DEV)
    T5Tokenizer(extra_ids=100, model_max_length=512).save_pretrained(folder / "tokenizer_2")
    with pytest.raises(CheckpointError, match="does not know ordinary English words"):
        open_engine(folder, FLUX_DEV)


def test_too_little_memory(checkpoints: dict[ModelFamily, Path]) -> None:
    source = str(checkpoints[DEV])
    cpu = torch.device("cpu")
    check = partial(weights.check_source, source, DEV, device=cpu, download=False)
    plans = [check(memory=mode).memory for mode in MemoryMode]
    for plan in plans:
        assert check(memory="auto", available=plan.peak_bytes).memory.placement == plan.placement
    with pytest.raises(CheckpointError, match=r"^Model .*: it needs 0\.\d GiB of memory and 0\.\d GiB are available$"):
        check(memory="auto", available=plans[-1].peak_bytes - 1)
    with pytest.raises(CheckpointError, match=r"are available \(MEMORY=full; offload would fit\)$"):
        check(memory="full", available=plans[0].peak_bytes - 1)


def test_no_such_path(tmp_path: Path) -> None:
    for name in ("nowhere", "nowhere.safetensors"):
        with pytest.raises(CheckpointError, match="no such f"):
            check_source(str(tmp_path / name), DEV, device="cpu")


def test_extra_precision_is_read(copy_checkpoint: Copy) -> None:
    folder = copy_checkpoint(DEV)
    save_file({name: tensor.float() for name, tensor in load_file(folder / VAE).items()}, folder / VAE)
    assert check_source(str(folder), DEV, device="cpu").components[1].dtypes == ("F32",)
