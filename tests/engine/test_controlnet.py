"""ControlNets beside Flux Dev: equal to diffusers' own pipeline, bit for bit, in float32 on the CPU."""

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxControlNetModel, FluxControlNetPipeline, FluxPipeline
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from numpy.typing import NDArray
from PIL import Image

from flux_endpoint.core.acceleration import Acceleration
from flux_endpoint.core.catalog import CATALOG, FLUX_DEV, ModelFamily
from flux_endpoint.core.controlnet import ControlMode, NamedControlNet
from flux_endpoint.core.errors import CheckpointError
from flux_endpoint.core.generation import GenerationRequest
from flux_endpoint.core.marks import parameters_in
from flux_endpoint.core.negative_mode import NegativeMode
from flux_endpoint.engine.add_ons import AddOns
from flux_endpoint.engine.engine import FluxEngine
from flux_endpoint.engine.factory import build_engines, check_source, refuse_unloadable_add_ons
from flux_endpoint.engine.protocol import finish
from tests.engine.conftest import arguments_of, drawn_beside, make_request
from tests.engine.controlnet_files import build_controlnet
from tests.engine.test_drafts import in_two_goes
from tests.engine.test_editing import draw, kept, picture

# diffusers 0.42 warns of a name that it uses itself.
pytestmark = pytest.mark.filterwarnings("ignore:`FluxPosEmbed` is deprecated:FutureWarning")

DEV = ModelFamily.DEV
Engines = Mapping[ModelFamily, FluxEngine]
# By name: what is said of it in the settings, and what is in its config.
KINDS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "union": (" kind=union", {"num_mode": 10}),
    "single": ("", {"num_single_layers": 0, "guidance_embeds": False}),
    "pixels": ("", {"num_single_layers": 0, "conditioning_embedding_channels": 4, "patch_size": 2}),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("controlnets")
    return {name: build_controlnet(root / name, 7, **config) for name, (_, config) in KINDS.items()}


def beside(folder: Path, name: str) -> AddOns:
    return AddOns(controlnet=NamedControlNet.parse(f"{folder}{KINDS[name][0]}"))


@pytest.fixture(scope="module")
def steered(checkpoints: dict[ModelFamily, Path], folders: dict[str, Path]) -> Iterator[dict[str, FluxEngine]]:
    """Flux Dev with each of them."""
    made: dict[str, FluxEngine] = {}
    for name, folder in folders.items():
        sources = {FLUX_DEV.endpoint_id: str(checkpoints[DEV])}
        engines = build_engines(sources, CATALOG, device="cpu", add_ons=beside(folder, name))
        made[name] = engines[FLUX_DEV.endpoint_id]
        made[name].load()
    yield made
    for engine in made.values():
        engine.close()


def asked(control: NDArray[np.uint8], files: dict[str, bytes], mode: str | None, **fields: Any) -> GenerationRequest:
    steering = {"control_scale": 1.0, "control_start": 0.0, "control_end": 1.0} | fields
    sides = {"width": control.shape[1], "height": control.shape[0]}
    return make_request(control_image=kept(control, files), control_mode=mode, **sides | steering)


def drawn_by(pipeline: FluxPipeline, folder: Path, request: GenerationRequest, control: Image.Image) -> Any:
    controlnet = FluxControlNetModel.from_pretrained(folder, dtype=torch.float32)
    controlled = FluxControlNetPipeline(controlnet=controlnet, **pipeline.components)
    controlled.set_progress_bar_config(disable=True)
    more = {"negative_prompt": request.negative_prompt, "true_cfg_scale": request.true_cfg_scale}
    return np.asarray(
        controlled(
            request.prompt,
            control_image=control,
            control_mode=None if request.control_mode is None else list(ControlMode).index(request.control_mode),
            controlnet_conditioning_scale=request.control_scale,
            control_guidance_start=request.control_start,
            control_guidance_end=request.control_end,
            **arguments_of(request),
            **more if request.negative_prompt else {},
        ).images[0]
    )


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("union", {}),
        ("union", {"control_mode": "depth", "control_scale": 0.6, "negative_prompt": "night, boat"}),
        ("union", {"control_start": 0.3, "control_end": 0.8, "num_inference_steps": 4}),
        ("single", {"control_scale": 1.7, "control_end": 0.5, "negative_prompt": "night"}),
        ("pixels", {}),
    ],
)
def test_pixels_equal_the_controlnet_pipelines(
    steered: dict[str, FluxEngine],
    folders: dict[str, Path],
    pipelines: Mapping[ModelFamily, FluxPipeline],
    name: str,
    fields: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The pipeline draws the map that it reads by lot, and we take the likeliest.
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda latents, generator=None: latents.mode())
    files: dict[str, bytes] = {}
    edges = picture(96, 64)
    mode = fields.pop("control_mode", "canny" if name == "union" else None)
    request = asked(edges, files, mode, **fields)
    ours = draw(steered[name], request, files)
    assert np.array_equal(ours, drawn_by(pipelines[DEV], folders[name], request, Image.fromarray(edges)))
    others = [replace(request, control_image=kept(255 - edges, files)), replace(request, control_scale=0.1)]
    if mode is not None:
        others.append(replace(request, control_mode="gray"))
    for other in others:
        assert not np.array_equal(draw(steered[name], other, files), ours)


def test_what_does_not_act_changes_nothing(steered: dict[str, FluxEngine], engines: Engines) -> None:
    files: dict[str, bytes] = {}
    request = asked(picture(64, 64), files, "pose")
    without = draw(engines[DEV], make_request(), {})
    assert np.array_equal(draw(steered["union"], make_request(), {}), without)
    for idle in (replace(request, control_scale=0.0), replace(request, control_end=0.0)):
        assert np.array_equal(draw(steered["union"], idle, files), without)


def test_levels_drafts_and_negative_prompts_in_the_attention_heed_the_map(steered: dict[str, FluxEngine]) -> None:
    files: dict[str, bytes] = {}
    request = asked(picture(64, 64), files, "tile", num_inference_steps=3, control_end=0.7)
    exact = finish(steered["union"].generate(request, files))
    assert (
        parameters_in(exact.data).items()
        >= {
            "control_image": next(iter(files)),
            "control_mode": "tile",
            "control_scale": 1.0,
            "control_start": 0.0,
            "control_end": 0.7,
            "controlnet": "union",
        }.items()
    )
    fast = finish(steered["union"].generate(replace(request, acceleration=Acceleration.HIGH), files))
    assert (fast.acceleration, fast.data) == (Acceleration.NONE, exact.data)
    assert in_two_goes(steered["union"], request, 2, files) == exact
    with_nag = replace(request, negative_prompt="night", negative_mode=NegativeMode.NAG, true_cfg_scale=4.0)
    made = draw(steered["union"], with_nag, files)
    for other in (replace(with_nag, control_scale=0.0), replace(with_nag, negative_prompt="")):
        assert not np.array_equal(made, draw(steered["union"], other, files))


def test_a_picture_to_start_from_stands_beside_the_map(steered: dict[str, FluxEngine]) -> None:
    files: dict[str, bytes] = {}
    request = asked(picture(64, 64), files, "blur", num_inference_steps=4)
    both = replace(request, image=kept(255 - picture(64, 64), files), strength=0.5)
    made = draw(steered["union"], both, files)
    for other in (replace(both, control_scale=0.0), replace(both, image=None, strength=1.0)):
        assert not np.array_equal(made, draw(steered["union"], other, files))


def test_company_changes_nothing(steered: dict[str, FluxEngine]) -> None:
    files: dict[str, bytes] = {}
    requests = [asked(picture(64, 64), files, mode, negative_prompt="night") for mode in ("canny", "gray")]
    alone = finish(steered["union"].generate(requests[0], files)).data
    ours, other = (steered["union"].generate(request, files) for request in requests)
    assert drawn_beside(ours, other) == alone


def test_a_worker_without_a_controlnet_or_with_another_says_so(
    engines: Engines, steered: dict[str, FluxEngine]
) -> None:
    files: dict[str, bytes] = {}
    for name, mode, kinds in (("union", None, "several kinds of maps"), ("single", "pose", "one kind of map")):
        with pytest.raises(CheckpointError, match=f"reads {kinds}, and not what CONTROLNET_MODEL of the gateway says"):
            draw(steered[name], asked(picture(64, 64), files, mode), files)
    with pytest.raises(CheckpointError, match="started without CONTROLNET_MODEL"):
        draw(engines[DEV], asked(picture(64, 64), files, None), files)


def test_its_memory_is_counted_and_only_flux_dev_has_it(
    checkpoints: dict[ModelFamily, Path], folders: dict[str, Path]
) -> None:
    without, with_it = (
        check_source(str(checkpoints[DEV]), DEV, device="cpu", add_ons=add_ons)
        for add_ons in (AddOns(), beside(folders["union"], "union"))
    )
    [part] = [one for one in with_it.components if one not in without.components]
    assert part.name == "controlnet"
    assert with_it.memory.peak_bytes - without.memory.peak_bytes == 4 * part.parameters > 0
    schnell = ModelFamily.SCHNELL
    nowhere = AddOns(controlnet=NamedControlNet("nowhere"))
    assert len(check_source(str(checkpoints[schnell]), schnell, device="cpu", add_ons=nowhere).components) == 4


@pytest.mark.parametrize(
    ("name", "words", "change", "problem"),
    [
        ("union", "", {}, "reads several kinds of maps: add kind=union behind its name"),
        ("union", " kind=union", {"num_mode": 5}, "tensors of a wrong shape: controlnet_mode_embedder"),
        ("single", " kind=union", {}, r"kind=union does not fit: it reads one kind of map"),
        ("single", "", {"_class_name": "SD3ControlNetModel"}, "describes a SD3ControlNetModel, not a FluxControlNet"),
        ("single", "", {"num_layers": 2}, "controlnet lacks "),
        ("single", "", {"axes_dims_rope": [8, 4, 4]}, r"of another model: axes_dims_rope is \[8, 4, 4\], and that of"),
        ("single", "", {"joint_attention_dim": 16}, "tensors of a wrong shape: context_embedder"),
    ],
)
def test_what_does_not_fit_is_refused_before_weights_are_read(
    checkpoints: dict[ModelFamily, Path],
    folders: dict[str, Path],
    tmp_path: Path,
    name: str,
    words: str,
    change: dict[str, Any],
    problem: str,
) -> None:
    folder = Path(shutil.copytree(folders[name], tmp_path / "copy"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    add_ons = AddOns(controlnet=NamedControlNet.parse(f"{folder}{words}"))
    with pytest.raises(CheckpointError, match=problem) as refused:
        check_source(str(checkpoints[DEV]), DEV, device="cpu", add_ons=add_ons)
    assert str(refused.value).startswith(f"ControlNet {folder}: ")


def test_what_is_no_controlnet_is_named(checkpoints: dict[ModelFamily, Path], folders: dict[str, Path]) -> None:
    model = checkpoints[DEV]
    file = folders["single"] / "diffusion_pytorch_model.safetensors"
    for place, problem in (
        (model, r"a whole model \(FluxPipeline\), not a ControlNet"),
        (model / "vae", "an autoencoder, not a ControlNet"),
        (model / "transformer", r"a FLUX\.1 dev transformer, not a ControlNet"),
        (file, r"a file \(a ControlNet\): a ControlNet is a folder with config\.json and its weights"),
        ("./nowhere/at/all", "neither a folder nor a Hugging Face id"),
    ):
        add_ons = AddOns(controlnet=NamedControlNet(str(place)))
        with pytest.raises(CheckpointError, match=problem):
            check_source(str(model), DEV, device="cpu", add_ons=add_ons)
        with pytest.raises(CheckpointError, match=problem):
            refuse_unloadable_add_ons(add_ons, str(model), DEV)
        refuse_unloadable_add_ons(add_ons, str(model), ModelFamily.SCHNELL)
    refuse_unloadable_add_ons(AddOns(controlnet=NamedControlNet(str(folders["single"]))), str(model), DEV)
