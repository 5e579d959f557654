"""Makes engines and checks models; importing it does not import torch."""

import gc
import importlib
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from flux_endpoint.core.catalog import ModelFamily, ModelSpec, is_fake
from flux_endpoint.core.errors import CheckpointError
from flux_endpoint.engine.add_ons import NO_ADD_ONS, AddOns
from flux_endpoint.engine.fake import FakeEngine
from flux_endpoint.engine.memory_plan import AUTO
from flux_endpoint.engine.parameters import DEFAULT_RULES, FileRules
from flux_endpoint.engine.protocol import Engine
from flux_endpoint.engine.report import CheckReport, LocalModel
from flux_endpoint.files.kept_loras import KeptLoras


def build_engines(
    sources: Mapping[str, str],
    catalog: Mapping[str, ModelSpec],
    *,
    device: str | None = None,
    threads: int | None = None,
    memory: str = AUTO,
    add_ons: AddOns = NO_ADD_ONS,
    rules: FileRules = DEFAULT_RULES,
    lora_dir: Path | None = None,
    lora_cache_bytes: int = 0,
    kept_loras: KeptLoras | None = None,
) -> dict[str, Engine]:
    """Make one engine per endpoint, in the order of `sources`; nothing is read or downloaded before `load`.

    Text encoders and autoencoders whose weights are equal are loaded once, transformers never are shared.

    Args:
        sources: endpoint id to model: `demo`, a Hugging Face id, a folder, a file, places of single components (see
            `sources.parse_source`), `fake`, or `fake:0.02` for 20 ms a step.
        catalog: limits and families by endpoint id.
        device: `cpu`, `cuda` or `cuda:1`; None takes CUDA where there is one.
        threads: CPU threads of torch, for the whole process; None leaves torch's own choice, one per core.
        memory: how models are kept: `full`, `offload`, `low`, or `auto`, see `memory_plan.py`.
        add_ons: what is loaded beside those models that can use it.
        rules: of the files that they make.
        lora_dir: folder of the LoRAs that requests may name; None for those alone that come with the embedded model.
        lora_cache_bytes: of LoRAs that each engine keeps in memory beyond those of the picture at hand.
        kept_loras: files of LoRAs that were fetched from elsewhere; None for none.

    Raises:
        CheckpointError: a source or the device does not exist.
    """
    real = {endpoint_id: source for endpoint_id, source in sources.items() if not is_fake(source)}
    engines: dict[str, Engine] = {
        endpoint_id: FakeEngine(catalog[endpoint_id], _step_s(source), rules)
        for endpoint_id, source in sources.items()
        if is_fake(source)
    }
    if real:
        engines |= _torch_side().build_flux_engines(
            real,
            catalog,
            device=device,
            threads=threads,
            memory=memory,
            add_ons=add_ons,
            rules=rules,
            lora_dir=lora_dir,
            lora_cache_bytes=lora_cache_bytes,
            kept_loras=kept_loras,
        )
    return {endpoint_id: engines[endpoint_id] for endpoint_id in sources}


def check_source(
    source: str,
    family: ModelFamily,
    *,
    device: str | None = None,
    download: bool = False,
    memory: str = AUTO,
    add_ons: AddOns = NO_ADD_ONS,
) -> CheckReport:
    """Check that a model could be loaded, reading no weights.

    Args:
        source: as in `build_engines`, but not `fake`.
        family: which the endpoint needs.
        device: where it would run; None takes CUDA where there is one.
        download: whether missing files are fetched from the Hugging Face hub first.
        memory: as in `build_engines`.
        add_ons: as in `build_engines`.

    Raises:
        CheckpointError: it could not; the text is one line that says why.
    """
    report: CheckReport = _torch_side().check_source(
        source, family, device=device, download=download, memory=memory, add_ons=add_ons
    )
    return report


def refuse_unloadable(source: str, family: ModelFamily) -> None:
    """Look at the headers of a model that is on this machine; torch is not imported.

    Args:
        source: as in `build_engines`.
        family: which the endpoint needs.

    Raises:
        CheckpointError: it could not be loaded; the text is one line that says what it is.
    """
    if not is_fake(source):
        _header_side().refuse_unloadable(source, family)


def refuse_unloadable_add_ons(add_ons: AddOns, source: str, family: ModelFamily) -> None:
    """Look at the headers of what is loaded beside a model; torch is not imported.

    Args:
        add_ons: as in `build_engines`.
        source: of the model, as in `build_engines`.
        family: which the endpoint needs.

    Raises:
        CheckpointError: one that is on this machine could not be loaded; the text is one line that says what it is.
    """
    if not is_fake(source) and add_ons != NO_ADD_ONS:
        _header_side("add_on_files").refuse_unloadable_add_ons(add_ons, source, family)


def name_component(source: str) -> str | None:
    """What a file is that holds one component of FLUX.1 and no transformer, and how to use it; None for all else.

    Args:
        source: as in `build_engines`.

    Raises:
        CheckpointError: it is a file, and damaged.
    """
    text: str | None = _header_side().name_component(source)
    return text


def list_local_models() -> list[LocalModel]:
    """The embedded model, and FLUX repositories that were downloaded before."""
    models: list[LocalModel] = _torch_side().list_local_models()
    return models


def _header_side(name: str = "identify") -> ModuleType:
    try:
        return importlib.import_module(f"flux_endpoint.engine.{name}")
    except ModuleNotFoundError as error:
        raise CheckpointError(f"models need the extra `engine`, which is not installed here ({error})") from error


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


def _step_s(source: str) -> float:
    _, _, seconds = source.partition(":")
    try:
        step_s = float(seconds or 0)
    except ValueError:
        step_s = -1.0
    if not 0 <= step_s < 3600:
        raise CheckpointError(f"Model {source}: after `fake:` comes the time of a step in seconds, such as fake:0.02")
    return step_s
