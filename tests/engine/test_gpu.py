"""The engine on a CUDA device, in bfloat16."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from flux_endpoint.core.acceleration import Acceleration
from flux_endpoint.core.catalog import FLUX_DEV, ModelFamily
from flux_endpoint.engine.factory import build_engines, check_source
from flux_endpoint.engine.gpu.fp8 import Fp8Linear, device_product
from flux_endpoint.engine.gpu.graphs import CudaRecorder, GraphedPass
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


@pytest.mark.parametrize("level", list(Acceleration))
def test_each_level_repeats_its_bytes_and_is_nearly_exact(cuda_engine: Engine, level: Acceleration) -> None:
    # The first picture of a size is drawn without a CUDA graph, the others with it.
    request = make_request(acceleration=level, width=96, num_inference_steps=10)
    first, *others = [draw(cuda_engine, request) for _ in range(3)]
    assert {other.data for other in others} == {first.data}
    exact = draw(cuda_engine, make_request(width=96, num_inference_steps=10))
    levels, expected = (np.asarray(Image.open(io.BytesIO(image.data))).astype(int) for image in (first, exact))
    assert np.abs(levels - expected).mean() < 8


def test_a_graph_repeats_what_it_has_recorded() -> None:
    device = torch.device("cuda")
    weight = torch.randn(64, 64, device=device)
    graph = GraphedPass(lambda rows: torch.relu(rows @ weight), CudaRecorder(device))
    for seed in range(3):
        rows = torch.randn(32, 64, generator=torch.Generator().manual_seed(seed)).to(device)
        assert torch.equal(graph(rows), torch.relu(rows @ weight))
    assert graph.has_recorded


@pytest.mark.skipif(
    torch.cuda.is_available() and torch.cuda.get_device_capability() < (8, 9), reason="needs a device with fp8"
)
def test_products_in_fp8_are_right_on_this_device() -> None:
    random = torch.Generator().manual_seed(0)
    weight, bias = (torch.randn(*shape, generator=random).to("cuda", torch.bfloat16) for shape in ((512, 3072), (512,)))
    Fp8Linear(weight, bias, device_product).check()
    Fp8Linear(weight, None, device_product).check()


def test_closing_frees_the_memory(checkpoints: dict[ModelFamily, Path]) -> None:
    # cuBLAS keeps memory of its own for each stream.
    torch._C._cuda_clearCublasWorkspaces()
    before = torch.cuda.memory_allocated()
    sources = {FLUX_DEV.endpoint_id: str(checkpoints[ModelFamily.DEV])}
    engine = build_engines(sources, {FLUX_DEV.endpoint_id: FLUX_DEV}, device="cuda")[FLUX_DEV.endpoint_id]
    engine.load()
    assert torch.cuda.memory_allocated() > before
    engine.close()
    torch._C._cuda_clearCublasWorkspaces()
    assert torch.cuda.memory_allocated() == before
