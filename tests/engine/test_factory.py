import subprocess
import sys

import pytest

from flux_endpoint.core.catalog import CATALOG, FLUX_DEV, FLUX_SCHNELL
from flux_endpoint.core.errors import CheckpointError
from flux_endpoint.engine.engine import FluxEngine
from flux_endpoint.engine.factory import build_engines
from flux_endpoint.engine.fake import FakeEngine


def test_one_engine_per_endpoint_in_the_order_given() -> None:
    engines = build_engines({FLUX_SCHNELL.endpoint_id: "demo", FLUX_DEV.endpoint_id: "fake"}, CATALOG, device="cpu")
    assert isinstance(engines[FLUX_SCHNELL.endpoint_id], FluxEngine)
    assert isinstance(engines[FLUX_DEV.endpoint_id], FakeEngine)
    assert list(engines) == [FLUX_SCHNELL.endpoint_id, FLUX_DEV.endpoint_id]


def test_nothing_is_read_before_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flux_endpoint.engine.sources.snapshot_download", None)
    engine = build_engines({FLUX_DEV.endpoint_id: "nobody/nothing"}, CATALOG, device="cpu")[FLUX_DEV.endpoint_id]
    assert engine.info.name == "nobody/nothing"


@pytest.mark.parametrize("device", ["tpu", "cuda:99", "mps", "meta", ""])
def test_a_device_that_is_not_there_is_refused(device: str) -> None:
    with pytest.raises(CheckpointError, match=f"Device {device}: there is none"):
        build_engines({FLUX_DEV.endpoint_id: "demo"}, CATALOG, device=device)


def test_a_wrong_source_is_refused_at_once() -> None:
    with pytest.raises(CheckpointError, match="no such folder"):
        build_engines({FLUX_DEV.endpoint_id: "demmo"}, CATALOG, device="cpu")


def test_what_is_slow_to_import_and_not_needed_is_not_imported() -> None:
    program = """
import sys
import flux_endpoint.engine.flux_factory
slow = {"torchvision", "scipy", "pandas", "sklearn", "cv2", "diffusers.pipelines.flux.pipeline_flux"}
slow &= sys.modules.keys()
sys.exit(f"imported {slow}" if slow else 0)
"""
    subprocess.run([sys.executable, "-c", program], check=True)
