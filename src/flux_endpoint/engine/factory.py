"""Makes engines and checks models; importing it does not import torch."""

import gc
import importlib
from collections.abc import Mapping
from types import ModuleType

from flux_endpoint.core.catalog import ModelFamily, ModelSpec
from flux_endpoint.core.errors import CheckpointError
from flux_endpoint.engine.fake import FakeEngine
from flux_endpoint.engine.protocol import Engine
from flux_endpoint.engine.report import CheckReport, LocalModel

_FAKE = "fake"


def build_engines(
    sources: Mapping[str, str],
    catalog: Mapping[str, ModelSpec],
    *,
    device: str | None = None,
    threads: int | None = None,
) -> dict[str, Engine]:
    """Make one engine per endpoint, in the order of `sources`; nothing is read or downloaded before `load`.

    Every engine loads weights of its own, also where two endpoints have the same source.

    Args:
        sources: endpoint id to model: `demo`, a Hugging Face id, a folder in the layout of diffusers, a
            `.safetensors` file of the transformer, `fake`, or `fake:0.02` for 20 ms a step.
        catalog: limits and families by endpoint id.
        device: `cpu`, `cuda` or `cuda:1`; None takes CUDA where there is one.
        threads: CPU threads of torch, for the whole process; None leaves torch's own choice, one per core.

    Raises:
        CheckpointError: a source or the device does not exist.
    """
    real = {endpoint_id: source for endpoint_id, source in sources.items() if not _is_fake(source)}
    engines: dict[str, Engine] = {
        endpoint_id: FakeEngine(catalog[endpoint_id], _step_s(source))
        for endpoint_id, source in sources.items()
        if _is_fake(source)
    }
    if real:
        engines |= _torch_side().build_flux_engines(real, catalog, device=device, threads=threads)
    return {endpoint_id: engines[endpoint_id] for endpoint_id in sources}


def check_source(source: str, family: ModelFamily, *, device: str | None = None, download: bool = False) -> CheckReport:
    """Check that a model could be loaded, reading no weights.

    Args:
        source: as in `build_engines`, but not `fake`.
        family: which the endpoint needs.
        device: where it would run; None takes CUDA where there is one.
        download: whether missing files are fetched from the Hugging Face hub first.

    Raises:
        CheckpointError: it could not; the text is one line that says why.
    """
    report: CheckReport = _torch_side().check_source(source, family, device=device, download=download)
    return report


def list_local_models() -> list[LocalModel]:
    """The embedded model, and FLUX repositories that were downloaded before."""
    models: list[LocalModel] = _torch_side().list_local_models()
    return models


def _torch_side() -> ModuleType:
    was_enabled = gc.isenabled()
    # The import makes very many objects that all stay: looking for garbage among them takes 0.7 of its 4 seconds.
    gc.disable()
    try:
        # torch takes seconds to import and is not installed beside a gateway, which must be able to use `fake`.
        return importlib.import_module("flux_endpoint.engine.flux_factory")
    finally:
        if was_enabled:
            gc.enable()


def _is_fake(source: str) -> bool:
    return source == _FAKE or source.startswith(f"{_FAKE}:")


def _step_s(source: str) -> float:
    _, _, seconds = source.partition(":")
    try:
        step_s = float(seconds or 0)
    except ValueError:
        step_s = -1.0
    if not 0 <= step_s < 3600:
        raise CheckpointError(f"Model {source}: after `fake:` comes the time of a step in seconds, such as fake:0.02")
    return step_s
