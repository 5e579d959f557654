"""The command line without a server: helps, pictures, models, and what mistakes are answered with."""

import hashlib
import json
from pathlib import Path

import pytest
import typer
from PIL import Image

from flux_endpoint import __version__
from flux_endpoint.commands.app import app
from flux_endpoint.commands.models import _row
from flux_endpoint.core.image_formats import WEBP, format_of
from flux_endpoint.core.inputs import INPUTS
from flux_endpoint.core.marks import infotext_in, parameters_in
from flux_endpoint.engine.report import ComponentReport
from flux_endpoint.images.decoding import decode_sent
from flux_endpoint.settings import Settings, WorkerSettings
from flux_endpoint.settings.reader import list_settings
from tests.unit.conftest import assert_one_line
from tests.unit.test_lora_shelf import PAIR, write

pytestmark = pytest.mark.usefixtures("empty_place")


def commands_below(command, names=()):
    """The names of a command and of all below it."""
    below = getattr(command, "commands", {})
    return [[*names], *(found for name in below for found in commands_below(below[name], (*names, name)))]


@pytest.mark.parametrize("command", commands_below(typer.main.get_command(app)), ids=" ".join)
def test_every_command_has_a_help(run, command):
    code, out, err = run(*command, "--help")
    assert (code, err) == (0, "")
    assert "Usage: " in out


@pytest.mark.parametrize(("command", "kind"), [("serve", Settings), ("worker", WorkerSettings)])
def test_the_help_shows_every_setting_with_its_meaning(run, command, kind):
    _, out, _ = run(command, "--help")
    for info in list_settings(kind):
        assert info.option in out
        assert info.description.split()[0] in out


def test_the_version_is_the_packages(run):
    assert run("--version") == (0, f"flux-endpoint {__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["serve", "--port", "ninety"], "FLUX_ENDPOINT_PORT (option --port) is 'ninety'; allowed: a whole number"),
        (["serve", "--workers", "-1"], "FLUX_ENDPOINT_WORKERS"),
        (["worker"], "FLUX_ENDPOINT_WORKER_TOKEN (option --token) is missing"),
        (["worker", "--token", "t", "--model", "fake", "--endpoints", "x"], "no model for the endpoint 'x'"),
        (["generate", "a lake", "--model", "fake", "--width", "100"], "width must be between 256 and 1536"),
        (["generate", "a lake", "--model", "fake", "--width", "300"], "width must be divisible by 64"),
        (["generate", " ", "--model", "fake"], "prompt must not be empty"),
        (["generate", "a lake", "--model", "fake", "--endpoint", "schnell", "--steps", "9"], "between 1 and 8"),
        (["generate", "a lake", "--image", "no.png"], "image cannot be read: no.png: No such file or directory"),
        (["generate", "a lake", "--image", __file__], "image is no jpeg, png or webp file"),
        (["generate", "a lake", "--mask", __file__], "mask is no jpeg, png or webp file"),
        (["generate", "a lake", "--control-image", __file__], "control_image is no jpeg, png or webp file"),
        (["generate", "a hall", "--endpoint", "canny", "--canny-model", "fake"], "control_image is required"),
        (["generate", "a lake", "--model", "fake", "--strength", "0.5"], "--strength has no effect without an image"),
        (
            ["generate", "a lake", "--endpoint", "schnell", "--model", "fake", "--control-scale", "0.5"],
            "--control-scale has no effect on Flux Schnell: leave it out",
        ),
        (
            ["generate", "a hall", "--endpoint", "depth", "--depth-model", "fake", "--strength", "1"],
            "--strength has no effect on Flux Depth Dev: leave it out",
        ),
        (["generate", "a lake", "-o", "lake.gif"], "lake.gif does not end in .jpg, .png or .webp"),
        (["generate", "a lake", "-o", "nowhere/lake.png"], "does not exist"),
        (["generate", "a lake", "--endpoint", "schnell", "--model", "./weights"], "no Flux Schnell checkpoint"),
        (["models", "check", "--endpoint", "kontext"], "set FLUX_ENDPOINT_KONTEXT_MODEL (option --kontext-model)"),
        (["keys", "list"], "no server has used DATA_DIR data yet"),
        (["webhooks", "list"], "no server has used DATA_DIR data yet"),
        (["webhooks", "replay"], "name one webhook by its id, or give --failed"),
        (["webhooks", "replay", "msg_1", "--failed"], "name one webhook by its id, or give --failed"),
        (["serve", "--outbound-allow", "10.0.0.1/8"], "FLUX_ENDPOINT_OUTBOUND_ALLOW (option --outbound-allow)"),
        (["keys", "create", "x", "--database-url", "mysql://u:geheim@h/d"], "FLUX_ENDPOINT_DATABASE_URL"),
    ],
)
def test_a_mistake_is_answered_with_one_line(run, arguments, expected):
    error = assert_one_line(*run(*arguments), expected_code=2)
    assert expected in error
    assert "geheim" not in error


def test_a_picture_is_drawn_from_files_of_this_machine(run, tmp_path):
    Image.new("RGB", (640, 320), "red").save(tmp_path / "boat.png")
    Image.new("L", (640, 320), "white").save(tmp_path / "mask.png")
    files = ["--image", str(tmp_path / "boat.png"), "--mask", str(tmp_path / "mask.png"), "--strength", "0.5"]
    drawn = tmp_path / "winter.png"
    code, out, _ = run("generate", "a boat", *files, "--seed", "1", "--model", "fake", "-o", str(drawn))
    assert code == 0
    assert out.startswith(f"{drawn}: 640 x 320, 14 steps, seed 1")
    told = parameters_in(drawn.read_bytes())
    kept = [
        decode_sent((tmp_path / name).read_bytes(), size)
        for name, size in (("boat.png", None), ("mask.png", (640, 320)))
    ]
    assert [told["source_image"], told["source_mask"]] == [hashlib.sha256(one.data).hexdigest() for one in kept]
    assert told["strength"] == 0.5
    assert "Denoising strength: 0.5" in infotext_in(drawn.read_bytes())


def test_a_picture_is_read_as_a_prompt_from_a_file_of_this_machine(run, tmp_path):
    Image.new("RGB", (640, 320), "red").save(tmp_path / "boat.png")
    arguments = ["generate", "a boat", "--image-prompt", str(tmp_path / "boat.png"), "--model", "fake", "-o", "a.png"]
    code, out, err = run(*arguments, "--redux-model", "fake", "--image-prompt-scale", "0.5", "--seed", "1")
    assert code == 0, err
    # It has no say in the size.
    assert out.startswith("a.png: 1024 x 1024, 28 steps, seed 1")
    told = parameters_in((tmp_path / "a.png").read_bytes())
    kept = decode_sent((tmp_path / "boat.png").read_bytes())
    assert told["image_prompt"] == hashlib.sha256(kept.data).hexdigest()
    assert told["image_prompt_scale"] == 0.5
    assert "source_image" not in told
    (tmp_path / "a.png").unlink()
    assert "image_prompt needs FLUX.1 Redux" in assert_one_line(*run(*arguments), expected_code=2)
    assert not (tmp_path / "a.png").exists()


def test_a_picture_is_drawn_along_a_map_of_this_machine(run, tmp_path):
    Image.new("RGB", (320, 640), "white").save(tmp_path / "edges.png")
    drawn = tmp_path / "hall.png"
    control = ["--endpoint", "canny", "--canny-model", "fake", "--control-image", str(tmp_path / "edges.png")]
    code, out, _ = run("generate", "a hall", *control, "--seed", "1", "-o", str(drawn))
    assert code == 0
    assert out.startswith(f"{drawn}: 320 x 640, 50 steps, seed 1")
    kept = decode_sent((tmp_path / "edges.png").read_bytes(), None)
    assert parameters_in(drawn.read_bytes())["control_image"] == hashlib.sha256(kept.data).hexdigest()


def test_flux_dev_draws_along_a_map_where_a_controlnet_is_loaded(run, tmp_path):
    Image.new("RGB", (320, 640), "white").save(tmp_path / "edges.png")
    drawn = tmp_path / "hall.png"
    asked = ["generate", "a hall", "--model", "fake", "--control-image", str(tmp_path / "edges.png"), "-o", str(drawn)]
    assert "control_image needs a ControlNet" in assert_one_line(*run(*asked), expected_code=2)
    union = ["--controlnet-model", "fake kind=union"]
    assert "control_mode is required" in assert_one_line(*run(*asked, *union), expected_code=2)
    code, out, err = run(*asked, *union, "--control-mode", "2", "--control-scale", "0.7", "--control-end", "0.6")
    assert code == 0, err
    assert out.startswith(f"{drawn}: 320 x 640, 28 steps")
    told = parameters_in(drawn.read_bytes())
    steering = ("depth", 0.7, 0.0, 0.6)
    assert tuple(told[f"control_{name}"] for name in ("mode", "scale", "start", "end")) == steering


def test_an_unknown_variable_is_answered_with_one_line(run, monkeypatch):
    monkeypatch.setenv("FLUX_ENDPOINT_MODELL", "demo")
    error = assert_one_line(*run("generate", "a lake"), expected_code=2)
    assert error == "flux-endpoint: unknown setting FLUX_ENDPOINT_MODELL: did you mean FLUX_ENDPOINT_MODEL?\n"


@pytest.mark.parametrize("arguments", [["generate", "a lake"], ["worker", "--token", "t"]])
def test_a_wrong_model_ends_with_78_and_one_line(run, arguments):
    error = assert_one_line(*run(*arguments, "--model", "fake:soon"), expected_code=78)
    assert "fake:soon" in error


def test_generate_writes_a_picture_and_says_how_to_draw_it_again(run, tmp_path):
    arguments = ["generate", "a lake", "--model", "fake", "--width", "256", "--steps", "2", "--seed", "7"]
    code, out, err = run(*arguments, "-o", "lake.png")
    assert code == 0, err
    assert out.startswith("lake.png: 256 x 1024, 2 steps, seed 7, ")
    assert (tmp_path / "lake.png").read_bytes().startswith(b"\x89PNG")


def test_generate_writes_several_pictures_the_first_of_which_is_that_of_its_seed_alone(run, tmp_path):
    arguments = ["generate", "a lake", "--model", "fake", "--width", "256", "--steps", "2", "--seed", "7"]
    code, out, err = run(*arguments, "-o", "lake.png", "--num-images", "3")
    assert code == 0, err
    told = [line.partition(": ") for line in out.splitlines()]
    assert [name for name, _, _ in told] == ["lake.png", "lake-2.png", "lake-3.png"]
    assert [about[: len("256 x 1024, 2 steps, seed 7")][-6:] for _, _, about in told] == ["seed 7", "seed 8", "seed 9"]
    for name, seed in (("lake.png", 7), ("lake-2.png", 8), ("lake-3.png", 9)):
        run(*arguments[:-1], str(seed), "-o", "alone.png")
        assert (tmp_path / "alone.png").read_bytes() == (tmp_path / name).read_bytes()


def test_generate_has_an_option_for_every_input_under_each_of_its_names():
    command = typer.main.get_command(app).commands["generate"]
    parameters = {parameter.name: parameter for parameter in command.params}
    for row in INPUTS:
        names = [f"--{name.replace('_', '-')}" for name in (row.name, *row.aliases)]
        names = {"loras": ["--lora"]}.get(row.name, names)
        assert parameters[row.name].opts == (names if row.kind.default is not None else [row.name])
        assert parameters[row.name].help.startswith(row.help)
    assert parameters["num_inference_steps"].help.endswith(
        "Allowed: 1 to 50; schnell: 1 to 8. Default: 28; schnell: 4; fill: 50; canny: 50; depth: 30."
    )


def test_generate_chooses_the_format_by_name_unless_told(run, tmp_path):
    run("generate", "a lake", "--model", "fake", "-o", "lake.jpg")
    assert (tmp_path / "lake.jpg").read_bytes().startswith(b"\xff\xd8")
    run("generate", "a lake", "--model", "fake", "-o", "lake.WEBP")
    assert format_of((tmp_path / "lake.WEBP").read_bytes()) is WEBP
    run("generate", "a lake", "--model", "fake", "-o", "lake.bin", "--image-format", "png")
    assert (tmp_path / "lake.bin").read_bytes().startswith(b"\x89PNG")


def test_generate_draws_a_seed_and_tells_it(run):
    _, out, _ = run("generate", "a lake", "--model", "fake")
    seed = out.split("seed ")[1].split(",")[0]
    assert seed.isdigit()


def test_models_are_listed_for_programs(run):
    listed = json.loads(run("models", "list", "--json")[1])
    assert listed[0]["model"] == "demo"
    assert listed[0].keys() == {"model", "bytes", "folder"}


def test_check_tells_what_a_model_is(run):
    code, out, _ = run("models", "check", "fake")
    assert code == 0
    assert out.endswith("ok: this model runs here\n")


@pytest.mark.parametrize(
    ("files", "text"),
    [
        (["flux/vae/ae.sft"], "vae/ae.sft"),
        (["other/ae.sft"], "/other/ae.sft"),
        (["flux/vae/1.sft", "flux/vae/2.sft"], "2 files in vae"),
    ],
)
def test_check_tells_in_which_files_a_component_is(files, text):
    places = tuple(Path("/") / file for file in files)
    report = ComponentReport("vae", places, 244, 83_819_683, 1, ("BF16",), "an autoencoder, bf16", ())
    assert _row(report, Path("/flux")) == f"an autoencoder, bf16; 83.8 M parameters, BF16; {text}"


def test_check_looks_at_each_of_several_and_names_what_is_wrong(run, tmp_path):
    pointer, page = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    pointer.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    page.write_bytes(b"<html>")
    code, out, err = run("models", "check", str(pointer), "fake", str(page))
    assert code == 78
    assert out.count("ok: this model runs here") == 1
    assert err.splitlines() == [
        f"flux-endpoint: {pointer} is the pointer that a clone without git-lfs leaves, not a safetensors or GGUF file",
        f"flux-endpoint: {page} is a web page: the download went wrong, not a safetensors or GGUF file",
    ]


def test_serve_refuses_a_model_by_name_before_it_starts(run, tmp_path):
    file = tmp_path / "flux.safetensors"
    file.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    code, out, err = run("serve", "--data-dir", str(tmp_path / "data"), "--model", str(file))
    assert (code, out) == (78, "")
    assert "is the pointer that a clone without git-lfs leaves" in err
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        (
            "redux",
            "Redux {}: {}/image_encoder is missing: a folder of diffusers has image_encoder, image",
        ),
        ("controlnet", "ControlNet {}: {} lacks its weights: "),
    ],
)
def test_serve_refuses_what_is_loaded_beside_a_model_before_it_starts(run, tmp_path, setting, problem):
    folder, model = tmp_path / "folder", "black-forest-labs/FLUX.1-dev"
    folder.mkdir()
    code, out, err = run(
        "serve", "--data-dir", str(tmp_path / "data"), "--model", model, f"--{setting}-model", str(folder)
    )
    assert (code, out) == (78, "")
    assert problem.format(folder, folder) in err
    assert not (tmp_path / "data").exists()


def test_models_loras_says_what_each_file_changes_or_what_is_wrong_with_it(run, tmp_path):
    write(tmp_path / "loras" / "film.safetensors", PAIR)
    write(tmp_path / "loras" / "half.safetensors", dict(list(PAIR.items())[:1]))
    _, out, _ = run("models", "loras", "--model", "fake", "--lora-dir", "loras", "--json")
    film, half = json.loads(out)
    assert film == {"name": "film", "bytes": film["bytes"], "changes": "LoRA: 1 layers of transformer"}
    assert "is incomplete" in half["problem"]
    _, out, _ = run("models", "loras", "--model", "fake", "--lora-dir", "loras")
    assert "film" in out


def test_generate_takes_loras_by_name_and_scale(run, tmp_path):
    write(tmp_path / "loras" / "film.safetensors", PAIR)
    drawn = ["generate", "a lake", "--model", "fake", "--lora-dir", "loras"]
    code, _, err = run(*drawn, "--lora", "film:0.5")
    assert code == 0, err
    (told,) = parameters_in((tmp_path / "flux.png").read_bytes())["loras"]
    assert (told["path"], told["scale"]) == ("film", 0.5)
    error = assert_one_line(*run(*drawn, "--lora", "flim"), expected_code=2)
    assert "loras[0].path cannot be used: there is no LoRA 'flim' here; there are film" in error


def test_finish_needs_a_server_and_its_key(run, tmp_path):
    code, _, err = run("finish", "some-job", "--data-dir", str(tmp_path))
    assert code == 2
    assert err.startswith(
        f"flux-endpoint: there is no API key: give --api-key, or --data-dir ({tmp_path / 'api-key'}: No"
    )
    code, _, err = run("finish", "some-job", "--api-key", "fxe_secret-key", "--server", "http://127.0.0.1:9")
    assert (code, "no server answers at http://127.0.0.1:9" in err, "fxe_secret-key" in err) == (1, True, False)
