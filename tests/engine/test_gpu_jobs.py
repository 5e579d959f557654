"""Every kind of job, of file and of memory mode on a CUDA device."""

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from flux_endpoint.core.acceleration import Acceleration
from flux_endpoint.core.catalog import FLUX_DEV, ModelFamily
from flux_endpoint.core.generation import GenerationRequest
from flux_endpoint.core.lora import Lora
from flux_endpoint.core.negative_mode import NegativeMode
from flux_endpoint.engine.detect import Component
from flux_endpoint.engine.engine import FluxEngine
from flux_endpoint.engine.factory import build_engines
from flux_endpoint.engine.memory_plan import MemoryMode
from flux_endpoint.files.lora_shelf import shelf_of
from tests.engine import single_files
from tests.engine.conftest import draw, drawn_beside, make_request
from tests.engine.single_files import in_original_names, save, write_single_files
from tests.engine.test_editing import kept, mask, picture
from tests.engine.test_memory_modes import Shortage
from tests.engine.test_single_files import COMFY

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
DEV = ModelFamily.DEV
# Rounding to bfloat16, which steps add up.
MOST_OFF = 8


def opened(source: Path | str, memory: str) -> FluxEngine:
    sources, catalog = {FLUX_DEV.endpoint_id: str(source)}, {FLUX_DEV.endpoint_id: FLUX_DEV}
    engine = build_engines(sources, catalog, device="cuda", memory=memory)[FLUX_DEV.endpoint_id]
    assert isinstance(engine, FluxEngine)
    engine.load()
    return engine


def pixels(file: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(file))).astype(int)


@pytest.fixture(scope="module")
def embedded_on_gpu() -> Iterator[FluxEngine]:
    engine = opened("demo", "full")
    yield engine
    engine.close()


@pytest.mark.parametrize("mode", list(MemoryMode))
def test_each_memory_mode_draws_nearly_what_the_cpu_draws(
    mode: MemoryMode, checkpoints: dict[ModelFamily, Path], engines: dict[ModelFamily, FluxEngine]
) -> None:
    engine = opened(checkpoints[DEV], mode)
    assert engine.info.memory.startswith(f"{mode} (as MEMORY says; it takes ")
    request = make_request(negative_prompt="night")
    first, second = (draw(engine, request).data for _ in range(2))
    assert first == second
    assert np.abs(pixels(first) - pixels(draw(engines[DEV], request).data)).mean() < MOST_OFF
    fingerprint = engine.info.fingerprint
    engine.release()
    assert engine.info.memory.startswith("unloaded")
    engine.load()
    assert draw(engine, request).data == first
    assert engine.info.fingerprint == fingerprint
    engine.close()


@pytest.mark.parametrize("kind", ["scaled fp8", "Q8_0", "Q4_K"])
@pytest.mark.parametrize("mode", list(MemoryMode))
def test_packed_files_draw_nearly_what_the_cpu_draws_of_them(tmp_path: Path, kind: str, mode: MemoryMode) -> None:
    components = single_files.random_components(DEV)
    original = in_original_names(Component.TRANSFORMER, components[Component.TRANSFORMER])
    if kind == "scaled fp8":
        write_single_files(tmp_path, components, COMFY)
        save(single_files.in_scaled_fp8(original, newer=True)[0], tmp_path / COMFY[Component.TRANSFORMER])
    else:
        others = {component: name for component, name in COMFY.items() if component is not Component.TRANSFORMER}
        write_single_files(tmp_path, components, others)
        single_files.write_gguf(tmp_path / "unet/flux1-dev.gguf", original, kind)
    request, files = make_request(), []
    for device in ("cuda", "cpu"):
        sources = {FLUX_DEV.endpoint_id: str(tmp_path)}
        memory = mode if device == "cuda" else "auto"
        engine = build_engines(sources, {FLUX_DEV.endpoint_id: FLUX_DEV}, device=device, memory=memory)
        one = engine[FLUX_DEV.endpoint_id]
        one.load()
        files.append([draw(one, request).data for _ in range(2)])
        one.close()
    (cuda, again), (cpu, _) = files
    assert cuda == again
    assert np.abs(pixels(cuda) - pixels(cpu)).mean() < MOST_OFF


def test_out_of_memory_is_met_by_the_next_thriftier_mode(checkpoints: dict[ModelFamily, Path]) -> None:
    engine = opened(checkpoints[DEV], "auto")
    assert engine.info.memory.startswith("full")
    request = make_request()
    expected = pixels(draw(engine, request).data)
    # In the attention a negative prompt acts in diffusers' own modules, whatever the ladder has made of the others.
    with Shortage(engine, "full") as shortage:
        assert draw(engine, make_request(negative_prompt="night", negative_mode=NegativeMode.NAG)).data
        assert shortage.refusals == 1
    assert engine.info.memory.startswith("offload (the device ran out of memory in full mode")
    assert np.abs(pixels(draw(engine, request).data) - expected).mean() < MOST_OFF
    engine.close()


def jobs(files: dict[str, bytes]) -> dict[str, GenerationRequest]:
    lora = Lora("screenprint", 0.8, shelf_of(None, is_embedded=True).find("screenprint").sha256)
    size = {"width": 256, "height": 256, "num_inference_steps": 8}
    source, anew = kept(picture(256, 256), files), kept(mask(256, 256), files)
    return {
        "plain": make_request(**size),
        "another size": make_request(**size | {"width": 384}),
        "guided away": make_request(**size, negative_prompt="night"),
        "guided away in the attention": make_request(
            **size, negative_prompt="night", negative_mode=NegativeMode.NAG, true_cfg_scale=5.0
        ),
        "from a picture": make_request(**size, image=source, strength=0.6),
        "inpainted": make_request(**size, image=source, mask=anew, strength=0.9),
        "with a LoRA": make_request(**size, loras=(lora,)),
        **{f"at {level}": make_request(**size, acceleration=level) for level in Acceleration},
    }


def test_each_kind_of_job_is_nearly_the_cpus_and_company_changes_no_byte(
    embedded_on_gpu: FluxEngine, demo_engine: FluxEngine
) -> None:
    files: dict[str, bytes] = {}
    requests = jobs(files)

    def drawing(engine: FluxEngine, request: GenerationRequest) -> bytes:
        return drawn_beside(engine.generate(request, files), iter(()))

    alone = {name: drawing(embedded_on_gpu, request) for name, request in requests.items()}
    for name, request in requests.items():
        disturbing = embedded_on_gpu.generate(requests["another size" if name == "plain" else "plain"], files)
        assert drawn_beside(embedded_on_gpu.generate(request, files), disturbing) == alone[name], name
        exact = drawing(demo_engine, replace(request, acceleration=Acceleration.NONE))
        off = np.abs(pixels(alone[name]) - pixels(exact)).mean()
        assert off < MOST_OFF, f"{name} is {off} off"
    assert len({*alone.values()}) >= len(alone) - 1
