"""The component of `factory.py` that needs torch."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from flux_endpoint.core.catalog import ModelFamily, ModelSpec
from flux_endpoint.core.errors import CheckpointError
from flux_endpoint.engine import weights
from flux_endpoint.engine.add_ons import AddOns
from flux_endpoint.engine.engine import FluxEngine
from flux_endpoint.engine.lora.cache import LoraCache
from flux_endpoint.engine.parameters import FileRules
from flux_endpoint.engine.report import CheckReport
from flux_endpoint.engine.sharing import SharedComponents
from flux_endpoint.engine.sources import SourceKind, list_local_models, parse_source, with_add_ons
from flux_endpoint.engine.step_estimate import measured_operations_per_s
from flux_endpoint.files.kept_loras import KeptLoras
from flux_endpoint.files.lora_shelf import shelf_of

__all__ = ["build_flux_engines", "check_source", "choose_device", "list_local_models"]


def build_flux_engines(
    sources: Mapping[str, str],
    catalog: Mapping[str, ModelSpec],
    *,
    device: str | None,
    threads: int | None,
    memory: str,
    add_ons: AddOns,
    rules: FileRules,
    lora_dir: Path | None,
    lora_cache_bytes: int,
    kept_loras: KeptLoras | None,
) -> dict[str, FluxEngine]:
    """Make engines of torch; see `factory.build_engines`, which calls this for what is no fake.

    Raises:
        CheckpointError: a source or the device does not exist.
    """
    chosen, shared = choose_device(device), SharedComponents()
    engines = {}
    for endpoint_id, text in sources.items():
        source = with_add_ons(parse_source(text), catalog[endpoint_id].family, add_ons)
        shelf = shelf_of(lora_dir, is_embedded=source.kind is SourceKind.DEMO, kept=kept_loras)
        loras = LoraCache(shelf, lora_cache_bytes)
        engines[endpoint_id] = FluxEngine(
            catalog[endpoint_id], source, chosen, threads, memory=memory, shared=shared, rules=rules, loras=loras
        )
    return engines


def check_source(
    text: str, family: ModelFamily, *, device: str | None, download: bool, memory: str, add_ons: AddOns
) -> CheckReport:
    """Check that a model could be loaded, reading no weights; see `factory.check_source`.

    Raises:
        CheckpointError: it could not; in one line.
    """
    chosen = choose_device(device)
    report = weights.check_source(text, family, device=chosen, download=download, memory=memory, add_ons=add_ons)
    dtype = weights.dtype_named(report.memory.placement.dtype)
    return replace(report, operations_per_s=measured_operations_per_s(chosen, dtype))


def choose_device(name: str | None) -> torch.device:
    """The device to run on.

    Args:
        name: `cpu`, `cuda` or `cuda:1`; None takes CUDA where there is one.

    Raises:
        CheckpointError: there is no such device here.
    """
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type == "cpu":
        return device
    if device.type == "cuda" and (device.index or 0) < torch.cuda.device_count():
        return device
    raise CheckpointError(f"Device {name}: there is none; use cpu, or cuda where a CUDA device and driver are")
