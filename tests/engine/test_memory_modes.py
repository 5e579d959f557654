"""However a model is kept in memory, its pictures are the same to the last byte where its numbers are."""

import gc
import weakref
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import NoReturn

import pytest
import torch
from diffusers import FluxTransformer2DModel
from torch import nn
from torch.nn import functional

from flux_endpoint.core.catalog import FLUX_DEV, ModelFamily
from flux_endpoint.core.errors import OutOfMemory
from flux_endpoint.engine import engine as engine_module
from flux_endpoint.engine.detect import Component
from flux_endpoint.engine.engine import FluxEngine
from flux_endpoint.engine.memory_plan import MemoryMode, Placement, placements_on
from flux_endpoint.engine.protocol import finish
from flux_endpoint.engine.sources import parse_source
from flux_endpoint.engine.stored_layers import StoredLinear, size_of
from flux_endpoint.engine.streaming import stream
from flux_endpoint.engine.weights import check_checkpoint, load_component
from tests.engine import single_files
from tests.engine.conftest import draw, make_request, open_engine
from tests.engine.single_files import in_original_names, save, write_single_files
from tests.engine.test_single_files import COMFY, WAYS, in_every_way

CPU = torch.device("cpu")
DEV = ModelFamily.DEV


def layers(module: nn.Module, kind: type[nn.Module]) -> list[nn.Module]:
    return [layer for layer in module.modules() if isinstance(layer, kind)]


def test_the_embedded_model_without_its_text_encoders_in_memory(demo_engine: FluxEngine) -> None:
    engine = open_engine("demo", FLUX_DEV, memory="offload")
    model = engine._loaded()[0]
    assert layers(model.text._t5, StoredLinear)
    assert not layers(model.text._t5, nn.Linear)
    assert not layers(model.transformer, StoredLinear)
    request = make_request(width=256, height=256, negative_prompt="night")
    assert draw(engine, request).data == draw(demo_engine, request).data
    assert engine.info.fingerprint == demo_engine.info.fingerprint
    assert engine.info.memory.startswith("offload (as MEMORY says; it takes ")
    assert demo_engine.info.memory.startswith("full (it takes ")


def test_weights_in_bfloat16_on_the_cpu_stay_in_the_mapped_file(checkpoints: dict[ModelFamily, Path]) -> None:
    model = open_engine(checkpoints[DEV], FLUX_DEV, memory="low")._loaded()[0]
    assert model.dtype == torch.bfloat16
    for module in (model.transformer, model.text._t5, model.text._clip):
        assert not out_of_files(module.parameters(), checkpoints[DEV].rglob("*.safetensors"))


def out_of_files(tensors: Iterable[torch.Tensor], files: Iterable[Path]) -> list[torch.Tensor]:
    """Those that are copies: not where a file is mapped."""
    ends = tuple(map(str, files))
    lines = [line for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith(ends)]
    spans = [[int(place, 16) for place in line.split()[0].split("-")] for line in lines]
    return [tensor for tensor in tensors if not any(begin <= tensor.data_ptr() < end for begin, end in spans)]


def stored_layers_of(source: str) -> tuple[dict[str, StoredLinear], nn.Module]:
    """A transformer that is kept as its file has it, and the same in plain numbers."""
    stored, plain = (
        load_component(
            check_checkpoint(parse_source(source), DEV, download=False).components[component], CPU, placement
        )
        for component, placement in (
            (Component.TRANSFORMER, placements_on("cpu")[-1]),
            (Component.TRANSFORMER, Placement(MemoryMode.FULL, "bfloat16")),
        )
    )
    return {name: layer for name, layer in stored.named_modules() if isinstance(layer, StoredLinear)}, plain


@pytest.mark.parametrize("original", [True, False], ids=["BFL names", "diffusers names"])
@pytest.mark.parametrize("way", [way for way in WAYS if "bfloat16" not in way])
def test_layers_keep_what_the_file_has(tmp_path: Path, way: str, original: bool) -> None:
    components = single_files.random_components(DEV)
    write_single_files(tmp_path, components, COMFY)
    tensors = components[Component.TRANSFORMER]
    tensors = in_original_names(Component.TRANSFORMER, tensors) if original else tensors
    stored, _ = in_every_way(tensors)[way]
    save(stored, tmp_path / COMFY[Component.TRANSFORMER])
    layers, plain = stored_layers_of(str(tmp_path))
    # What lies flat in blocks cannot be cut into the layers of diffusers.
    assert len(layers) >= (4 if "nf4" in way and original else 20)
    for name, layer in layers.items():
        linear = plain.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        assert torch.equal(layer.plain_weight(), linear.weight)
        numbers = torch.randn(3, linear.in_features, dtype=torch.bfloat16)
        assert torch.equal(layer(numbers), functional.linear(numbers, linear.weight, linear.bias))


@pytest.mark.parametrize("kind", ["Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0", "Q6_K", "Q5_K", "Q4_K", "Q3_K", "Q2_K"])
def test_layers_keep_the_blocks_of_gguf(tmp_path: Path, kind: str) -> None:
    components = single_files.random_components(DEV)
    write_single_files(tmp_path, components, {c: name for c, name in COMFY.items() if c is not Component.TRANSFORMER})
    original = in_original_names(Component.TRANSFORMER, components[Component.TRANSFORMER])
    single_files.write_gguf(tmp_path / "unet/flux1-dev.gguf", original, kind)
    layers, plain = stored_layers_of(str(tmp_path))
    packed = [layer for layer in layers.values() if layer.packed_0.dtype == torch.uint8]
    assert len(packed) > 10
    for name, layer in layers.items():
        assert torch.equal(layer.plain_weight(), plain.get_submodule(name).weight)


@pytest.mark.parametrize("kind", ["F16", "BF16"])
def test_plain_numbers_of_gguf_stay_in_the_mapped_file(tmp_path: Path, kind: str) -> None:
    components = single_files.random_components(DEV)
    write_single_files(tmp_path, components, {c: name for c, name in COMFY.items() if c is not Component.TRANSFORMER})
    original = in_original_names(Component.TRANSFORMER, components[Component.TRANSFORMER])
    file = tmp_path / "unet/flux1-dev.gguf"
    single_files.write_gguf(file, original, kind)
    checked = check_checkpoint(parse_source(str(tmp_path)), DEV, download=False).components[Component.TRANSFORMER]
    size = size_of(checked, CPU, torch.bfloat16)
    module = load_component(checked, CPU, placements_on("cpu")[-1])
    # The last modulation is turned round, whatever stores it.
    tensors = [*module.named_parameters(), *module.named_buffers()]
    copied = out_of_files([tensor for name, tensor in tensors if not name.startswith("norm_out.")], [file])
    assert sum(tensor.nbytes for tensor in copied) <= size.stored < 0.02 * size.plain


def test_a_packed_transformer_takes_less_of_a_gpu(tmp_path: Path) -> None:
    components = single_files.random_components(DEV)
    write_single_files(tmp_path, components, COMFY)
    original = in_original_names(Component.TRANSFORMER, components[Component.TRANSFORMER])
    save(single_files.in_scaled_fp8(original, newer=False)[0], tmp_path / COMFY[Component.TRANSFORMER])
    checked = check_checkpoint(parse_source(str(tmp_path)), DEV, download=False).components[Component.TRANSFORMER]
    on_gpu, on_cpu = (size_of(checked, torch.device(kind), torch.bfloat16) for kind in ("cuda", "cpu"))
    assert on_gpu.plain == on_cpu.plain == 2 * checked.parameters
    assert on_gpu.stored < 0.6 * on_gpu.plain
    assert on_cpu.stored < 0.01 * on_cpu.plain
    assert on_gpu.streamed <= on_gpu.stored


@torch.inference_mode()
def test_weights_that_come_block_by_block(demo_engine: FluxEngine) -> None:
    engine = open_engine("demo", FLUX_DEV)
    model = engine._loaded()[0]
    for module in (model.transformer, model.text._t5, model.text._clip):
        stream(module, CPU)
    request = make_request(negative_prompt="night")
    assert draw(engine, request).data == draw(demo_engine, request).data


class Shortage:
    """A device that has too little memory while the mode of an engine is one of some: a hook of torch's own."""

    def __init__(self, engine: FluxEngine, *modes: str) -> None:
        self.refusals = 0

        def refuse(module: nn.Module, _: object) -> None:
            if isinstance(module, FluxTransformer2DModel) and engine._mode in modes:
                self.refusals += 1
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")

        self._hook = nn.modules.module.register_module_forward_pre_hook(refuse)

    def __enter__(self) -> "Shortage":
        return self

    def __exit__(self, *_: object) -> None:
        self._hook.remove()


def test_out_of_memory_is_met_by_the_next_thriftier_mode(checkpoints: dict[ModelFamily, Path]) -> None:
    request = make_request()
    engine = open_engine(checkpoints[DEV], FLUX_DEV)
    expected = draw(engine, request).data
    with Shortage(engine, "full") as shortage:
        assert draw(engine, request).data == expected
        assert shortage.refusals == 1
        assert layers(engine._loaded()[0].text.encoders[1], StoredLinear)
        assert engine.info.memory.startswith("offload (the device ran out of memory in full mode")
        # It stays there: later pictures need not fail first.
        assert draw(engine, make_request(prompt="a red house")).data
        assert shortage.refusals == 1
    engine.release()
    engine.load()
    assert engine.info.memory.startswith("full")


def test_a_picture_that_does_not_fit_in_any_mode_fails_and_the_engine_lives(
    checkpoints: dict[ModelFamily, Path],
) -> None:
    engine = open_engine(checkpoints[DEV], FLUX_DEV)
    with (
        Shortage(engine, *MemoryMode),
        pytest.raises(OutOfMemory, match=r"cpu has too little memory .* in offload mode"),
    ):
        draw(engine, make_request())
    assert draw(engine, make_request()).data


def test_other_errors_are_not_tried_again(checkpoints: dict[ModelFamily, Path]) -> None:
    engine = open_engine(checkpoints[DEV], FLUX_DEV)
    hook = engine._loaded()[0].transformer.register_forward_pre_hook(lambda *_: torch.ones(2) @ torch.ones(3))
    with pytest.raises(RuntimeError, match="inconsistent tensor size"):
        draw(engine, make_request())
    hook.remove()
    assert engine.info.memory.startswith("full")


def test_a_released_engine_loads_again_and_draws_the_same_bytes(checkpoints: dict[ModelFamily, Path]) -> None:
    engine = open_engine(checkpoints[DEV], FLUX_DEV)
    expected, fingerprint = draw(engine, make_request()).data, engine.info.fingerprint
    transformer = weakref.ref(engine._loaded()[0].transformer)
    engine.release(idle_s=3600)
    assert transformer() is not None
    engine.release()
    assert transformer() is None
    assert engine.info.memory.startswith("unloaded")
    assert draw(engine, make_request()).data == expected
    assert engine.info.fingerprint == fingerprint
    assert engine.info.memory.startswith("full")


def test_weights_go_when_the_last_picture_is_done(checkpoints: dict[ModelFamily, Path]) -> None:
    engine = open_engine(checkpoints[DEV], FLUX_DEV)
    expected = draw(engine, make_request()).data
    transformer = weakref.ref(engine._loaded()[0].transformer)
    first, second = (engine.generate(make_request()) for _ in range(2))
    next(first)
    next(second)
    engine.release()
    first.close()
    assert transformer() is not None
    assert engine.info.memory.startswith("full")
    assert finish(second).data == expected
    del second
    gc.collect()
    assert transformer() is None
    assert engine.info.memory.startswith("unloaded")


@pytest.mark.parametrize("at", ["reload", "thriftier"])
def test_a_model_whose_levels_find_no_memory_is_loaded_by_the_next_picture(
    checkpoints: dict[ModelFamily, Path], monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    engine = open_engine(checkpoints[DEV], FLUX_DEV)
    expected = draw(engine, make_request()).data

    def no_room(*_: object) -> NoReturn:
        raise torch.OutOfMemoryError("no room for copies")

    with monkeypatch.context() as patch, ExitStack() as stack:
        patch.setattr(engine_module, "make_levels", no_room)
        if at == "reload":
            engine.release()
        else:
            # As on a GPU whose levels hold the weights.
            patch.setattr(engine_module, "can_join", lambda *_: False)
            stack.enter_context(Shortage(engine, "full"))
        with pytest.raises(OutOfMemory, match="cpu has too little memory left for the model"):
            draw(engine, make_request())
    assert draw(engine, make_request()).data == expected
    assert engine.info.memory.startswith("full")
