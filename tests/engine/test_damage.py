"""Whatever is wrong in a file of a checkpoint: one line that names it, when it is loaded and not at the first job."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from flux_endpoint.core.catalog import FLUX_DEV, ModelFamily
from flux_endpoint.core.errors import CheckpointError, NonFinite
from flux_endpoint.engine.detect import Component
from flux_endpoint.engine.trouble import reading
from flux_endpoint.engine.weights import check_source
from tests.engine.conftest import draw, make_request, open_engine

Copy = Callable[[ModelFamily], Path]

# Each takes a load of the model: `make fuzz` tries all names of a config, and `make test` some.
_ONE_OF = 1 if "FUZZ_EXAMPLES" in os.environ else 3
WRONG_VALUES = (None, "x", -1, [], {}, 1e308)
CONFIGS = (
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder_2/config.json",
    "tokenizer/tokenizer_config.json",
    "tokenizer_2/tokenizer_config.json",
    "transformer/config.json",
    "vae/config.json",
)
OTHERS = (
    "model_index.json",
    "text_encoder/model.safetensors",
    "text_encoder_2/model.safetensors.index.json",
    "tokenizer/merges.txt",
    "tokenizer/vocab.json",
    "tokenizer_2/tokenizer.json",
    "transformer/diffusion_pytorch_model.safetensors.index.json",
    "vae/diffusion_pytorch_model.safetensors",
)


def damages(data: bytes) -> Iterator[bytes]:
    """A file that is none any more."""
    yield b""
    yield data[: len(data) // 2]
    yield b"\xff\xfe\x00junk" * 9
    yield b"[]"
    yield b"null"
    yield b"{}"
    yield b"[" * 100_000 + b"]" * 100_000
    yield data[: len(data) // 3] + b"\x00\xff" + data[len(data) // 3 + 2 :]


def wrong_values(data: bytes) -> Iterator[bytes]:
    """A config in which one value is missing or makes no sense."""
    config = json.loads(data)
    for number, name in enumerate(config):
        if (number + 1) % _ONE_OF:
            continue
        if number % 4 == 0:
            yield json.dumps({key: value for key, value in config.items() if key != name}).encode()
        yield json.dumps(config | {name: WRONG_VALUES[number % len(WRONG_VALUES)]}).encode()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "damage"),
    [*((name, damages) for name in CONFIGS + OTHERS), *((name, wrong_values) for name in CONFIGS)],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_damage_is_told_in_one_line_or_does_no_harm(
    copy_checkpoint: Copy, name: str, damage: Callable[[bytes], Iterator[bytes]]
) -> None:
    folder = copy_checkpoint(ModelFamily.DEV)
    file = folder / name
    refused = 0
    for data in damage(file.read_bytes()):
        file.write_bytes(data)
        try:
            engine = open_engine(folder, FLUX_DEV)
        except CheckpointError as error:
            refused += 1
            text = str(error)
            assert text.startswith(f"Model {folder}: ")
            assert len(text.splitlines()) == 1
            assert name.partition("/")[0] in text.removeprefix(f"Model {folder}: ")
            continue
        # What can be loaded can draw, though perhaps nothing of use.
        try:
            draw(engine, make_request(num_inference_steps=1))
        except NonFinite:
            pass
        finally:
            engine.close()
    assert refused


@pytest.mark.parametrize("component", [Component.CLIP, Component.T5])
@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation", "_attn_implementation_internal"])
def test_no_config_chooses_code(
    copy_checkpoint: Copy, monkeypatch: pytest.MonkeyPatch, component: str, key: str
) -> None:
    fetched: list[object] = []

    def fetch(*arguments: object, **_: object) -> None:
        fetched.append(arguments)
        raise ImportError("kernels")

    # The door through which transformers fetches kernels from the hub, and runs them.
    monkeypatch.setattr("transformers.integrations.hub_kernels.load_and_register_attn_kernel", fetch)
    folder = copy_checkpoint(ModelFamily.DEV)
    config = folder / component / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {key: "some-org/some-repo"}))
    check_source(str(folder), ModelFamily.DEV, device=torch.device("cpu"), download=False)
    engine = open_engine(folder, FLUX_DEV)
    encoder = engine._loaded()[0].text
    assert [module.config._attn_implementation for module in (encoder._clip, encoder._t5)] == ["sdpa", "sdpa"]
    assert fetched == []
    engine.close()


class Panic(BaseException):
    """As libraries written in Rust raise it."""


@pytest.mark.parametrize(
    "error", [ValueError("bad\nand more"), Panic("index out of bounds"), MemoryError(), KeyError(1)]
)
def test_whatever_a_library_raises_is_one_line(error: BaseException) -> None:
    with pytest.raises(CheckpointError) as told, reading("vae"):
        raise error
    assert str(told.value).startswith(f"vae cannot be used: {type(error).__name__}")
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt, SystemExit, GeneratorExit, torch.OutOfMemoryError, torch.AcceleratorError]
)
def test_what_ends_a_program_or_comes_of_a_device_is_no_files_fault(error: type[BaseException]) -> None:
    with pytest.raises(error), reading("vae"):
        raise error
