import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from flux_endpoint.core.catalog import FLUX_DEV, FLUX_SCHNELL, ModelFamily, ModelSpec
from flux_endpoint.core.generation import GenerationRequest, ImageFormat
from flux_endpoint.engine.engine import FluxEngine
from flux_endpoint.engine.factory import build_engines
from tests.engine.checkpoints import build_checkpoint

# A second thread on a busy machine makes tiny models many times slower, and can change the last bit.
torch.set_num_threads(1)

SPECS = {ModelFamily.DEV: FLUX_DEV, ModelFamily.SCHNELL: FLUX_SCHNELL}


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


def open_engine(source: Path | str, spec: ModelSpec) -> FluxEngine:
    engine = build_engines({spec.endpoint_id: str(source)}, {spec.endpoint_id: spec}, device="cpu")[spec.endpoint_id]
    assert isinstance(engine, FluxEngine)
    engine.load()
    return engine


def make_request(**changes: object) -> GenerationRequest:
    fields: dict = {
        "prompt": "a serene mountain landscape at sunset",
        "negative_prompt": "",
        "width": 64,
        "height": 64,
        "num_inference_steps": 3,
        "guidance": 3.5,
        "true_cfg_scale": 2.0,
        "seed": 7,
        "image_format": ImageFormat.PNG,
    }
    return GenerationRequest(**(fields | changes))
