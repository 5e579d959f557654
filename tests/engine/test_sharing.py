"""Models of one process share the text encoders and the autoencoder that they have in common, and nothing else."""

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from flux_endpoint.core.catalog import CATALOG, FLUX_DEV, FLUX_SCHNELL, ModelFamily
from flux_endpoint.core.errors import CheckpointError
from flux_endpoint.engine.detect import Component
from flux_endpoint.engine.engine import FluxEngine
from flux_endpoint.engine.factory import build_engines
from flux_endpoint.engine.sharing import SharedComponents
from flux_endpoint.engine.sources import parse_source
from tests.engine import single_files
from tests.engine.conftest import draw, make_request, open_engine, rewrite_file

DEV, SCHNELL = ModelFamily.DEV, ModelFamily.SCHNELL
Copy = Callable[[ModelFamily], Path]
SHARED = (Component.VAE, Component.CLIP, Component.T5)


def open_pair(dev: Path | str, schnell: Path | str) -> list[FluxEngine]:
    sources = {FLUX_DEV.endpoint_id: str(dev), FLUX_SCHNELL.endpoint_id: str(schnell)}
    engines = []
    for engine in build_engines(sources, CATALOG, device="cpu").values():
        assert isinstance(engine, FluxEngine)
        engine.load()
        engines.append(engine)
    return engines


def modules(engine: FluxEngine) -> dict[Component, torch.nn.Module]:
    model = engine._loaded()[0]
    return {
        Component.TRANSFORMER: model.transformer,
        Component.VAE: model.vae,
        Component.CLIP: model.text._clip,
        Component.T5: model.text._t5,
    }


def shared_by(engines: list[FluxEngine]) -> set[Component]:
    one, other = (modules(engine) for engine in engines)
    return {component for component in Component if one[component] is other[component]}


def with_components_of(folder: Path, other: Path) -> None:
    for component in SHARED:
        shutil.rmtree(folder / component)
        shutil.copytree(other / component, folder / component)


def test_the_embedded_pair_needs_one_set() -> None:
    engines = open_pair("demo", "demo")
    assert shared_by(engines) == set(SHARED)
    dev, schnell = (engine._loaded()[0].text for engine in engines)
    assert dev._t5_tokenizer is not schnell._t5_tokenizer
    assert dev._clip_tokenizer is not schnell._clip_tokenizer
    together = {p.data_ptr(): p.nbytes for e in engines for m in modules(e).values() for p in m.parameters()}
    apart = [p.nbytes for e in engines for m in modules(e).values() for p in m.parameters()]
    assert sum(together.values()) <= 0.86 * sum(apart)


def test_equal_files_in_two_folders_are_one_set(copy_checkpoint: Copy) -> None:
    dev, schnell = copy_checkpoint(DEV), copy_checkpoint(SCHNELL)
    assert shared_by(open_pair(dev, schnell)) == set()
    alone = draw(open_engine(schnell, FLUX_SCHNELL), make_request()).data
    with_components_of(dev, schnell)
    engines = open_pair(dev, schnell)
    assert shared_by(engines) == set(SHARED)
    engines[0].close()
    assert draw(engines[1], make_request()).data == alone


def test_one_number_makes_another_component(copy_checkpoint: Copy) -> None:
    dev, schnell = copy_checkpoint(DEV), copy_checkpoint(SCHNELL)
    with_components_of(dev, schnell)
    file = dev / "vae/diffusion_pytorch_model.safetensors"
    rewrite_file(file, lambda tensors: tensors | {"decoder.conv_in.bias": tensors["decoder.conv_in.bias"] + 1})
    assert shared_by(open_pair(dev, schnell)) == {Component.CLIP, Component.T5}


def test_so_does_a_number_of_the_config(copy_checkpoint: Copy) -> None:
    dev, schnell = copy_checkpoint(DEV), copy_checkpoint(SCHNELL)
    with_components_of(dev, schnell)
    config = dev / "vae/config.json"
    config.write_text(config.read_text().replace("0.3611", "0.5"))
    assert shared_by(open_pair(dev, schnell)) == {Component.CLIP, Component.T5}


def test_shards_and_layouts_make_no_difference(copy_checkpoint: Copy, tmp_path: Path) -> None:
    dev, schnell = copy_checkpoint(DEV), copy_checkpoint(SCHNELL)
    with_components_of(dev, schnell)
    folder, merged = dev / "text_encoder_2", {}
    for file in folder.glob("*.safetensors"):
        merged |= load_file(file)
        file.unlink()
    (folder / "model.safetensors.index.json").unlink()
    save_file(merged, folder / "model.safetensors")
    assert shared_by(open_pair(dev, schnell)) == set(SHARED)
    components = single_files.random_components(SCHNELL)
    whole = single_files.save(single_files.all_in_one(components), tmp_path / "all/flux.safetensors")
    names = {component: f"{component}.safetensors" for component in Component}
    single_files.write_single_files(tmp_path / "single", single_files.random_components(DEV), names)
    assert shared_by(open_pair(tmp_path / "single", whole)) == set(SHARED)


def test_what_is_loaded_needs_no_memory_again(copy_checkpoint: Copy) -> None:
    dev, schnell = copy_checkpoint(DEV), copy_checkpoint(SCHNELL)
    with_components_of(dev, schnell)
    cpu, shared = torch.device("cpu"), SharedComponents()
    first = FluxEngine(FLUX_DEV, parse_source(str(dev)), cpu, shared=shared)
    first.load()
    # Room to draw in, and for the transformer.
    room = 3 * 4 * 1024 * 1024 * 4 + 4 * sum(p.numel() for p in modules(first)[Component.TRANSFORMER].parameters())
    with pytest.raises(CheckpointError, match="it needs"):
        FluxEngine(FLUX_SCHNELL, parse_source(str(schnell)), cpu, available_bytes=room, memory="full").load()
    FluxEngine(FLUX_SCHNELL, parse_source(str(schnell)), cpu, available_bytes=room, memory="full", shared=shared).load()
    first.close()
    with pytest.raises(CheckpointError, match="it needs"):
        FluxEngine(
            FLUX_SCHNELL, parse_source(str(schnell)), cpu, available_bytes=room, memory="full", shared=shared
        ).load()


def test_prompts_of_two_threads_are_cut_each_at_its_own_limit(copy_checkpoint: Copy) -> None:
    dev, schnell = copy_checkpoint(DEV), copy_checkpoint(SCHNELL)
    with_components_of(dev, schnell)
    engines = open_pair(dev, schnell)
    words = [" ".join(["a"] * count) for count in range(250, 265)]
    lengths: dict[int, set[tuple[int, int]]] = {0: set(), 1: set()}

    def encode(number: int) -> None:
        text, limit = engines[number]._loaded()[0].text, (512, 256)[number]
        for prompt in words:
            embeds = text.encode(prompt, limit)
            lengths[number].add((embeds.sequence.shape[1], embeds.limit))

    threads = [threading.Thread(target=encode, args=[number]) for number in lengths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lengths == {0: {(512, 512)}, 1: {(256, 256)}}
