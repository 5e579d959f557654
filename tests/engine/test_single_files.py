"""Every layout that FLUX.1's files come in loads to the numbers it stands for."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import gguf
import pytest
import torch
from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint
from torch import Tensor

from flux_endpoint.core.catalog import FLUX_DEV, FLUX_SCHNELL, ModelFamily
from flux_endpoint.core.errors import CheckpointError
from flux_endpoint.engine.detect import Component
from flux_endpoint.engine.engine import FluxEngine
from flux_endpoint.engine.factory import check_source
from flux_endpoint.engine.memory_plan import placements_on
from flux_endpoint.engine.published import config_from_shapes
from flux_endpoint.engine.sources import parse_source
from flux_endpoint.engine.weights import check_checkpoint, load_component
from tests.engine import single_files
from tests.engine.conftest import SPECS, draw, make_request, open_engine
from tests.engine.single_files import COMFY, Components, Tensors, in_original_names, save, write_single_files

DEV, SCHNELL = ModelFamily.DEV, ModelFamily.SCHNELL


def loaded(engine: FluxEngine) -> dict[Component, Mapping[str, Tensor]]:
    model = engine._loaded()[0]
    modules = {
        Component.TRANSFORMER: model.transformer,
        Component.VAE: model.vae,
        Component.CLIP: model.text._clip,
        Component.T5: model.text._t5,
    }
    return {component: module.state_dict() for component, module in modules.items()}


def transformer_of(source: str) -> Mapping[str, Tensor]:
    """Its numbers alone, as the engine reads them."""
    cpu = torch.device("cpu")
    checkpoint = check_checkpoint(parse_source(source), DEV, download=False)
    return load_component(checkpoint.components[Component.TRANSFORMER], cpu, placements_on("cpu")[0]).state_dict()


def assert_loads(source: Path | str, family: ModelFamily, expected: Mapping[Component, Tensors]) -> None:
    engine = open_engine(source, SPECS[family])
    try:
        found = loaded(engine)
        for component, tensors in expected.items():
            assert tensors.keys() == found[component].keys() - {"encoder.embed_tokens.weight"}
            for name, tensor in tensors.items():
                assert torch.equal(found[component][name], tensor.float()), (component, name)
        words = found[Component.T5]
        assert words["encoder.embed_tokens.weight"].data_ptr() == words["shared.weight"].data_ptr()
        assert draw(engine, make_request(num_inference_steps=1)).data
    finally:
        engine.close()


@pytest.mark.parametrize("family", [DEV, SCHNELL])
@pytest.mark.parametrize(("places", "below"), [(COMFY, ""), (COMFY, "models"), (single_files.BFL, "")])
def test_a_folder_of_single_files(
    tmp_path: Path,
    components: Components,
    family: ModelFamily,
    places: dict[Component, str],
    below: str,
) -> None:
    write_single_files(tmp_path / below, components[family], places)
    if not below:
        # What lies beside them in the repository of Black Forest Labs.
        (tmp_path / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    assert_loads(tmp_path, family, components[family])


def test_a_file_of_comfyui_finds_the_others(tmp_path: Path, components: Components) -> None:
    write_single_files(tmp_path, components[DEV], COMFY)
    assert_loads(tmp_path / COMFY[Component.TRANSFORMER], DEV, components[DEV])


def test_single_components_by_name(tmp_path: Path, components: Components) -> None:
    folder = tmp_path / "my models"
    write_single_files(folder, components[DEV], COMFY)
    names = {"transformer": Component.TRANSFORMER, "vae": Component.VAE, "clip": Component.CLIP, "t5": Component.T5}
    source = " ".join(f'{word}="{folder / COMFY[component]}"' for word, component in names.items())
    assert_loads(source, DEV, components[DEV])
    assert check_source(source, DEV, device="cpu").name == "flux1"


def test_a_component_in_place_of_a_folders(tmp_path: Path, components: Components) -> None:
    write_single_files(tmp_path, components[DEV], COMFY)
    other = {**components[DEV], Component.T5: single_files.random_components(DEV, seed=5)[Component.T5]}
    file = save(other[Component.T5], tmp_path / "elsewhere/t5.safetensors")
    assert_loads(f"{tmp_path} t5={file}", DEV, other)


@pytest.mark.parametrize("family", [DEV, SCHNELL])
def test_an_all_in_one_checkpoint(tmp_path: Path, components: Components, family: ModelFamily) -> None:
    tensors = single_files.all_in_one(components[family])
    file = save(tensors, tmp_path / "checkpoints/flux-all.safetensors")
    assert_loads(file, family, components[family])
    # Some lack the text encoders, which are a file each.
    save({name: tensor for name, tensor in tensors.items() if not name.startswith("text_encoders.")}, file)
    write_single_files(tmp_path, components[family], {part: COMFY[part] for part in (Component.CLIP, Component.T5)})
    assert_loads(tmp_path, family, components[family])
    reports = check_source(str(tmp_path), family, device="cpu").components
    assert [report.kind.split(",")[0] for report in reports[:2]] == [f"a FLUX.1 {family} transformer", "an autoencoder"]
    with pytest.raises(CheckpointError, match="vae is a CLIP text encoder, not an autoencoder"):
        check_source(f"{tmp_path} vae={tmp_path / COMFY[Component.CLIP]}", family, device="cpu")
    with pytest.raises(CheckpointError, match=r"text_encoder is an all-in-one checkpoint without .*, not a CLIP"):
        check_source(f"{tmp_path} clip={file}", family, device="cpu")


@pytest.mark.parametrize(
    "prefix", ["", "model.diffusion_model.", "diffusion_model.", "transformer.", "base_model.model."]
)
@pytest.mark.parametrize("original", [True, False], ids=["BFL names", "diffusers names"])
def test_a_transformer_in_any_names(tmp_path: Path, components: Components, prefix: str, original: bool) -> None:
    write_single_files(tmp_path, components[DEV], COMFY)
    tensors = components[DEV][Component.TRANSFORMER]
    named = in_original_names(Component.TRANSFORMER, tensors) if original else tensors
    save({prefix + name: tensor for name, tensor in named.items()}, tmp_path / COMFY[Component.TRANSFORMER])
    assert_loads(tmp_path, DEV, components[DEV])


def in_every_way(tensors: Tensors) -> dict[str, tuple[Tensors, Tensors]]:
    ways = {
        "scaled fp8, older": single_files.in_scaled_fp8(tensors, newer=False),
        "scaled fp8, newer": single_files.in_scaled_fp8(tensors, newer=True),
        "torchao int8": single_files.in_torchao(tensors, torch.int8),
        "torchao float8": single_files.in_torchao(tensors, torch.float8_e4m3fn),
        "bitsandbytes int8": single_files.in_int8(tensors),
        "bitsandbytes nf4": single_files.in_nf4(tensors, nested=False),
        "bitsandbytes nf4, packed again": single_files.in_nf4(tensors, nested=True),
    }
    for dtype in (torch.float32, torch.float16, torch.float8_e4m3fn, torch.float8_e5m2):
        stored = {name: tensor.to(dtype) for name, tensor in tensors.items()}
        ways[str(dtype)] = stored, {name: tensor.float() for name, tensor in stored.items()}
    return ways


WAYS = [*in_every_way({})]


@pytest.mark.parametrize("way", WAYS)
def test_numbers_stored_in_any_way(tmp_path: Path, components: Components, way: str) -> None:
    write_single_files(tmp_path, components[DEV], COMFY)
    original = in_original_names(Component.TRANSFORMER, components[DEV][Component.TRANSFORMER])
    stored, meant = in_every_way(original)[way]
    save(stored, tmp_path / COMFY[Component.TRANSFORMER])
    plain = save(meant, tmp_path / "plain/flux1.safetensors")
    ours, theirs = (transformer_of(source) for source in (str(tmp_path), f"{tmp_path} transformer={plain}"))
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())
    assert len(check_source(str(tmp_path), DEV, device="cpu").components[0].ways) == ("torch." not in way)


@pytest.mark.parametrize("newer", [False, True])
def test_a_text_encoder_in_scaled_fp8(
    tmp_path: Path, components: Components, newer: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    quantised = ("q.weight", "wo.weight", "shared.weight")
    monkeypatch.setattr(single_files, "is_quantised", lambda name, tensor: name.endswith(quantised))
    write_single_files(tmp_path, components[DEV], COMFY)
    stored, meant = single_files.in_scaled_fp8(components[DEV][Component.T5], newer=newer)
    # Some files have the words under the other of their two names only.
    words = "encoder.embed_tokens" if newer else "shared"
    save({name.replace("shared", words): tensor for name, tensor in stored.items()}, tmp_path / COMFY[Component.T5])
    assert_loads(tmp_path, DEV, {**components[DEV], Component.T5: meant})


@pytest.mark.parametrize(
    "kind", ["Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0", "Q6_K", "Q5_K", "Q4_K", "Q3_K", "Q2_K", "F16", "BF16"]
)
def test_gguf(tmp_path: Path, components: Components, kind: str) -> None:
    write_single_files(
        tmp_path,
        components[DEV],
        {component: name for component, name in COMFY.items() if component is not Component.TRANSFORMER},
    )
    original = in_original_names(Component.TRANSFORMER, components[DEV][Component.TRANSFORMER])
    meant = single_files.write_gguf(tmp_path / "unet/flux1-dev.GGUF", original, kind)
    plain = save(meant, tmp_path / "plain/flux1.safetensors")
    ours, theirs = (transformer_of(source) for source in (str(tmp_path), f"{tmp_path} transformer={plain}"))
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())


def test_gguf_files_that_are_not_read(tmp_path: Path, components: Components) -> None:
    write_single_files(tmp_path, components[DEV], single_files.without(Component.TRANSFORMER))
    file = tmp_path / "unet/flux1-dev.gguf"
    single_files.write_gguf(
        file, in_original_names(Component.TRANSFORMER, components[DEV][Component.TRANSFORMER]), "Q8_0"
    )
    whole = file.read_bytes()
    file.write_bytes(whole[:-100_000])
    with pytest.raises(CheckpointError, match=f"{file} is a GGUF file, damaged or not fully downloaded"):
        check_source(str(file), DEV, device="cpu")
    writer = gguf.GGUFWriter(file, "flux")
    blocks = torch.zeros(256, 144, dtype=torch.uint8).numpy()
    writer.add_tensor("img_in.weight", blocks, raw_dtype=gguf.GGMLQuantizationType.IQ4_NL)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(CheckpointError, match="is in the GGUF type IQ4_NL; those from Q2_K to Q8_0 are read here"):
        check_source(str(file), DEV, device="cpu")


def test_t5_as_gguf(tmp_path: Path, components: Components) -> None:
    write_single_files(tmp_path, components[DEV], single_files.without(Component.T5))
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.T5ENCODER, 2)
    tensors = {str(names.get_name(name, (".weight",))): t for name, t in components[DEV][Component.T5].items()}
    single_files.write_gguf(tmp_path / "clip/t5-encoder.gguf", tensors, "F16", "t5encoder")
    assert_loads(tmp_path, DEV, components[DEV])


def test_a_pruned_model_by_its_counted_blocks(tmp_path: Path, components: Components) -> None:
    more = {
        **components[DEV],
        Component.TRANSFORMER: single_files.random_components(DEV, double_blocks=3)[Component.TRANSFORMER],
    }
    write_single_files(tmp_path, more, COMFY)
    assert_loads(tmp_path, DEV, more)
    file = tmp_path / COMFY[Component.TRANSFORMER]
    original = in_original_names(Component.TRANSFORMER, more[Component.TRANSFORMER])
    save({name: tensor for name, tensor in original.items() if not name.startswith("double_blocks.1.")}, file)
    with pytest.raises(CheckpointError, match=r"transformer lacks 24 of .* tensors: double_blocks\.1\."):
        check_source(str(tmp_path), DEV, device="cpu")


def test_text_encoders_of_the_wild(tmp_path: Path, components: Components) -> None:
    write_single_files(tmp_path, components[DEV], COMFY)
    t5 = dict(components[DEV][Component.T5])
    words = t5.pop("shared.weight")
    save(
        {**t5, "encoder.embed_tokens.weight": words, "decoder.final_layer_norm.weight": torch.ones(64)},
        tmp_path / COMFY[Component.T5],
    )
    clip = single_files.in_clip_names(components[DEV][Component.CLIP])
    save({**clip, "vision_model.embeddings.class_embedding": torch.zeros(4)}, tmp_path / COMFY[Component.CLIP])
    assert_loads(tmp_path, DEV, components[DEV])


@pytest.mark.parametrize("shards", [False, True])
def test_variants(copy_checkpoint: Callable[[ModelFamily], Path], shards: bool) -> None:
    folder = copy_checkpoint(DEV)
    expected = loaded(open_engine(folder, FLUX_DEV))
    for component in Component if shards else (Component.VAE, Component.CLIP):
        for file in (folder / component).glob("*.safetensors*"):
            name = file.name.replace(".index.json", ".index.fp16.json", 1)
            if name.endswith(".safetensors"):
                name = name.replace("-000", ".fp16-000", 1) if "-000" in name else name.replace(".safe", ".fp16.safe")
            else:
                index = json.loads(file.read_text())
                index["weight_map"] = {k: v.replace("-000", ".fp16-000", 1) for k, v in index["weight_map"].items()}
                file.write_text(json.dumps(index))
            file.rename(file.with_name(name))
    found = loaded(open_engine(folder, FLUX_DEV))
    assert all(
        torch.equal(found[component][name], t) for component in Component for name, t in expected[component].items()
    )


def test_names_of_the_autoencoder_are_those_diffusers_converts_from(
    components: Components,
) -> None:
    tensors = components[DEV][Component.VAE]
    config = config_from_shapes(Component.VAE, {name: tuple(tensor.shape) for name, tensor in tensors.items()})
    theirs = convert_ldm_vae_checkpoint(in_original_names(Component.VAE, tensors), config)
    assert theirs.keys() == tensors.keys()
    assert all(torch.equal(theirs[name].reshape(tensor.shape), tensor) for name, tensor in tensors.items())


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda files: files.pop(Component.T5), r"there is no file in .* that is a T5 text encoder; name one: t5=FILE"),
        (lambda files: files.update({Component.VAE: "vae/sub/ae.sft"}), ""),
    ],
)
def test_missing_files_are_named(
    tmp_path: Path,
    components: Components,
    change: Callable[[dict[Component, str]], object],
    text: str,
) -> None:
    places = dict(COMFY)
    change(places)
    write_single_files(tmp_path, components[DEV], places)
    if text:
        with pytest.raises(CheckpointError, match=text):
            check_source(str(tmp_path), DEV, device="cpu")
    else:
        assert check_source(str(tmp_path), DEV, device="cpu").family is DEV


def test_of_two_files_for_one_place_one_must_be_named(tmp_path: Path, components: Components) -> None:
    write_single_files(tmp_path, components[DEV], COMFY)
    other = save(components[DEV][Component.T5], tmp_path / "text_encoders/t5xxl_fp8.safetensors")
    with pytest.raises(CheckpointError, match=r"there are 2 files that are a T5 text encoder: .*; name one: t5=FILE"):
        check_source(str(tmp_path), DEV, device="cpu")
    assert check_source(f"{tmp_path} t5={other}", DEV, device="cpu").family is DEV


def test_both_families_beside_each_other(tmp_path: Path, components: Components) -> None:
    write_single_files(tmp_path, components[DEV], COMFY)
    schnell = in_original_names(Component.TRANSFORMER, components[SCHNELL][Component.TRANSFORMER])
    save(schnell, tmp_path / "unet/flux1-schnell.safetensors")
    assert_loads(tmp_path, DEV, components[DEV])
    assert_loads(
        tmp_path, SCHNELL, {**components[DEV], Component.TRANSFORMER: components[SCHNELL][Component.TRANSFORMER]}
    )


@pytest.mark.parametrize(
    ("stored", "text"),
    [
        (
            {"weight": torch.uint8, "comfy_quant": {"format": "nvfp4"}, "weight_scale": torch.float32},
            "quantised as nvfp4",
        ),
        ({"weight": torch.uint8, "weight_scale": torch.float8_e4m3fn}, "U8 with scales of F8_E4M3"),
        ({"_weight_qdata": torch.uint8, "_weight_scale": torch.float32}, "a torchao kind that is not read here"),
        ({"weight._data": torch.int8, "weight._scale": torch.float32}, "in quanto"),
        ({"qweight": torch.int8, "wscales": torch.float32}, "in SVDQuant, which only Nunchaku's own kernels read"),
    ],
)
def test_ways_that_are_not_read_are_refused_by_name(
    tmp_path: Path, components: Components, stored: dict[str, object], text: str
) -> None:
    tensors = in_original_names(Component.TRANSFORMER, components[DEV][Component.TRANSFORMER])
    module = "double_blocks.0.img_mlp.0"
    del tensors[f"{module}.weight"]
    for name, kind in stored.items():
        if isinstance(kind, dict):
            tensors[f"{module}.{name}"] = single_files.as_bytes(kind)
        else:
            tensors[f"{module}.{name}"] = torch.zeros(1024, 256).to(kind)
    write_single_files(tmp_path, components[DEV], COMFY)
    file = save(tensors, tmp_path / "other/flux1.safetensors")
    with pytest.raises(CheckpointError, match=text):
        check_source(f"{tmp_path} transformer={file}", DEV, device="cpu")


@pytest.mark.parametrize("number", [torch.nan, torch.inf])
@pytest.mark.parametrize("component", Component)
def test_numbers_that_are_none_are_found_while_reading(
    tmp_path: Path, components: Components, component: Component, number: float
) -> None:
    spoilt = {name: tensor.clone() for name, tensor in components[SCHNELL][component].items()}
    name = next(iter(spoilt))
    spoilt[name].view(-1)[3] = number
    write_single_files(tmp_path, {**components[SCHNELL], component: spoilt}, COMFY)
    with pytest.raises(CheckpointError, match=r"Model .*: .*safetensors: .* holds numbers that are NaN or infinite"):
        open_engine(tmp_path, FLUX_SCHNELL)
