import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from flux_endpoint.core.catalog import CATALOG, FLUX_DEV, FLUX_SCHNELL, ModelFamily
from flux_endpoint.core.errors import CheckpointError
from flux_endpoint.engine.engine import FluxEngine
from flux_endpoint.engine.factory import build_engines, name_component, refuse_unloadable
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


def test_looking_at_headers_imports_no_torch(copy_checkpoint: Callable[[ModelFamily], Path]) -> None:
    folder = copy_checkpoint(ModelFamily.DEV)
    program = f"""
import sys
from flux_endpoint.core.catalog import ModelFamily
from flux_endpoint.core.controlnet import NamedControlNet
from flux_endpoint.core.errors import CheckpointError
from flux_endpoint.engine.add_ons import AddOns
from flux_endpoint.engine.factory import name_component, refuse_unloadable, refuse_unloadable_add_ons
refuse_unloadable({str(folder)!r}, ModelFamily.DEV)
try:
    refuse_unloadable_add_ons(AddOns("a/b", NamedControlNet({str(folder)!r})), {str(folder)!r}, ModelFamily.DEV)
except CheckpointError as error:
    assert "a whole model" in str(error)
else:
    sys.exit("not refused")
assert name_component({str(folder / "vae/diffusion_pytorch_model.safetensors")!r})
sys.exit("imported torch" if "torch" in sys.modules else 0)
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_what_is_refused_by_its_headers(copy_checkpoint: Callable[[ModelFamily], Path]) -> None:
    folder = copy_checkpoint(ModelFamily.DEV)
    for source in ("demo", "fake", "black-forest-labs/FLUX.1-dev"):
        refuse_unloadable(source, ModelFamily.SCHNELL)
    with pytest.raises(CheckpointError, match=f"^Model {folder}: this is a dev checkpoint .* needs schnell"):
        refuse_unloadable(str(folder), ModelFamily.SCHNELL)
    shutil.copyfile(folder / "vae/diffusion_pytorch_model.safetensors", folder / "text_encoder/model.safetensors")
    with pytest.raises(CheckpointError, match="text_encoder is an autoencoder, not a CLIP text encoder"):
        refuse_unloadable(str(folder), ModelFamily.DEV)


def test_a_component_says_how_to_use_it(copy_checkpoint: Callable[[ModelFamily], Path]) -> None:
    folder = copy_checkpoint(ModelFamily.DEV)
    file = folder / "vae/diffusion_pytorch_model.safetensors"
    assert name_component(str(file)) == f"an autoencoder, diffusers names, bf16: use it as vae={file}"
    assert name_component(str(folder)) is None
    assert name_component("demo") is None
