"""The engine on a CUDA device, in bfloat16."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from flux_endpoint.core.catalog import FLUX_DEV, ModelFamily
from flux_endpoint.engine.factory import build_engines, check_source
from flux_endpoint.engine.protocol import Engine, finish
from tests.engine.conftest import draw, make_request

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.fixture(scope="module")
def cuda_engine(checkpoints: dict[ModelFamily, Path]) -> Engine:
    sources = {FLUX_DEV.endpoint_id: str(checkpoints[ModelFamily.DEV])}
    engine = build_engines(sources, {FLUX_DEV.endpoint_id: FLUX_DEV}, device="cuda")[FLUX_DEV.endpoint_id]
    engine.load()
    return engine


def test_same_request_same_bytes_with_another_picture_between_its_steps(cuda_engine: Engine) -> None:
    request = make_request(negative_prompt="night")
    alone = draw(cuda_engine, request).data
    disturbed = cuda_engine.generate(request)
    next(disturbed)
    draw(cuda_engine, make_request(seed=8, width=80))
    assert finish(disturbed).data == alone


def test_the_picture_is_nearly_the_cpus(cuda_engine: Engine, engines: dict[ModelFamily, Engine]) -> None:
    pictures = [draw(engine, make_request()).data for engine in (cuda_engine, engines[ModelFamily.DEV])]
    cuda, cpu = (np.asarray(Image.open(io.BytesIO(data))).astype(int) for data in pictures)
    assert np.abs(cuda - cpu).mean() < 8


def test_the_check_asks_the_device_for_its_memory(checkpoints: dict[ModelFamily, Path]) -> None:
    report = check_source(str(checkpoints[ModelFamily.DEV]), ModelFamily.DEV, device="cuda")
    on_cpu = check_source(str(checkpoints[ModelFamily.DEV]), ModelFamily.DEV, device="cpu")
    assert 2 * report.memory.peak_bytes == on_cpu.memory.peak_bytes


def test_closing_frees_the_memory(checkpoints: dict[ModelFamily, Path]) -> None:
    before = torch.cuda.memory_allocated()
    sources = {FLUX_DEV.endpoint_id: str(checkpoints[ModelFamily.DEV])}
    engine = build_engines(sources, {FLUX_DEV.endpoint_id: FLUX_DEV}, device="cuda")[FLUX_DEV.endpoint_id]
    engine.load()
    assert torch.cuda.memory_allocated() > before
    engine.close()
    assert torch.cuda.memory_allocated() == before
