"""LoRA files of every layout, and pictures that are drawn with them."""

import io
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from flux_endpoint.core.catalog import FLUX_DEV, ModelFamily
from flux_endpoint.core.errors import CheckpointError
from flux_endpoint.core.lora import Lora
from flux_endpoint.core.marks import infotext_in, parameters_in
from flux_endpoint.engine.engine import FluxEngine
from flux_endpoint.engine.factory import build_engines
from flux_endpoint.engine.lora.adapter import Adapter, read_adapter
from flux_endpoint.engine.protocol import Engine, finish
from flux_endpoint.files.lora_names import Tower
from flux_endpoint.files.lora_shelf import FolderShelf
from tests.engine import lora_files
from tests.engine.conftest import make_request
from tests.engine.lora_files import LAYOUTS, Change, random_changes

DEV = ModelFamily.DEV


@pytest.fixture(scope="module")
def transformer(engines: dict[ModelFamily, FluxEngine]) -> torch.nn.Module:
    model, _ = engines[DEV]._loaded()
    return model.transformer


@pytest.fixture(scope="module")
def changes(transformer: torch.nn.Module) -> dict[str, Change]:
    return random_changes(lora_files.linear_sizes(transformer))


def read(file: Path, transformer: torch.nn.Module) -> Adapter:
    return read_adapter(file, {Tower.TRANSFORMER: transformer}, torch.device("cpu"), torch.float32)


def dense(adapter: Adapter, transformer: torch.nn.Module) -> dict[str, Tensor]:
    """What is added to each weight."""
    result = {}
    for (_, module), change in adapter.changes.items():
        rows, columns = transformer.get_submodule(module).weight.shape
        result[module] = change.plus(torch.zeros(columns, rows), torch.eye(columns), 1.0).t()
    return result


def assert_same(found: Mapping[str, Tensor], expected: Mapping[str, Change]) -> None:
    assert found.keys() == expected.keys()
    for module, change in expected.items():
        torch.testing.assert_close(found[module], change.dense, rtol=1e-5, atol=1e-6, msg=module)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_means_the_same_of_all_layers(layout, changes, transformer, tmp_path):
    file = lora_files.save(LAYOUTS[layout](changes), tmp_path / "film.safetensors")
    assert_same(dense(read(file, transformer), transformer), changes)


# --- pictures


@pytest.fixture(scope="module")
def lora_dir(tmp_path_factory, transformer) -> Path:
    folder = tmp_path_factory.mktemp("loras")
    for seed, name in enumerate(("film", "oil", "ink")):
        changes = random_changes(lora_files.linear_sizes(transformer), seed)
        lora_files.save(lora_files.kohya(changes), folder / f"{name}.safetensors")
    return folder


@pytest.fixture(scope="module")
def engine(checkpoints, lora_dir) -> Iterator[Engine]:
    sources, catalog = {FLUX_DEV.endpoint_id: str(checkpoints[DEV])}, {FLUX_DEV.endpoint_id: FLUX_DEV}
    engine = build_engines(sources, catalog, device="cpu", lora_dir=lora_dir)[FLUX_DEV.endpoint_id]
    engine.load()
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def lora(lora_dir):
    shelf = FolderShelf((lora_dir,))
    return lambda name, scale=1.0: Lora(name, scale, shelf.sha256_of(name))


def pixels(data: bytes) -> bytes:
    return Image.open(io.BytesIO(data)).tobytes()


def draw(engine: Engine, *loras: Lora) -> bytes:
    return finish(engine.generate(make_request(loras=loras))).data


def test_a_picture_is_that_of_the_summed_weights(engine, checkpoints, lora, lora_dir, transformer, tmp_path):
    """W + scale * up @ down, written into a checkpoint of its own."""
    folder = Path(shutil.copytree(checkpoints[DEV], tmp_path / "summed"))
    summed = type(transformer).from_pretrained(folder / "transformer")
    for seed, scale in ((0, 0.5), (2, -1.0)):
        for module, change in random_changes(lora_files.linear_sizes(transformer), seed).items():
            summed.get_submodule(module).weight.data += scale * change.dense
    shutil.rmtree(folder / "transformer")
    summed.save_pretrained(folder / "transformer")
    sources, catalog = {FLUX_DEV.endpoint_id: str(folder)}, {FLUX_DEV.endpoint_id: FLUX_DEV}
    other = build_engines(sources, catalog, device="cpu")[FLUX_DEV.endpoint_id]
    other.load()
    expected = torch.frombuffer(bytearray(pixels(draw(other))), dtype=torch.uint8).int()
    other.close()
    drawn = torch.frombuffer(bytearray(pixels(draw(engine, lora("film", 0.5), lora("ink", -1.0)))), dtype=torch.uint8)
    plain = torch.frombuffer(bytearray(pixels(draw(engine))), dtype=torch.uint8).int()
    assert (drawn.int() - expected).abs().max() <= 1
    assert (plain - expected).abs().max() > 20


def test_a_scale_of_0_draws_what_is_drawn_without(engine, lora):
    assert pixels(draw(engine, lora("film", 0.0))) == pixels(draw(engine))


def test_pictures_with_other_loras_are_drawn_in_turn_as_if_alone(engine, lora):
    lists = [(lora("film"),), (), (lora("oil"), lora("ink", -0.5)), (lora("film", 0.3),)]
    alone = [draw(engine, *loras) for loras in lists]
    assert len(set(alone)) == len(lists)
    running = {number: engine.generate(make_request(loras=loras)) for number, loras in enumerate(lists)}
    together = {}
    while running:
        for number, drawing in list(running.items()):
            try:
                next(drawing)
            except StopIteration as end:
                together[number] = end.value().data
                del running[number]
    assert [together[number] for number in range(len(lists))] == alone


def test_the_file_says_which_loras_it_was_drawn_with(engine, lora):
    data, film = draw(engine, lora("film", 0.5)), lora("film")
    assert parameters_in(data)["loras"] == [{"path": "film", "scale": 0.5, "sha256": film.sha256}]
    first, *_, figures = infotext_in(data).splitlines()
    assert first.endswith(" <lora:film:0.5>")
    assert f'Lora hashes: "film: {film.sha256[:12]}"' in figures
    assert "loras" not in parameters_in(draw(engine))


def test_another_file_of_that_name_is_refused(engine, lora):
    with pytest.raises(CheckpointError, match="the LoRA 'film' on this machine is another file"):
        draw(engine, replace(lora("film"), sha256="0" * 64))
