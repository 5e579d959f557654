"""Transformer files with Black Forest Labs' own names draw the same pictures."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import FluxTransformer2DModel
from diffusers.loaders.single_file_utils import convert_flux_transformer_checkpoint_to_diffusers
from safetensors.torch import load_file, save_file
from torch import Tensor

from flux_endpoint.core.catalog import FLUX_DEV, ModelFamily
from flux_endpoint.core.errors import CheckpointError
from flux_endpoint.core.image_formats import JPEG
from flux_endpoint.engine.factory import check_source
from flux_endpoint.engine.original_layout import OriginalTensor, original_tensors, split_original
from tests.engine.conftest import SPECS, draw, make_request, open_engine, rewrite_file

DEV, SCHNELL = ModelFamily.DEV, ModelFamily.SCHNELL
Copy = Callable[[ModelFamily], Path]


def read_transformer(folder: Path) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for file in sorted((folder / "transformer").glob("*.safetensors")):
        tensors |= load_file(file)
    return tensors


def to_original(tensors: dict[str, Tensor], prefix: str = "") -> dict[str, Tensor]:
    original = {}
    for name, layout in original_tensors({name: tuple(t.shape) for name, t in tensors.items()}).items():
        tensor = torch.cat([tensors[component] for component, _ in layout.parts])
        if "adaLN_modulation" in name:
            tensor = torch.cat(tensor.chunk(2)[::-1])
        original[prefix + name] = tensor
    return original


@pytest.mark.parametrize("guidance_embeds", [True, False])
def test_names_rows_and_shapes_are_those_diffusers_converts_from(guidance_embeds: bool) -> None:
    """Rows are numbered, and their numbers must arrive where diffusers' own conversion puts them."""
    with torch.device("meta"):
        model = FluxTransformer2DModel(num_layers=1, num_single_layers=1, guidance_embeds=guidance_embeds)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    layouts = original_tensors(shapes)
    numbered = {name: numbered_rows(layout) for name, layout in layouts.items()}
    ours: dict[str, Tensor] = {}
    for name, tensor in numbered.items():
        ours |= split_original(name, tensor, layouts[name])
    theirs = convert_flux_transformer_checkpoint_to_diffusers(dict(numbered))
    assert ours.keys() == theirs.keys() == shapes.keys()
    for name, tensor in theirs.items():
        assert torch.equal(ours[name], tensor), name
        assert tensor.shape[0] == shapes[name][0]


def numbered_rows(layout: OriginalTensor) -> Tensor:
    # One column is enough to tell rows apart, and keeps the full height in little memory.
    return torch.arange(layout.shape[0]).reshape(-1, *[1] * (len(layout.shape) - 1))


def test_published_names() -> None:
    """Spot checks against the names in flux1-dev.safetensors."""
    with torch.device("meta"):
        model = FluxTransformer2DModel(guidance_embeds=True)
    layouts = original_tensors({name: tuple(tensor.shape) for name, tensor in model.state_dict().items()})
    assert len(layouts) == 780
    assert layouts["double_blocks.18.img_attn.qkv.weight"].shape == (9216, 3072)
    assert layouts["double_blocks.0.txt_attn.norm.key_norm.scale"].shape == (128,)
    assert layouts["single_blocks.37.linear1.weight"].shape == (21504, 3072)
    assert layouts["final_layer.adaLN_modulation.1.bias"].shape == (6144,)
    assert layouts["guidance_in.in_layer.weight"].shape == (3072, 256)


@pytest.mark.parametrize("family", [DEV, SCHNELL])
@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_the_original_file_draws_the_same_picture(
    copy_checkpoint: Copy, family: ModelFamily, prefix: str, tmp_path: Path
) -> None:
    folder = copy_checkpoint(family)
    file = tmp_path / f"flux1-{family}.safetensors"
    save_file(to_original(read_transformer(folder), prefix), file)
    expected = draw(open_engine(folder, SPECS[family]), make_request(image_format=JPEG))
    for component in (folder / "transformer").glob("*.safetensors*"):
        component.unlink()
    (folder / "model_index.json").unlink()
    engine = open_engine(file, SPECS[family])
    assert engine.info.name == f"flux1-{family}"
    assert pixels(draw(engine, make_request(image_format=JPEG)).data) == pixels(expected.data)


def test_a_lone_file_in_the_layout_of_diffusers(copy_checkpoint: Copy) -> None:
    folder = copy_checkpoint(DEV)
    expected = draw(open_engine(folder, FLUX_DEV), make_request(image_format=JPEG))
    file = folder / "transformer/merged.safetensors"
    save_file(read_transformer(folder), file)
    assert pixels(draw(open_engine(file, FLUX_DEV), make_request(image_format=JPEG)).data) == pixels(expected.data)


def pixels(jpeg: bytes) -> bytes:
    """The scan of a JPEG, without the EXIF block that names the model."""
    return jpeg[jpeg.index(b"\xff\xdb") :]


@pytest.mark.parametrize(("given", "needed"), [(DEV, SCHNELL), (SCHNELL, DEV)])
def test_wrong_family_without_a_config(
    copy_checkpoint: Copy, tmp_path: Path, given: ModelFamily, needed: ModelFamily
) -> None:
    folder = copy_checkpoint(given)
    file = tmp_path / "flux.safetensors"
    save_file(to_original(read_transformer(folder)), file)
    shutil.rmtree(folder / "transformer")
    with pytest.raises(CheckpointError, match=f"this is a {given} checkpoint .* needs {needed}"):
        check_source(str(file), needed, device="cpu")


def test_without_a_config_the_heads_must_be_flux1s(copy_checkpoint: Copy, tmp_path: Path) -> None:
    folder = copy_checkpoint(DEV)
    file = tmp_path / "flux.safetensors"
    save_file(to_original(read_transformer(folder)), file)
    shutil.rmtree(folder / "transformer")
    with pytest.raises(
        CheckpointError, match=r"attention heads of 16 numbers and FLUX\.1's have 128: it needs its config"
    ):
        check_source(str(file), DEV, device="cpu")


def test_missing_and_unexpected_tensors_have_their_original_names(copy_checkpoint: Copy, tmp_path: Path) -> None:
    folder = copy_checkpoint(DEV)
    file = tmp_path / "flux.safetensors"
    lost = "double_blocks.1.img_attn.qkv.weight"
    save_file(to_original(read_transformer(folder)), file)
    rewrite_file(file, lambda tensors: {name: tensor for name, tensor in tensors.items() if name != lost})
    with pytest.raises(CheckpointError, match=f"transformer lacks 1 of .* tensors: {lost}"):
        check_source(str(file), DEV, device="cpu")
    shape = (96, 32)
    rewrite_file(file, lambda tensors: tensors | {lost: torch.zeros(shape), "lora.down": torch.zeros(1)})
    with pytest.raises(CheckpointError, match=r"transformer has 1 tensors that FLUX\.1 has not: lora\.down"):
        check_source(str(file), DEV, device="cpu")
    rewrite_file(
        file,
        lambda tensors: {name: t for name, t in tensors.items() if name != "lora.down"} | {lost: torch.zeros(96, 31)},
    )
    with pytest.raises(CheckpointError, match=f"{lost} is 96x31 instead of 96x32"):
        check_source(str(file), DEV, device="cpu")
