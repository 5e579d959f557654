"""LoRA files of every layout, and pictures that are drawn with them."""

import copy
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
from flux_endpoint.engine.lora.active import ActiveLoras, acting_on
from flux_endpoint.engine.lora.adapter import Adapter, linear_size, read_adapter
from flux_endpoint.engine.lora.cache import LoraCache
from flux_endpoint.engine.protocol import Engine, finish
from flux_endpoint.engine.stored_layers import StoredLinear
from flux_endpoint.files.lora_names import Tower
from flux_endpoint.files.lora_shelf import FolderShelf
from tests.engine import lora_files
from tests.engine.conftest import drawn_in_turn, make_request
from tests.engine.lora_files import LAYOUTS, RANK, Change, random_changes

DEV = ModelFamily.DEV
KEY = "transformer.proj_out.lora_A.weight"


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


def test_a_folder_of_peft_has_its_alpha_beside_the_weights(changes, transformer, tmp_path):
    file = lora_files.peft_folder(changes, tmp_path / "film")
    assert_same(dense(read(file, transformer), transformer), changes)


def test_xlabs_has_attention_alone(changes, transformer, tmp_path):
    places = (".attn.to", ".attn.add", "blocks.0.proj_out", "blocks.1.proj_out")
    attention = {module: change for module, change in changes.items() if any(place in module for place in places)}
    file = lora_files.save(lora_files.xlabs(attention), tmp_path / "film.safetensors")
    assert_same(dense(read(file, transformer), transformer), attention)


@pytest.fixture(scope="module")
def original_sizes(changes) -> dict[str, tuple[int, int]]:
    stacked = lora_files.stacked(changes)
    return {name: (len(change.up), change.down.shape[1]) for name, change in stacked.items()}


def as_original(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of diffusers' layers as the original model has them."""
    stacked = lora_files.stacked(
        {module: Change(torch.eye(weight.shape[1]), weight) for module, weight in found.items()}
    )
    return {name: change.up for name, change in stacked.items()}


def test_loha_is_a_product_of_higher_rank(original_sizes, transformer, tmp_path):
    tensors, meant = lora_files.loha(original_sizes)
    found = as_original(dense(read(lora_files.save(tensors, tmp_path / "x.safetensors"), transformer), transformer))
    torch.testing.assert_close(found, meant, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("is_factored", [True, False])
@pytest.mark.parametrize("block", [4, 16])
def test_lokr_whatever_it_is_cut_into(original_sizes, transformer, tmp_path, is_factored, block):
    # Blocks of 16 rows do not end where the rows of every layer do.
    sizes = {name: size for name, size in original_sizes.items() if size[0] % block == 0 and size[1] % 4 == 0}
    tensors, meant = lora_files.lokr(sizes, is_factored=is_factored, block=block)
    found = as_original(dense(read(lora_files.save(tensors, tmp_path / "x.safetensors"), transformer), transformer))
    torch.testing.assert_close(found, meant, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_numbers_of_any_kind_are_read(changes, transformer, tmp_path, dtype):
    stored = {name: tensor.to(dtype) for name, tensor in lora_files.diffusers(changes).items()}
    file = lora_files.save(stored, tmp_path / "film.safetensors")
    rounded = {name: Change(one.down.to(dtype).float(), one.up.to(dtype).float()) for name, one in changes.items()}
    assert_same(dense(read(file, transformer), transformer), rounded)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            lambda tensors: tensors.update({KEY: tensors[KEY] * float("nan")}),
            "is damaged: transformer.proj_out.lora_A.weight holds numbers",
        ),
        (
            lambda tensors: tensors.update({KEY: torch.ones(RANK, 8)}),
            "changes 16 x 8 numbers of proj_out, which has 16 x",
        ),
        (
            lambda tensors: tensors.update(ninth(tensors)),
            "made for another model: this one has no layer transformer_blocks.9",
        ),
    ],
)
def test_a_file_for_another_model_or_a_damaged_one_is_refused(changes, transformer, tmp_path, change, text):
    tensors = lora_files.diffusers(changes)
    change(tensors)
    with pytest.raises(CheckpointError) as caught:
        read(lora_files.save(tensors, tmp_path / "film.safetensors"), transformer)
    assert text in str(caught.value)


def ninth(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.replace("blocks.0", "blocks.9"): tensor
        for name, tensor in tensors.items()
        if name.startswith("transformer.transformer_blocks.0.attn.to_q.")
    }


TEXT_LAYERS = {
    Tower.CLIP: ("lora_te1_text_model_encoder_layers_0_self_attn_q_proj", "encoder.layers.0.self_attn.q_proj"),
    Tower.T5: ("lora_te3_encoder_block_1_layer_1_DenseReluDense_wo", "encoder.block.1.layer.1.DenseReluDense.wo"),
}


@pytest.mark.parametrize("tower", TEXT_LAYERS)
def test_a_text_encoder_reads_a_prompt_as_with_summed_weights(engines, tmp_path, tower):
    text = engines[DEV]._loaded()[0].text
    clip, t5 = text.encoders
    name, module = TEXT_LAYERS[tower]
    encoder = {Tower.CLIP: clip, Tower.T5: t5}[tower]
    weight = encoder.get_submodule(module).weight
    down, up = torch.randn(2, weight.shape[1]), torch.randn(weight.shape[0], 2)
    tensors = {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up, f"{name}.alpha": torch.tensor(1.0)}
    file = lora_files.save(tensors, tmp_path / "x.safetensors")
    adapter = read_adapter(file, {Tower.CLIP: clip, Tower.T5: t5}, torch.device("cpu"), torch.float32)
    plain = text.encode("a red boat", 512)
    found = text.encode("a red boat", 512, ActiveLoras([(adapter, 0.5)]))
    assert torch.equal(text._encode("a red boat", plain.limit).sequence, plain.sequence)
    before = weight.data
    weight.data = before + 0.25 * up @ down
    try:
        expected = text._encode("a red boat", plain.limit)
    finally:
        weight.data = before
    torch.testing.assert_close(found.sequence, expected.sequence, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.pooled, expected.pooled, rtol=1e-4, atol=1e-4)
    assert not (torch.equal(found.sequence, plain.sequence) and torch.equal(found.pooled, plain.pooled))


def test_packed_layers_are_changed_as_plain_ones_are(changes, transformer, tmp_path):
    adapter = read(lora_files.save(lora_files.kohya(changes), tmp_path / "film.safetensors"), transformer)
    packed = copy.deepcopy(transformer)
    for name, linear in list(packed.named_modules()):
        if isinstance(linear, torch.nn.Linear):
            parent, _, leaf = name.rpartition(".")
            stored = linear.weight.data.to(torch.float8_e4m3fn)
            plain = packed if not parent else packed.get_submodule(parent)
            shape = tuple(stored.shape)
            setattr(plain, leaf, StoredLinear((stored,), torch.Tensor.float, shape, torch.float32, linear.bias))
            transformer_layer = transformer.get_submodule(name)
            assert linear_size(packed.get_submodule(name)) == linear_size(transformer_layer)
    towers = {Tower.TRANSFORMER: packed}
    assert read_adapter(tmp_path / "film.safetensors", towers, torch.device("cpu"), torch.float32).size_bytes
    name = "transformer_blocks.0.attn.to_q"
    numbers = torch.randn(3, packed.get_submodule(name).weight_shape[1])
    with torch.inference_mode(), acting_on(ActiveLoras([(adapter, 2.0)]), Tower.TRANSFORMER, packed):
        found = packed.get_submodule(name)(numbers)
    plain = packed.get_submodule(name)(numbers)
    torch.testing.assert_close(found - plain, 2 * numbers @ changes[name].dense.t(), rtol=1e-4, atol=1e-4)


def test_what_was_not_used_for_longest_is_forgotten_first(lora_dir, transformer):
    shelf = FolderShelf((lora_dir,))
    film, oil, ink = (Lora(name, 1.0, shelf.find(name).sha256) for name in ("film", "oil", "ink"))
    where = ({Tower.TRANSFORMER: transformer}, torch.device("cpu"), torch.float32)
    size = read(lora_dir / "film.safetensors", transformer).size_bytes
    cache = LoraCache(shelf, 2 * size)
    for loras in ((film,), (oil,), (film,), (ink,)):
        cache.active(loras, *where)
    assert list(cache.kept) == [film.sha256, ink.sha256]
    # Those of one picture stay whatever they take, until the next one.
    cache.active((film, oil, ink), *where)
    assert len(cache.kept) == 3
    cache.active((), *where)
    assert list(cache.kept) == [oil.sha256, ink.sha256]


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
    return lambda name, scale=1.0: Lora(name, scale, shelf.find(name).sha256)


def pixels(data: bytes) -> bytes:
    return Image.open(io.BytesIO(data)).tobytes()


def draw(engine: Engine, *loras: Lora) -> bytes:
    return finish(engine.generate(make_request(loras=loras))).data


def test_a_picture_is_that_of_the_summed_weights(engine, checkpoints, lora, transformer, tmp_path):
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
    assert drawn_in_turn(engine.generate(make_request(loras=loras)) for loras in lists) == alone


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
