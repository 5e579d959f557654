"""LoRAs by name: what a client may write, which files that means, and what is refused before anything is queued."""

import json
import os
import struct
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import pytest

from flux_endpoint.api.dialects.a1111 import requests as a1111
from flux_endpoint.api.dialects.fal import requests as fal
from flux_endpoint.core.catalog import FLUX_DEV
from flux_endpoint.core.endpoint import FluxEndpoint
from flux_endpoint.core.errors import CheckpointError, InvalidParameter, SettingsError
from flux_endpoint.core.generation import GenerationRequest
from flux_endpoint.files.lora_outline import outline
from flux_endpoint.files.lora_shelf import FolderShelf, shelf_of

MODULE = "transformer.transformer_blocks.0.attn.to_q"
PAIR = {f"{MODULE}.lora_A.weight": (2, 8), f"{MODULE}.lora_B.weight": (8, 2)}
KOHYA = "lora_unet_double_blocks_0_img_attn_qkv"


def write(file: Path, shapes: Mapping[str, tuple[int, ...]], values: Mapping[str, float] = {}, **metadata: str) -> Path:
    """A safetensors file of zeros in float32, and of single numbers."""
    header: dict[str, object] = {"__metadata__": metadata} if metadata else {}
    data = b""
    for name, shape in (*shapes.items(), *((name, ()) for name in values)):
        count = 1
        for side in shape:
            count *= side
        piece = struct.pack("<f", values[name]) if name in values else bytes(4 * count)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": (len(data), len(data) + len(piece))}
        data += piece
    text = json.dumps(header).encode()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return file


@pytest.fixture
def shelf(tmp_path: Path) -> FolderShelf:
    write(tmp_path / "loras" / "film.safetensors", PAIR)
    write(tmp_path / "loras" / "portraits" / "oil.v2.safetensors", PAIR, {}, made="by hand")
    write(tmp_path / "loras" / "peft" / "adapter_model.safetensors", PAIR, {}, made="by PEFT")
    write(tmp_path / "secret.safetensors", PAIR, {}, made="for nobody")
    write(tmp_path / "loras" / "half.safetensors", {f"{MODULE}.lora_A.weight": (2, 8)})
    return FolderShelf((tmp_path / "loras",))


def accepted(shelf: FolderShelf, loras: object) -> list[dict]:
    accepted = FluxEndpoint(FLUX_DEV, shelf=shelf).accept({"prompt": "a lake", "loras": loras})
    assert GenerationRequest.from_input(accepted.input).to_input() == accepted.input
    return accepted.input.get("loras", [])


def problem(shelf: FolderShelf, loras: object) -> str:
    with pytest.raises(InvalidParameter) as caught:
        accepted(shelf, loras)
    return str(caught.value).removeprefix("Invalid parameter: ")


def test_a_job_says_the_hash_of_each_file(shelf, tmp_path):
    digest = sha256((tmp_path / "loras" / "film.safetensors").read_bytes()).hexdigest()
    assert accepted(shelf, [{"path": "film", "scale": 0.8}]) == [{"path": "film", "scale": 0.8, "sha256": digest}]


@pytest.mark.parametrize(
    "name", ["film", "film.safetensors", "portraits/oil.v2", "portraits/oil.v2.safetensors", "peft"]
)
def test_a_name_is_that_of_the_file_with_its_ending_or_without(shelf, name):
    assert accepted(shelf, [{"path": name}])[0]["scale"] == 1.0


def test_no_loras_leave_no_trace_in_a_job(shelf):
    assert accepted(shelf, []) == accepted(shelf, None) == []


def test_the_order_of_a_request_makes_no_difference(shelf):
    names = [{"path": "film"}, {"path": "portraits/oil.v2"}, {"path": "peft", "scale": -1}]
    assert accepted(shelf, names) == accepted(shelf, names[::-1])


def test_a_job_can_be_asked_for_again_by_the_hash(shelf):
    (first,) = accepted(shelf, [{"path": "film"}])
    assert accepted(shelf, [first]) == [first]
    other = problem(shelf, [first | {"sha256": "0" * 64}])
    assert other == f"loras[0].sha256 is not that of the file here, which is {first['sha256']}"


@pytest.mark.parametrize(
    ("loras", "text"),
    [
        ("film", "loras must be an array of objects with the key 'path'"),
        (["film"], "loras[0] must be an object with the key 'path'"),
        ([{"scale": 1}], "loras[0].path must be a name of 1 to 1000 characters"),
        ([{"path": "film", "weight": 1}], "loras[0] has a key 'weight'; known are path, scale, sha256"),
        ([{"path": "film", "scale": True}], "loras[0].scale must be a number"),
        ([{"path": "film", "scale": 4.01}], "loras[0].scale must be between -4 and 4"),
        ([{"path": "film", "scale": float("nan")}], "loras[0].scale must be between -4 and 4"),
        ([{"path": "film", "sha256": "AB"}], "loras[0].sha256 must be 64 hexadecimal digits in lower case"),
        ([{"path": "film"}] * 9, "loras must be at most 8, got 9"),
        ([{"path": "film"}, {"path": "film.safetensors"}], "loras[1].path names the same file as 'film'"),
    ],
)
def test_a_list_that_is_wrong_is_refused_by_field(shelf, loras, text):
    assert problem(shelf, loras) == text


@pytest.mark.parametrize("name", ["../secret", "portraits/../../secret", "/etc/passwd", "..", ".", "portraits"])
def test_a_name_leads_nowhere_else(shelf, tmp_path, name):
    assert problem(shelf, [{"path": name}]).startswith("loras[0].path cannot be used: ")
    assert problem(shelf, [{"path": str(tmp_path / "secret")}]).endswith("is no name of a LoRA")


def test_a_link_out_of_the_folder_is_no_lora(shelf, tmp_path):
    (tmp_path / "loras" / "link.safetensors").symlink_to(tmp_path / "secret.safetensors")
    assert "there is no LoRA 'link' here" in problem(shelf, [{"path": "link"}])


def test_an_unknown_name_is_told_what_there_is(shelf):
    text = "loras[0].path cannot be used: there is no LoRA 'flim' here; there are film, half, peft, portraits/oil.v2"
    assert problem(shelf, [{"path": "flim"}]) == text
    text = problem(shelf, [{"path": "https://example.org/film.safetensors"}])
    assert "does not fetch LoRAs from example.org: setting FLUX_ENDPOINT_LORA_SOURCES allows nothing" in text


def test_without_a_folder_there_is_none():
    assert problem(FolderShelf(()), [{"path": "film"}]).endswith("there is no LoRA 'film' here; there are none")


def test_a_file_that_has_changed_is_read_again(shelf, tmp_path):
    (before,) = accepted(shelf, [{"path": "film"}])
    write(tmp_path / "loras" / "film.safetensors", PAIR, {}, made="again")
    (after,) = accepted(shelf, [{"path": "film"}])
    assert before["sha256"] != after["sha256"]
    assert "is incomplete" in problem(shelf, [{"path": "half"}])


@pytest.mark.parametrize(
    ("shapes", "values", "text"),
    [
        ({}, {}, "is no LoRA: it holds nothing"),
        ({"double_blocks.0.img_attn.qkv.weight": (8, 8)}, {}, "is no LoRA: it holds double_blocks"),
        ({f"{MODULE}.lora_A.weight": (2, 8)}, {}, f"is incomplete: of {MODULE} it has down only"),
        ({f"{MODULE}.lora_B.weight": (8, 2)}, {f"{MODULE}.alpha": 1}, "it has alpha, up only"),
        (PAIR, {"transformer.proj_out.alpha": 1}, "is incomplete: transformer.proj_out has alpha alone"),
        (PAIR, {f"{MODULE}.alpha": 0}, f"the alpha of {MODULE} is 0, which must be above 0"),
        (PAIR, {f"{MODULE}.alpha": -4}, "is -4, which must be above 0"),
        (PAIR, {f"{MODULE}.alpha": float("nan")}, "is nan, which must be above 0"),
        (PAIR | {f"{MODULE}.dora_scale": (8, 1)}, {}, f"is a DoRA, which is not applied here: {MODULE}.dora_scale"),
        (PAIR | {f"{MODULE}.lora_magnitude_vector": (8,)}, {}, "is a DoRA"),
        (PAIR | {f"{MODULE}.lora_B.bias": (8,)}, {}, "changes biases"),
        (PAIR | {"double_blocks.0.img_attn.norm.query_norm.scale": (8,)}, {}, "is a control LoRA"),
        (PAIR | {f"{KOHYA}.diff": (24, 8)}, {}, "holds whole differences of weights (.diff)"),
        (PAIR | {"bundle_emb.x": (8,)}, {}, "holds 1 tensors that no LoRA has: bundle_emb.x"),
        (
            {"lora_unet_down_blocks_0_x.lora_down.weight": (2, 8), "lora_unet_down_blocks_0_x.lora_up.weight": (8, 2)},
            {},
            "is made for another model: FLUX.1 has no layer lora_unet_down_blocks_0_x",
        ),
        ({f"{MODULE}.lora_A.weight": (2, 8), f"{MODULE}.lora_B.weight": (8, 3)}, {}, "do not fit: (8, 3), (2, 8)"),
        ({f"{MODULE}.lora_A.weight": (2,), f"{MODULE}.lora_B.weight": (8, 2)}, {}, "which is none of a linear layer"),
        ({f"{KOHYA}.lora_down.weight": (2, 8), f"{KOHYA}.lora_up.weight": (25, 2)}, {}, "another model"),
        (
            PAIR | {f"{KOHYA}.lora_down.weight": (2, 8), f"{KOHYA}.lora_up.weight": (24, 2)},
            {},
            f"changes transformer_blocks.0.attn.to_q twice: by {MODULE} and by {KOHYA}",
        ),
        ({f"{KOHYA}.lokr_w1": (2, 2), f"{KOHYA}.hada_w1_a": (2, 2)}, {}, "is incomplete"),
    ],
)
def test_what_is_not_wholly_understood_is_refused_by_name(tmp_path, shapes, values, text):
    with pytest.raises(CheckpointError) as caught:
        outline(write(tmp_path / "x.safetensors", shapes, values))
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"use_dora": True}, "is a DoRA"),
        ({"bias": "all"}, "changes biases or whole layers"),
        ({"modules_to_save": ["proj_out"]}, "changes biases or whole layers"),
        ({"lora_alpha": 0, "r": 2}, "its lora_alpha is 0, which must be above 0"),
        ({"lora_alpha": "much"}, "cannot be read"),
    ],
)
def test_a_configuration_that_asks_for_more_is_refused(tmp_path, config, text):
    file = write(tmp_path / "adapter_model.safetensors", PAIR)
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=text):
        outline(file)


def test_an_alpha_that_is_said_twice_is_refused(tmp_path):
    adapter = json.dumps({"transformer.lora_alpha": 4, "transformer.r": 2})
    file = write(tmp_path / "x.safetensors", PAIR, {f"{MODULE}.alpha": 1.0}, lora_adapter_metadata=adapter)
    with pytest.raises(CheckpointError, match=r"says the alpha of .* twice"):
        outline(file)


@pytest.mark.parametrize(
    ("config", "factor"),
    [
        ({"lora_alpha": 4}, 2.0),
        ({"lora_alpha": 4, "use_rslora": True}, 4 / 2**0.5),
        ({"lora_alpha": 4, "alpha_pattern": {"attn.to_q": 6}}, 3.0),
        ({}, 1.0),
    ],
)
def test_alpha_by_rank_is_read_from_the_config(tmp_path, config, factor):
    metadata = json.dumps({f"transformer.{name}": value for name, value in config.items()})
    file = write(tmp_path / "one" / "x.safetensors", PAIR, {}, lora_adapter_metadata=metadata)
    assert outline(file)[0].factor == factor
    peft = write(tmp_path / "two" / "adapter_model.safetensors", PAIR)
    (tmp_path / "two" / "adapter_config.json").write_text(json.dumps(config))
    assert outline(peft)[0].factor == factor


# --- as clients of other servers write it


def heard_as(shelf: FolderShelf, **fields: object) -> list[tuple[str, float]]:
    accepted = FluxEndpoint(FLUX_DEV, shelf=shelf).accept({"prompt": "a lake", **fields})
    assert not accepted.warnings
    return sorted((one["path"], one["scale"]) for one in accepted.input["loras"])


def test_together_and_replicate_have_words_of_their_own(shelf):
    assert heard_as(shelf, image_loras=[{"path": "film", "scale": 0.5}]) == [("film", 0.5)]
    assert heard_as(shelf, lora_weights="film") == [("film", 1.0)]
    both = heard_as(shelf, lora_weights="film", lora_scale=0.8, extra_lora="peft", extra_lora_scale=-1)
    assert both == [("film", 0.8), ("peft", -1.0)]


def test_a_scale_without_its_lora_is_told(shelf):
    accepted = FluxEndpoint(FLUX_DEV, shelf=shelf).accept({"prompt": "a lake", "lora_scale": 0.8})
    assert accepted.warnings == ("lora_scale has no effect without lora_weights",)


def test_a_folder_that_is_none_is_refused_at_the_start(tmp_path):
    with pytest.raises(SettingsError, match=r"--lora-dir. names no folder"):
        shelf_of(tmp_path / "none", is_embedded=False)


@pytest.mark.parametrize(
    ("fields", "start"),
    [
        ({"image_loras": [{"path": "film"}, {"path": "half"}]}, "image_loras[1].path cannot be used: half.safetensors"),
        ({"lora_weights": "half"}, "lora_weights cannot be used: half.safetensors is incomplete"),
    ],
)
def test_what_is_wrong_is_told_in_their_words(shelf, fields, start):
    with pytest.raises(InvalidParameter) as caught:
        heard_as(shelf, **fields)
    assert str(caught.value).startswith(f"Invalid parameter: {start}")


def test_fals_list_is_ours(shelf):
    body = {"prompt": "a lake", "loras": [{"path": "film", "scale": 0.7}]}
    (asked,) = fal.read_request(json.dumps(body).encode()).submissions(FluxEndpoint(FLUX_DEV, shelf=shelf))
    assert [(one["path"], one["scale"]) for one in asked.input["loras"]] == [("film", 0.7)]


def in_a_prompt(shelf: FolderShelf, prompt: str) -> Mapping[str, object]:
    data = json.dumps({"prompt": prompt}).encode()
    (asked,) = a1111.read_request(data, from_picture=False).submissions(FluxEndpoint(FLUX_DEV, shelf=shelf))
    return asked.input


def test_a1111_has_them_in_the_prompt(shelf):
    asked = in_a_prompt(shelf, "a lake <lora:film:0.8> at dawn, <lora:portraits/oil.v2>")
    assert asked["prompt"] == "a lake at dawn,"
    assert sorted((one["path"], one["scale"]) for one in asked["loras"]) == [("film", 0.8), ("portraits/oil.v2", 1.0)]
    assert "loras" not in in_a_prompt(shelf, "a lake <3")


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("a lake <lora:film:much>", "prompt has a LoRA whose strength is no number"),
        ("a lake <lora:flim:1>", "prompt has a LoRA whose name cannot be used: there is no LoRA 'flim' here"),
        ("a lake <lora:film:5>", "prompt has a LoRA whose strength must be between -4 and 4"),
        ("a lake" + "<lora:film:1>" * 9, "prompt has LoRAs, which must be at most 8, got 9"),
    ],
)
def test_a1111_is_told_of_its_prompt(shelf, prompt, text):
    with pytest.raises(InvalidParameter) as caught:
        in_a_prompt(shelf, prompt)
    assert text in str(caught.value)


def test_the_embedded_model_takes_none_of_the_large_one(shelf, tmp_path):
    text = problem(shelf_of(tmp_path / "loras", is_embedded=True), [{"path": "film"}])
    assert text.endswith("film.safetensors is made for another model, 8 wide; this one is 192 wide")


def test_what_was_looked_at_is_not_read_again(shelf, tmp_path):
    shelf.look_at_all()
    (film,) = accepted(shelf, [{"path": "film"}])
    file, stat = tmp_path / "loras" / "film.safetensors", (tmp_path / "loras" / "film.safetensors").stat()
    file.write_bytes(bytes(stat.st_size))
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert accepted(shelf, [{"path": "film"}]) == [film]
