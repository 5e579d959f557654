"""What a file is, from its header: many files belong to FLUX.1 somehow, and most of them are no transformer."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import FluxTransformer2DModel
from safetensors.torch import load_file, save_file

from flux_endpoint.core.catalog import ModelFamily
from flux_endpoint.core.errors import CheckpointError
from flux_endpoint.engine.detect import Component, detect
from flux_endpoint.engine.factory import check_source, refuse_unloadable
from flux_endpoint.engine.original_layout import original_tensors
from flux_endpoint.files.safetensors_header import TensorHeader
from tests.engine.checkpoints import TRANSFORMER_CONFIG
from tests.engine.test_original_layout import read_transformer, to_original

DEV, SCHNELL = ModelFamily.DEV, ModelFamily.SCHNELL
Copy = Callable[[ModelFamily], Path]
LORA = "lora_unet_double_blocks_0_img_attn_qkv"
DIFFUSERS_LORA = "transformer.transformer_blocks.0.attn.to_q"
ENCODERS = (
    "text_encoders.clip_l.transformer.text_model.embeddings.token_embedding.weight",
    "text_encoders.t5xxl.transformer.shared.weight",
    "vae.decoder.conv_in.weight",
)


def header(*names: str, dtype: str = "BF16", **shapes: tuple[int, ...]) -> dict[str, TensorHeader]:
    return {
        name: TensorHeader(dtype, shapes.get(name.replace(".", "_"), (8, 8)), 128, Path("x"), name) for name in names
    }


def transformer_names(family: ModelFamily, *, original: bool, wrapping: str = "") -> list[str]:
    with torch.device("meta"):
        module = FluxTransformer2DModel(**TRANSFORMER_CONFIG, guidance_embeds=family is DEV)
    shapes = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    return [wrapping + name for name in (original_tensors(shapes) if original else shapes)]


@pytest.mark.parametrize("family", [DEV, SCHNELL])
@pytest.mark.parametrize("original", [True, False])
@pytest.mark.parametrize("wrapping", ["", "model.diffusion_model.", "diffusion_model.", "transformer.", "model."])
def test_a_transformer_whatever_wraps_its_names(family: ModelFamily, original: bool, wrapping: str) -> None:
    kind = detect(header(*transformer_names(family, original=original, wrapping=wrapping)))
    assert (kind.family, kind.text) == (family, f"a FLUX.1 {family} transformer")


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ([f"{LORA}.lora_down.weight", f"{LORA}.lora_up.weight", f"{LORA}.alpha"], "a LoRA"),
        ([f"{DIFFUSERS_LORA}.lora_A.weight", f"{DIFFUSERS_LORA}.lora_B.weight"], "a LoRA"),
        ([f"{DIFFUSERS_LORA}.lora_A.default.weight", f"{DIFFUSERS_LORA}.lora_B.default.weight"], "a LoRA"),
        (
            ["double_blocks.0.processor.qkv_lora1.down.weight", "double_blocks.0.processor.qkv_lora1.up.weight"],
            "a LoRA",
        ),
        ([f"{LORA}.lokr_w1", f"{LORA}.lokr_w2"], "a LoKr"),
        ([f"{LORA}.hada_w1_a", f"{LORA}.hada_w1_b", f"{LORA}.alpha"], "a LoHa"),
        ([f"{LORA}.lora_down.weight", f"{LORA}.lora_up.weight", f"{LORA}.dora_scale"], "a DoRA"),
        (["encoder.down.0.block.0.conv1.weight", "decoder.conv_in.weight"], "an autoencoder"),
        (["encoder.down_blocks.0.resnets.0.conv1.weight", "decoder.conv_in.weight"], "an autoencoder"),
        (["shared.weight", "encoder.block.0.layer.0.SelfAttention.q.weight"], "a T5 text encoder"),
        (["text_model.embeddings.token_embedding.weight", "logit_scale"], "a CLIP text encoder"),
        (["redux_up.weight", "redux_up.bias", "redux_down.weight", "redux_down.bias"], "a Redux image encoder"),
        (["controlnet_x_embedder.weight", "transformer_blocks.0.attn.to_q.weight"], "a ControlNet"),
        (["input_hint_block.0.weight", "double_blocks.0.img_attn.qkv.weight"], "a ControlNet"),
        (["ip_adapter_proj_model.norm.weight", "double_blocks.0.processor.ip_adapter.weight"], "an IP-Adapter"),
        (["distilled_guidance_layer.in_proj.weight", "double_blocks.0.img_attn.qkv.weight"], "a Chroma transformer"),
        (["single_stream_modulation.lin.weight", "double_blocks.0.img_attn.qkv.weight"], "a FLUX.2 transformer"),
        (["model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight"], "a Stable Diffusion 3 transformer"),
        (["pos_embed.proj.weight", "time_text_embed.timestep_embedder.linear_1.weight"], "a Stable Diffusion 3"),
        (
            ["transformer_blocks.0.img_mod.1.weight", "time_text_embed.timestep_embedder.linear_1.weight"],
            "a Qwen-Image",
        ),
        (["txt_in.individual_token_refiner.x.weight", "double_blocks.0.x.weight", "time_in.x"], "a HunyuanVideo"),
        (["transformer_blocks.0.attn1.to_q.weight", "adaln_single.linear.weight"], "a PixArt or LTX transformer"),
        (["encoder.down.0.block.0.conv1.weight", "quant_conv.weight"], "the autoencoder of another model"),
        (["encoder.downsamples.0.residual.0.gamma", "decoder.upsamples.0.residual.0.gamma"], "of a kind unknown"),
        ([f"encoder.block.{n}.layer.0.SelfAttention.relative_attention_bias.weight" for n in range(2)], "a UMT5"),
        ([f"text_model.encoder.layers.{n}.mlp.fc1.weight" for n in range(32)], "a CLIP text encoder of another size"),
        (["model.diffusion_model.input_blocks.0.0.weight"], "the U-Net of a Stable Diffusion model"),
        (["model.diffusion_model.input_blocks.0.0.weight", "first_stage_model.decoder.conv_in.weight"], "the U-Net of"),
        (["double_blocks.0.img_attn.qkv.weight", "img_in.weight"], "a part of a FLUX.1 transformer"),
        (["early_stream_modulations.image.lin.weight", "double_blocks.0.x.weight"], "a FLUX.3 transformer"),
        (["transformer_blocks.0.ff.weight._data", "transformer_blocks.0.ff.weight._scale"], "transformer in quanto"),
        (["model.diffusion_model.distilled_guidance_layer.x", *ENCODERS], "an all-in-one checkpoint with a Chroma"),
        (["transformer_blocks.0.qkv_proj.qweight", "transformer_blocks.0.qkv_proj.wscales"], "transformer in SVDQuant"),
        (["something.weight"], "of a kind unknown here"),
        ([], "empty"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_everything_else_is_called_by_its_name(names: list[str], text: str) -> None:
    kind = detect(header(*names))
    assert kind.family is None
    assert text in kind.text


@pytest.mark.parametrize(
    ("beside", "dtype", "numbers"),
    [
        ((), "BF16", "bf16"),
        ((), "F8_E4M3", "fp8"),
        ((), "Q4_K", "GGUF Q4_K"),
        (("scaled_fp8", "img_in.scale_weight"), "F8_E4M3", "scaled fp8"),
        (("img_in.weight_scale", "img_in.comfy_quant"), "F8_E4M3", "scaled fp8"),
        (("txt_in.weight.absmax",), "U8", "4-bit bitsandbytes"),
        (("img_in.SCB",), "I8", "8-bit bitsandbytes"),
        (("img_in._weight_qdata",), "I8", "torchao"),
    ],
)
def test_how_the_numbers_are_stored(beside: tuple[str, ...], dtype: str, numbers: str) -> None:
    kind = detect(header(*transformer_names(DEV, original=True), *beside, dtype=dtype))
    assert (kind.family, kind.details) == (DEV, ("BFL names", numbers, "2 double and 2 single blocks"))


def test_an_all_in_one_checkpoint_holds_all_components() -> None:
    names = transformer_names(SCHNELL, original=True, wrapping="model.diffusion_model.")
    kind = detect(header(*names, *ENCODERS))
    assert (kind.family, kind.components) == (SCHNELL, set(Component))
    assert kind.text.startswith("an all-in-one checkpoint")


@pytest.mark.parametrize("absent", [ENCODERS[:2], ENCODERS[2:]])
def test_a_checkpoint_holds_what_its_names_say(absent: tuple[str, ...]) -> None:
    names = transformer_names(DEV, original=True, wrapping="model.diffusion_model.")
    kind = detect(header(*names, *(name for name in ENCODERS if name not in absent)))
    encoders = {Component.CLIP, Component.T5}
    assert kind.components == set(Component) - (encoders if len(absent) == 2 else {Component.VAE})
    without = "a CLIP text encoder, a T5 text encoder" if len(absent) == 2 else "an autoencoder"
    assert (kind.family, kind.text) == (DEV, f"an all-in-one checkpoint without {without}")
    kind = detect(header(*ENCODERS[:2]))
    assert (kind.family, kind.components, kind.text) == (None, encoders, "a CLIP text encoder, a T5 text encoder")


@pytest.mark.parametrize(("inputs", "family"), [(64, DEV), (384, ModelFamily.FILL), (128, ModelFamily.CANNY)])
@pytest.mark.parametrize("way", ["4-bit bitsandbytes", "torchao"])
def test_packed_inputs_tell_as_much_as_plain_ones(inputs: int, family: ModelFamily, way: str) -> None:
    names = transformer_names(DEV, original=False)
    sizes = {"x_embedder_weight": (3072, inputs), "proj_out_weight": (64, 3072)}
    if way == "torchao":
        names = [name.replace("x_embedder.weight", "x_embedder._weight_qdata") for name in names]
        sizes["x_embedder__weight_qdata"] = (3072, inputs)
    else:
        names += ["x_embedder.weight.absmax", "proj_out.weight.absmax"]
        sizes |= {"x_embedder_bias": (3072,), "proj_out_bias": (64,)}
        sizes |= {"x_embedder_weight": (3072 * inputs // 2, 1), "proj_out_weight": (64 * 3072 // 2, 1)}
    kind = detect(header(*names, **sizes))
    assert (kind.family, kind.details[1]) == (family, way)


@pytest.mark.parametrize(
    ("inputs", "family", "text"),
    [
        (64, DEV, "a FLUX.1 dev transformer"),
        (384, ModelFamily.FILL, "a FLUX.1 fill transformer"),
        (128, ModelFamily.CANNY, "a FLUX.1 canny or depth transformer"),
        (192, None, "a FLUX.1 transformer that reads 3 times as much as it draws"),
    ],
)
def test_what_is_read_beside_the_picture_tells_what_it_is_for(
    inputs: int, family: ModelFamily | None, text: str
) -> None:
    names = transformer_names(DEV, original=True)
    sizes = {"img_in_weight": (3072, inputs), "final_layer_linear_weight": (64, 3072)}
    kind = detect(header(*names, **sizes))
    assert (kind.family, kind.text) == (family, text)


def lone_file(folder: Path, tensors: dict[str, torch.Tensor]) -> Path:
    file = folder / "flux.safetensors"
    save_file(tensors, file)
    shutil.rmtree(folder / "transformer")
    return file


@pytest.mark.parametrize(
    ("component", "text"),
    [
        ("vae", "an autoencoder"),
        ("text_encoder", "a CLIP text encoder"),
        ("lora", "a LoRA (FLUX_ENDPOINT_LORA_DIR takes it)"),
    ],
)
@pytest.mark.parametrize("family", [DEV, SCHNELL])
def test_the_message_says_what_the_file_is(
    copy_checkpoint: Copy, family: ModelFamily, component: str, text: str
) -> None:
    folder = copy_checkpoint(DEV)
    if component == "lora":
        names = (f"{LORA}.lora_down.weight", f"{LORA}.lora_up.weight")
        tensors = {name: torch.zeros(4, 4) for name in names}
    else:
        tensors = load_file(next((folder / component).glob("*.safetensors")))
    file = lone_file(folder, tensors)
    with pytest.raises(CheckpointError) as refused:
        check_source(str(file), family, device="cpu")
    needed = f"the endpoint needs a FLUX.1 {family} transformer"
    assert str(refused.value) == f"Model {file}: {file} is {text}; {needed}"


@pytest.mark.parametrize(
    ("files", "text"),
    [
        ({}, "model_index.json is missing, and {} has no files that end in .safetensors, .sft, .gguf"),
        ({"flux.ckpt": []}, "model_index.json is missing, and {} has no files that end in .safetensors, .sft, .gguf"),
        (
            {"loras/a.safetensors": [], "b.sft": [f"{LORA}.lora_down.weight"], "vae/c.sft": ["decoder.up.0.x"]},
            "there is no file in {} that is a FLUX.1 dev transformer; name one: transformer=FILE "
            "(b.sft is a LoRA; vae/c.sft is an autoencoder)",
        ),
        (
            {"config.json": [], "diffusion_pytorch_model.safetensors": ["controlnet_x_embedder.weight"]},
            "{} is a ControlNet (FLUX_ENDPOINT_CONTROLNET_MODEL takes it); the endpoint needs a FLUX.1 dev transformer",
        ),
        (
            {"config.json": [], "diffusion_pytorch_model.safetensors": transformer_names(DEV, original=False)},
            "{} is a FLUX.1 dev transformer alone: use it as transformer={}",
        ),
    ],
    ids=["empty", "PyTorch", "no transformer", "ControlNet", "transformer's folder"],
)
def test_the_message_says_what_is_in_a_folder(tmp_path: Path, files: dict[str, list[str]], text: str) -> None:
    for name, tensors in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        save_file({tensor: torch.zeros(2, 2) for tensor in tensors}, tmp_path / name)
    with pytest.raises(CheckpointError) as refused:
        refuse_unloadable(str(tmp_path), DEV)
    assert str(refused.value).endswith(text.replace("{}", str(tmp_path)))


def test_one_of_several_files_is_no_model(copy_checkpoint: Copy) -> None:
    folder = copy_checkpoint(DEV) / "transformer"
    first = min(folder.glob("*.safetensors"))
    with pytest.raises(CheckpointError, match="is one of several files that hold one component: name their folder"):
        refuse_unloadable(str(first), DEV)
    index = folder / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text('{"weight_map": {"x": ["y"]}}')
    with pytest.raises(CheckpointError, match=f"{index} is damaged: it has no weight_map of tensors and files"):
        refuse_unloadable(str(folder.parent), DEV)
    index.unlink()
    with pytest.raises(CheckpointError, match=rf"{folder} lacks its weights: .*; it has {first.name}, .* more$"):
        refuse_unloadable(str(folder.parent), DEV)


@pytest.mark.parametrize("wrapping", ["diffusion_model.", "transformer.", "model.diffusion_model."])
def test_a_wrapped_dev_file_is_dev(copy_checkpoint: Copy, wrapping: str) -> None:
    folder = copy_checkpoint(DEV)
    config = folder / "transformer/config.json"
    kept = config.read_text()
    file = lone_file(folder, to_original(read_transformer(folder), wrapping))
    config.parent.mkdir()
    config.write_text(kept)
    assert check_source(str(file), DEV, device="cpu").family is DEV
    with pytest.raises(CheckpointError, match=r"this is a dev checkpoint .* needs schnell"):
        check_source(str(file), SCHNELL, device="cpu")


@pytest.mark.parametrize(
    ("place", "given", "text"),
    [
        ("vae/diffusion_pytorch_model", "text_encoder/model", "vae is a CLIP text encoder, not an autoencoder"),
        (
            "text_encoder/model",
            "vae/diffusion_pytorch_model",
            "text_encoder is an autoencoder, not a CLIP text encoder",
        ),
    ],
)
def test_a_component_in_the_place_of_another(copy_checkpoint: Copy, place: str, given: str, text: str) -> None:
    folder = copy_checkpoint(DEV)
    shutil.copyfile(folder / f"{given}.safetensors", folder / f"{place}.safetensors")
    with pytest.raises(CheckpointError, match=f"{text}$"):
        check_source(str(folder), DEV, device="cpu")


@pytest.mark.parametrize(
    ("start", "text"),
    [
        (b"GGUF\x03\x00\x00\x00", "is a GGUF file, damaged or not fully downloaded"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a clone without git-lfs leaves"),
        (b"\n<!DOCTYPE html><html>", "is a web page: the download went wrong"),
        (b"PK\x03\x04", "is a PyTorch file"),
        (b"\x80\x02ccollections", "is a PyTorch file"),
        (b"", "is damaged"),
        (b"nonsense" * 20, "is damaged"),
    ],
)
def test_another_format_is_called_by_its_name(copy_checkpoint: Copy, start: bytes, text: str) -> None:
    folder = copy_checkpoint(DEV)
    file = folder / "flux.safetensors"
    file.write_bytes(start)
    with pytest.raises(CheckpointError) as refused:
        check_source(str(file), DEV, device="cpu")
    assert str(refused.value).startswith(f"Model {file}: {file} is ")
    assert text in str(refused.value)
