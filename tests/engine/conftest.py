import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline
from safetensors.torch import load_file, save_file

from flux_endpoint.core.catalog import CATALOG, FLUX_DEV, FLUX_SCHNELL, ModelFamily, ModelSpec
from flux_endpoint.core.generation import GenerationRequest
from flux_endpoint.core.image_formats import PNG
from flux_endpoint.engine.engine import FluxEngine
from flux_endpoint.engine.factory import build_engines
from flux_endpoint.engine.protocol import Drawing, EncodedImage, Engine, finish
from flux_endpoint.engine.sources import locate, parse_source
from tests.engine import single_files
from tests.engine.checkpoints import build_checkpoint

# A second thread on a busy machine makes tiny models many times slower, and can change the last bit.
torch.set_num_threads(1)
# Else a warning would fail whichever test comes first, and no other.
torch.set_warn_always(True)

HERE = Path(__file__).parent
SPECS = {ModelFamily.DEV: FLUX_DEV, ModelFamily.SCHNELL: FLUX_SCHNELL}
Change = Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Those of one file on one of the parallel processes, so that what a file writes and loads is made once. Long ones
    # are free to begin first.
    for item in items:
        if HERE in item.path.parents and not item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[ModelFamily, Path]:
    root = tmp_path_factory.mktemp("checkpoints")
    return {family: build_checkpoint(root / f"FLUX.1-{family}", family, seed) for seed, family in enumerate(SPECS)}


@pytest.fixture(scope="session")
def engines(checkpoints: dict[ModelFamily, Path]) -> Iterator[dict[ModelFamily, FluxEngine]]:
    loaded = {family: open_engine(checkpoints[family], SPECS[family]) for family in SPECS}
    yield loaded
    for engine in loaded.values():
        engine.close()


@pytest.fixture(scope="session")
def pipelines(checkpoints: dict[ModelFamily, Path]) -> dict[ModelFamily, FluxPipeline]:
    return {family: open_pipeline(folder) for family, folder in checkpoints.items()}


@pytest.fixture(scope="session")
def demo_engine() -> Iterator[FluxEngine]:
    engine = open_engine("demo", FLUX_DEV)
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def embedded() -> Iterator[Mapping[str, Engine]]:
    """Both models of the package, by endpoint id."""
    loaded = build_engines({spec.endpoint_id: "demo" for spec in SPECS.values()}, CATALOG)
    for engine in loaded.values():
        engine.load()
    yield loaded
    for engine in loaded.values():
        engine.close()


@pytest.fixture(scope="session")
def demo_folder() -> Path:
    return locate(parse_source("demo"), ModelFamily.DEV, download=False).folder


@pytest.fixture
def copy_checkpoint(checkpoints: dict[ModelFamily, Path], tmp_path: Path) -> Callable[[ModelFamily], Path]:
    """Copies a checkpoint for a test that damages it."""

    def copy(family: ModelFamily) -> Path:
        return Path(shutil.copytree(checkpoints[family], tmp_path / f"FLUX.1-{family}"))

    return copy


@pytest.fixture
def rewrite() -> Callable[..., None]:
    return rewrite_file


def rewrite_file(file: Path, change: Change, pad: int = 0) -> None:
    """Change the tensors of a safetensors file; `pad` makes its header that many bytes longer."""
    save_file(change(load_file(file)), file, metadata={"format": "pt", "pad": "x" * pad})


def open_engine(source: Path | str, spec: ModelSpec, memory: str = "auto") -> FluxEngine:
    sources, catalog = {spec.endpoint_id: str(source)}, {spec.endpoint_id: spec}
    engine = build_engines(sources, catalog, device="cpu", memory=memory)[spec.endpoint_id]
    assert isinstance(engine, FluxEngine)
    engine.load()
    return engine


def draw(engine: Engine, request: GenerationRequest) -> EncodedImage:
    return finish(engine.generate(request))


def drawn_beside(ours: Drawing, other: Drawing) -> bytes:
    """The file of a picture each of whose steps comes after one of another picture."""
    while True:
        next(other, None)
        try:
            next(ours)
        except StopIteration as end:
            data: bytes = end.value().data
            return data


def drawn_in_turn(drawings: Iterable[Drawing]) -> list[bytes]:
    """The files of pictures that are drawn together, a slice of each after one of the others."""
    running = dict(enumerate(drawings))
    files: dict[int, bytes] = {}
    while running:
        for number, drawing in list(running.items()):
            try:
                next(drawing)
            except StopIteration as end:
                files[number] = end.value().data
                del running[number]
    return [data for _, data in sorted(files.items())]


def decibel(first: np.ndarray, second: np.ndarray) -> float:
    """The peak signal-to-noise ratio of two pictures of 8 bits."""
    return float(10 * np.log10(255**2 / max(1e-9, ((first - second) ** 2).mean())))


def arguments_of(request: GenerationRequest) -> dict[str, Any]:
    """What diffusers' pipelines are told of a request, beside its prompts and pictures."""
    return {
        "width": request.width,
        "height": request.height,
        "num_inference_steps": request.num_inference_steps,
        "guidance_scale": request.guidance,
        "generator": torch.Generator("cpu").manual_seed(request.seed),
    }


def make_request(**changes: Any) -> GenerationRequest:
    fields: dict[str, Any] = {
        "prompt": "a serene mountain landscape at sunset",
        "negative_prompt": "",
        "width": 64,
        "height": 64,
        "num_inference_steps": 3,
        "guidance": 3.5,
        "true_cfg_scale": 2.0,
        "seed": 7,
        "image_format": PNG,
    }
    return GenerationRequest(**(fields | changes))


def open_pipeline(folder: Path) -> FluxPipeline:
    pipeline = FluxPipeline.from_pretrained(folder, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="session")
def components() -> single_files.Components:
    """Those of a model of random numbers, by family."""
    return {family: single_files.random_components(family) for family in SPECS}
