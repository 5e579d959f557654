"""Control LoRAs: merged into dev they are a Canny or Depth model, bit for bit in float32 on the CPU."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import FluxControlPipeline, FluxTransformer2DModel
from diffusers.loaders.lora_conversion_utils import swap_scale_shift
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from PIL import Image
from safetensors.torch import load_file

from flux_endpoint.core.acceleration import Acceleration
from flux_endpoint.core.catalog import FLUX_CANNY, FLUX_DEPTH, ModelFamily
from flux_endpoint.core.errors import CheckpointError
from flux_endpoint.core.marks import parameters_in
from flux_endpoint.engine.detect import Component, detect
from flux_endpoint.engine.engine import FluxEngine
from flux_endpoint.engine.headers import read_header
from flux_endpoint.engine.identify import refuse_unloadable
from flux_endpoint.engine.memory_plan import MemoryMode, Placement
from flux_endpoint.engine.protocol import finish
from flux_endpoint.engine.sources import parse_source
from flux_endpoint.engine.weights import check_checkpoint, check_source, load_component
from tests.engine.checkpoints import build_checkpoint
from tests.engine.conftest import make_request, open_engine
from tests.engine.control_lora_files import FINAL, Control, random_control, write_merged
from tests.engine.lora_files import Tensors, save
from tests.engine.single_files import in_original_names
from tests.engine.test_drafts import in_two_goes
from tests.engine.test_editing import draw, kept, picture
from tests.engine.test_kontext_and_fill import drawn_by

CANNY, DEPTH = ModelFamily.CANNY, ModelFamily.DEPTH
CPU = torch.device("cpu")
LAYOUTS = {"diffusers": Control.in_diffusers_names, "original": Control.in_original_names}
LORA = "flux1-canny-dev-lora.safetensors"
FIRST, WIDE = "transformer.x_embedder", "transformer.single_transformer_blocks.0.proj_mlp"


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_checkpoint(tmp_path_factory.mktemp("dev") / "FLUX.1-dev", ModelFamily.DEV, 5)


@pytest.fixture(scope="module")
def control() -> Control:
    return random_control()


@pytest.fixture(scope="module")
def loras(control: Control, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("loras")
    return {name: save(write(control), root / name / LORA) for name, write in LAYOUTS.items()}


@pytest.fixture(scope="module")
def expected(dev: Path, control: Control) -> Tensors:
    return control.merged_into(FluxTransformer2DModel.from_pretrained(dev / "transformer").state_dict())


@pytest.fixture(scope="module")
def engine(dev: Path, loras: dict[str, Path]) -> Iterator[FluxEngine]:
    engine = open_engine(f"{dev} lora={loras['original']}", FLUX_CANNY)
    yield engine
    engine.close()


def merged(text: str, placement: Placement) -> Tensors:
    """The weights of a transformer as it is loaded."""
    checkpoint = check_checkpoint(parse_source(text), CANNY, download=False)
    transformer = load_component(checkpoint.components[Component.TRANSFORMER], CPU, placement)
    assert isinstance(transformer, FluxTransformer2DModel)
    assert (transformer.config.in_channels, transformer.out_channels) == (32, 16)
    return dict(transformer.state_dict())


@pytest.fixture(scope="module")
def original_dev(dev: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same model, whose transformer has the names of Black Forest Labs."""
    tensors = FluxTransformer2DModel.from_pretrained(dev / "transformer", dtype=torch.bfloat16).state_dict()
    folder = tmp_path_factory.mktemp("original") / "transformer"
    file = save(in_original_names(Component.TRANSFORMER, tensors), folder / "flux1-dev.safetensors")
    shutil.copy(dev / "transformer/config.json", folder)
    return f"{dev} transformer={file}"


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("is_original", [False, True])
def test_weights_are_the_sum_in_float32(
    dev: Path, original_dev: str, loras: dict[str, Path], expected: Tensors, layout: str, *, is_original: bool
) -> None:
    text = f"{original_dev if is_original else dev} lora={loras[layout]}"
    found = merged(text, Placement(MemoryMode.FULL, "float32"))
    assert found.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(found[name], expected[name])] == []


def test_in_lower_precision_the_sum_is_made_first(dev: Path, loras: dict[str, Path], expected: Tensors) -> None:
    stored = frozenset({"transformer"})
    found = merged(f"{dev} lora={loras['original']}", Placement(MemoryMode.LOW, "bfloat16", stored=stored))
    assert [name for name in expected if not torch.equal(found[name], expected[name].bfloat16())] == []


def test_halves_of_the_last_layer_change_places_as_in_diffusers(control: Control) -> None:
    up = control.in_original_names()[f"{FINAL}.lora_B.weight"]
    assert torch.equal(swap_scale_shift(up), control.changes["norm_out.linear"].up)


def test_what_a_file_says_of_its_strength_counts(
    dev: Path, control: Control, expected: Tensors, tmp_path: Path
) -> None:
    config = '{"transformer.r": 2, "transformer.lora_alpha": 4, "transformer.lora_bias": true}'
    tensors = {
        name: tensor / 2 if ".lora_B." in name else tensor for name, tensor in control.in_diffusers_names().items()
    }
    file = save(tensors, tmp_path / LORA, {"lora_adapter_metadata": config})
    found = merged(f"{dev} lora={file}", Placement(MemoryMode.FULL, "float32"))
    assert [name for name in expected if not torch.equal(found[name], expected[name])] == []


@pytest.mark.parametrize(("width", "height"), [(64, 64), (96, 48)])
def test_pixels_equal_the_control_pipelines(
    dev: Path,
    control: Control,
    engine: FluxEngine,
    width: int,
    height: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The pipeline draws the map that it reads by lot, and we take the likeliest.
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda latents, generator=None: latents.mode())
    files: dict[str, bytes] = {}
    edges = picture(width, height)
    request = make_request(width=width, height=height, guidance=30.0, control_image=kept(edges, files))
    whole = write_merged(dev, tmp_path / "whole", control)
    theirs = drawn_by(FluxControlPipeline, whole, request, control_image=Image.fromarray(edges))
    assert np.array_equal(draw(engine, request, files), theirs)


def test_drafts_and_faster_levels_are_those_of_a_whole_canny(engine: FluxEngine) -> None:
    files: dict[str, bytes] = {}
    request = make_request(num_inference_steps=4, control_image=kept(picture(64, 64), files))
    made = finish(engine.generate(request, files))
    assert in_two_goes(engine, request, 2, files) == made
    assert parameters_in(made.data)["model"] == "FLUX.1-dev + flux1-canny-dev-lora"
    fast = make_request(acceleration=Acceleration.HIGH, control_image=request.control_image)
    assert finish(engine.generate(fast, files)).acceleration is Acceleration.HIGH


def test_the_check_says_what_it_is_and_counts_the_wider_layer(
    dev: Path, loras: dict[str, Path], tmp_path: Path, control: Control
) -> None:
    report = check_source(f"{dev} lora={loras['original']}", CANNY, device=CPU, download=False)
    whole = check_source(
        f"{write_merged(dev, tmp_path / 'canny', control)} kind=canny", CANNY, device=CPU, download=False
    )
    (ours,), (theirs,) = ([one for one in each.components if one.name == "transformer"] for each in (report, whole))
    assert (report.family, report.variant, ours.parameters) == (CANNY, "canny", theirs.parameters)
    assert ours.kind.endswith(f", with the control LoRA {LORA}")
    assert report.memory.peak_bytes == whole.memory.peak_bytes
    assert detect(read_header(loras["original"])).text == "a control LoRA (lora=FILE behind a FLUX.1 dev)"
    assert detect(read_header(loras["diffusers"])).text == "a control LoRA (lora=FILE behind a FLUX.1 dev)"


@pytest.mark.parametrize(
    ("called", "words", "family", "problem"),
    [
        (LORA, "", CANNY, ""),
        (LORA, "", DEPTH, r"by the name flux1-canny-dev-lora\.safetensors this is FLUX\.1 Canny and not"),
        (LORA, "kind=depth", DEPTH, ""),
        ("mine.safetensors", "", CANNY, r"nothing says that this is FLUX\.1 Canny \(kind=canny does\)"),
        (LORA, "", ModelFamily.DEV, r"lora= takes a control LoRA, for FLUX_ENDPOINT_CANNY_MODEL and"),
        (LORA, "", ModelFamily.FILL, r"lora= takes a control LoRA, for FLUX_ENDPOINT_CANNY_MODEL and"),
    ],
)
def test_edges_or_distances_the_name_of_the_lora_tells(
    dev: Path, loras: dict[str, Path], tmp_path: Path, called: str, words: str, family: ModelFamily, problem: str
) -> None:
    (tmp_path / called).symlink_to(loras["original"])
    text = f"{dev} lora={tmp_path / called} {words}".strip()
    if not problem:
        refuse_unloadable(text, family)
        return
    with pytest.raises(CheckpointError, match=problem):
        refuse_unloadable(text, family)


def test_depth_is_made_of_a_depth_lora(dev: Path, loras: dict[str, Path], engine: FluxEngine, tmp_path: Path) -> None:
    files: dict[str, bytes] = {}
    request = make_request(control_image=kept(picture(64, 64), files))
    file = shutil.copy(loras["original"], tmp_path / "flux1-depth-dev-lora.safetensors")
    depth = open_engine(f"{dev} lora={file}", FLUX_DEPTH)
    try:
        assert np.array_equal(draw(depth, request, files), draw(engine, request, files))
    finally:
        depth.close()


def narrow(tensors: Tensors) -> Tensors:
    return tensors | {f"{FIRST}.lora_A.weight": tensors[f"{FIRST}.lora_A.weight"][:, :16]}


def of_another_size(tensors: Tensors) -> Tensors:
    return tensors | {f"{WIDE}.lora_B.weight": torch.ones(64, 2), f"{WIDE}.lora_B.bias": torch.ones(64)}


def of_more_blocks(tensors: Tensors) -> Tensors:
    more = {name.replace("_blocks.0.", "_blocks.7."): tensor for name, tensor in tensors.items()}
    return tensors | more


DAMAGE: dict[str, tuple[Callable[[Tensors], Tensors], str]] = {
    "narrow": (narrow, r"is no control LoRA: it adds no inputs for a map; LoRAs that requests name lie in"),
    "without the first layer": (
        lambda tensors: {name: tensor for name, tensor in tensors.items() if "x_embedder" not in name},
        r"is no control LoRA: it does not change the layer that reads a map \(x_embedder\)",
    ),
    "as of Fill": (
        lambda tensors: tensors | {f"{FIRST}.lora_A.weight": torch.ones(2, 288)},
        r"is made for another model: it reads 288 numbers a token, and this one reads 32 with a map",
    ),
    "another size": (of_another_size, r"it changes 64 x 32 numbers of .*proj_mlp\.weight, which has 128 x 32 here"),
    "more blocks": (of_more_blocks, r"is made for another model: this one has no .*_blocks\.7\."),
    "another rank": (
        lambda tensors: tensors | {f"{WIDE}.lora_A.weight": torch.ones(3, 32)},
        r"up and down of .*proj_mlp do not fit: \(128, 2\), \(3, 32\)",
    ),
    "a short bias": (
        lambda tensors: tensors | {f"{WIDE}.lora_B.bias": torch.ones(3)},
        r"proj_mlp\.lora_B\.bias has the shape \(3,\), and its layer has 128 rows",
    ),
    "a bias alone": (
        lambda tensors: {name: tensor for name, tensor in tensors.items() if not name.startswith(f"{WIDE}.lora_A")}
        | {"transformer.other.lora_B.bias": torch.ones(3)},
        r"is incomplete",
    ),
    "a bias of no layer": (
        lambda tensors: tensors | {"transformer.other.lora_B.bias": torch.ones(3)},
        r"is incomplete: 1 biases have no weights: transformer\.other",
    ),
    "a bias of the other half": (
        lambda tensors: tensors | {f"{WIDE}.lora_A.bias": torch.ones(2)},
        r"changes biases, which is not applied here .*proj_mlp\.lora_A\.bias",
    ),
    "a long gain": (
        lambda tensors: tensors | {"transformer.transformer_blocks.0.attn.norm_q.weight": torch.ones(8)},
        r"it changes 8 numbers of transformer_blocks\.0\.attn\.norm_q\.weight, which has 16 here",
    ),
    "a gain that is no row": (
        lambda tensors: tensors | {"transformer.transformer_blocks.0.attn.norm_q.weight": torch.ones(4, 4)},
        r"norm_q\.weight is F32 of the shape \(4, 4\), not a plain row",
    ),
    "a gain twice": (
        lambda tensors: tensors | {"transformer_blocks.0.attn.norm_q.weight": torch.ones(16)},
        r"replaces transformer_blocks\.0\.attn\.norm_q twice",
    ),
    "a tensor that no LoRA has": (
        lambda tensors: tensors | {"transformer.x_embedder.more": torch.ones(3)},
        r"holds 1 tensors that no LoRA has: transformer\.x_embedder\.more",
    ),
    "a text encoder": (
        lambda tensors: tensors
        | {f"text_encoder.encoder.layers.0.mlp.fc1.lora_{one}.weight": torch.ones(1, 1) for one in "AB"},
        r"is no control LoRA: it changes a text encoder",
    ),
    "a LoKr": (
        lambda tensors: {name: tensor for name, tensor in tensors.items() if not name.startswith(WIDE)}
        | {f"{WIDE}.lokr_{one}": torch.ones(2, 2) for one in ("w1", "w2")},
        r"is no control LoRA: .*proj_mlp is a LoKr",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", DAMAGE)
def test_what_is_not_wholly_understood_is_refused(dev: Path, control: Control, tmp_path: Path, what: str) -> None:
    change, problem = DAMAGE[what]
    file = save(change(control.in_diffusers_names()), tmp_path / LORA)
    with pytest.raises(CheckpointError, match=problem):
        check_source(f"{dev} lora={file}", CANNY, device=CPU, download=False)


def test_it_is_merged_into_dev_alone(loras: dict[str, Path], dev: Path, tmp_path: Path) -> None:
    lora = loras["original"]
    schnell = build_checkpoint(tmp_path / "FLUX.1-schnell", ModelFamily.SCHNELL)
    with pytest.raises(CheckpointError, match=rf"this is a schnell checkpoint .*, and {LORA} is merged into dev"):
        check_source(f"{schnell} lora={lora}", CANNY, device=CPU, download=False)
    (tmp_path / "FLUX.1-Kontext-dev").symlink_to(dev)
    with pytest.raises(
        CheckpointError, match=r"this is FLUX\.1 Kontext, and a control LoRA is merged into FLUX\.1 dev"
    ):
        check_source(f"{tmp_path / 'FLUX.1-Kontext-dev'} lora={lora}", CANNY, device=CPU, download=False)
    with pytest.raises(CheckpointError, match=r"nowhere: no such file; lora= takes a file on this machine"):
        parse_source(f"{dev} lora={tmp_path / 'nowhere'}")


def test_packed_weights_take_no_lora(original_dev: str, loras: dict[str, Path], tmp_path: Path) -> None:
    file = Path(original_dev.split("transformer=")[1])
    tensors = load_file(file)
    packed = {
        name: tensor.to(torch.float8_e4m3fn) if name.endswith("qkv.weight") else tensor
        for name, tensor in tensors.items()
    }
    (tmp_path / "transformer").mkdir()
    shutil.copy(file.parent / "config.json", tmp_path / "transformer")
    other = save(packed, tmp_path / "transformer" / "fp8.safetensors")
    text = f"{original_dev.split(' ')[0]} transformer={other} lora={loras['original']}"
    with pytest.raises(CheckpointError, match=r"qkv\.weight is stored as F8_E4M3: take FLUX\.1 dev in bf16, fp16"):
        check_source(text, CANNY, device=CPU, download=False)


def test_a_number_that_is_none_is_found_in_the_lora(dev: Path, control: Control, tmp_path: Path) -> None:
    bias = torch.full((128,), torch.nan)
    file = save(control.in_diffusers_names() | {f"{WIDE}.lora_B.bias": bias}, tmp_path / LORA)
    with pytest.raises(CheckpointError, match=rf"{LORA}: .*proj_mlp\.lora_B\.bias holds numbers that are NaN"):
        merged(f"{dev} lora={file}", Placement(MemoryMode.FULL, "float32"))
