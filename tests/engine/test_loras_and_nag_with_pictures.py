"""LoRAs, and negative prompts in the attention, where the transformer reads a picture beside the noise."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxFillPipeline, FluxKontextPipeline, FluxTransformer2DModel
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from diffusers.models.transformers.transformer_flux import FluxAttnProcessor
from numpy.typing import NDArray
from PIL import Image

from flux_endpoint.core.catalog import FLUX_FILL, FLUX_KONTEXT, ModelFamily, ModelSpec
from flux_endpoint.core.errors import CheckpointError
from flux_endpoint.core.generation import GenerationRequest
from flux_endpoint.core.lora import Lora
from flux_endpoint.core.negative_mode import NegativeMode
from flux_endpoint.engine.engine import FluxEngine
from flux_endpoint.engine.factory import build_engines
from flux_endpoint.engine.lora.adapter import read_adapter
from flux_endpoint.engine.protocol import finish
from flux_endpoint.files.lora_names import Tower
from flux_endpoint.files.lora_shelf import FolderShelf
from tests.engine import lora_files
from tests.engine.checkpoints import TRANSFORMER_CONFIG, build_checkpoint
from tests.engine.conftest import drawn_in_turn, make_request
from tests.engine.lora_files import Change, random_changes
from tests.engine.test_editing import draw, kept, mask, picture

SPECS: Mapping[str, ModelSpec] = {"kontext": FLUX_KONTEXT, "fill": FLUX_FILL}
NAG = {"negative_prompt": "night", "negative_mode": NegativeMode.NAG, "true_cfg_scale": 5.0}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("reading")
    families = {"kontext": ModelFamily.KONTEXT, "fill": ModelFamily.FILL}
    return {name: build_checkpoint(root / f"my-{name}", family, 5) for name, family in families.items()}


@pytest.fixture(scope="module")
def changes() -> dict[str, Change]:
    """Of all layers of a transformer of dev: a LoRA for Fill is one for dev as well."""
    return random_changes(lora_files.linear_sizes(FluxTransformer2DModel(**TRANSFORMER_CONFIG, guidance_embeds=True)))


@pytest.fixture(scope="module")
def lora_dir(tmp_path_factory: pytest.TempPathFactory, changes: dict[str, Change]) -> Path:
    folder = tmp_path_factory.mktemp("loras")
    lora_files.save(lora_files.kohya(changes), folder / "film.safetensors")
    return folder


@pytest.fixture(scope="module")
def engines(folders: dict[str, Path], lora_dir: Path) -> Iterator[dict[str, FluxEngine]]:
    sources = {SPECS[name].endpoint_id: str(folder) for name, folder in folders.items()}
    catalog = {spec.endpoint_id: spec for spec in SPECS.values()}
    loaded = build_engines(sources, catalog, device="cpu", lora_dir=lora_dir)
    for engine in loaded.values():
        engine.load()
    yield {name: loaded[spec.endpoint_id] for name, spec in SPECS.items()}
    for engine in loaded.values():
        engine.close()


@pytest.fixture(scope="module")
def film(lora_dir: Path) -> Lora:
    return Lora("film", 0.5, FolderShelf((lora_dir,)).find("film").sha256)


def request_for(name: str, files: dict[str, bytes], **more: Any) -> GenerationRequest:
    pictures = {"image": kept(picture(64, 64), files)} | ({"mask": kept(mask(64, 64), files)} if name == "fill" else {})
    return make_request(**(pictures | more))


def drawn_by_diffusers(
    name: str, folder: Path, request: GenerationRequest, changes: Mapping[str, Change], scale: float
) -> NDArray[np.int64]:
    """By the pipeline, with W + scale * up @ down for weights; what a layer reads beyond the change stays as it is."""
    kind = FluxKontextPipeline if name == "kontext" else FluxFillPipeline
    pipeline = kind.from_pretrained(folder, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    for module, change in changes.items():
        weight = pipeline.transformer.get_submodule(module).weight.data
        weight[:, : change.dense.shape[1]] += scale * change.dense
    more: dict[str, Any] = {"max_area": 64 * 64, "_auto_resize": False}
    if name == "fill":
        more = {"mask_image": Image.fromarray(mask(64, 64))}
    made = pipeline(
        prompt=request.prompt,
        image=Image.fromarray(picture(64, 64)),
        width=64,
        height=64,
        num_inference_steps=request.num_inference_steps,
        guidance_scale=request.guidance,
        generator=torch.Generator("cpu").manual_seed(request.seed),
        **more,
    )
    return np.asarray(made.images[0]).astype(int)


@pytest.mark.parametrize("name", SPECS)
def test_a_lora_draws_what_the_pipeline_does_with_summed_weights(
    engines: dict[str, FluxEngine],
    folders: dict[str, Path],
    changes: dict[str, Change],
    film: Lora,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # As in test_kontext_and_fill.py.
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda latents, generator=None: latents.mode())
    files: dict[str, bytes] = {}
    request = request_for(name, files)
    expected = drawn_by_diffusers(name, folders[name], request, changes, film.scale)
    anew = mask(64, 64) == 255 if name == "fill" else np.ones((64, 64), bool)
    ours = draw(engines[name], replace(request, loras=(film,)), files)
    assert np.abs(ours[anew] - expected[anew]).max() <= 1
    assert np.abs(draw(engines[name], request, files)[anew] - expected[anew]).max() > 20


def test_a_change_of_other_numbers_than_dev_reads_is_refused(
    engines: dict[str, FluxEngine], changes: dict[str, Change], tmp_path: Path
) -> None:
    first = changes["x_embedder"]
    towers = {Tower.TRANSFORMER: engines["fill"]._loaded()[0].transformer}
    for down in (first.down[:, :-1], torch.cat([first.down, first.down], dim=1)):
        tensors = lora_files.diffusers({"x_embedder": Change(down, first.up)})
        file = lora_files.save(tensors, tmp_path / f"{down.shape[1]}.safetensors")
        with pytest.raises(CheckpointError, match="numbers of x_embedder, which has 32 x 288 here"):
            read_adapter(file, towers, torch.device("cpu"), torch.float32)


@pytest.mark.parametrize("name", SPECS)
def test_each_changes_the_picture_and_company_changes_none(
    engines: dict[str, FluxEngine], film: Lora, name: str
) -> None:
    files: dict[str, bytes] = {}
    plain = request_for(name, files)
    with_nag = replace(plain, **NAG)
    other = replace(with_nag, image=kept(255 - picture(64, 64), files))
    requests = [plain, replace(plain, loras=(film,)), with_nag, replace(with_nag, loras=(film,)), other]
    engine = engines[name]
    alone = [finish(engine.generate(request, files)).data for request in requests]
    assert len({draw(engine, request, files).tobytes() for request in requests}) == len(requests)
    assert drawn_in_turn(engine.generate(request, files) for request in requests) == alone
    processors = engine._loaded()[0].transformer.attn_processors.values()
    assert {type(processor) for processor in processors} == {FluxAttnProcessor}


@pytest.mark.parametrize("name", SPECS)
def test_a_negative_prompt_that_is_the_prompt_pushes_nowhere(engines: dict[str, FluxEngine], name: str) -> None:
    """Also with a picture beside both texts."""
    files: dict[str, bytes] = {}
    plain = request_for(name, files)
    same = replace(plain, **NAG | {"negative_prompt": plain.prompt})
    off = draw(engines[name], same, files).astype(int) - draw(engines[name], plain, files)
    assert np.abs(off).max() <= 1
