"""Pictures and checks without a server: `flux-endpoint generate` and `flux-endpoint models`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from flux_endpoint.core.catalog import CATALOG, ModelFamily
from flux_endpoint.core.errors import SettingsError
from flux_endpoint.core.generation import GenerationRequest, parse_input
from flux_endpoint.engine.factory import build_engines, check_source, list_local_models
from flux_endpoint.engine.protocol import EncodedImage, ModelInfo, StepDone
from flux_endpoint.settings import WorkerSettings, is_fake
from flux_endpoint.wiring.threads import let_threads_sleep, threads_per_worker

__all__ = ["Picture", "check_model", "check_request", "draw", "list_local_models"]


@dataclass(frozen=True, slots=True)
class Picture:
    """A finished picture and the model that drew it."""

    image: EncodedImage
    model: ModelInfo


def check_request(family: ModelFamily, fields: Mapping[str, Any]) -> GenerationRequest:
    """Read parameters as the endpoint of a family does.

    Raises:
        InvalidParameter: one is wrong.
    """
    spec = next(spec for spec in CATALOG.values() if spec.family is family)
    return parse_input(fields, spec)


def draw(
    settings: WorkerSettings,
    family: ModelFamily,
    request: GenerationRequest,
    on_loaded: Callable[[ModelInfo], None],
    on_step: Callable[[StepDone], None],
) -> Picture:
    """Load a model and make one picture with it.

    Raises:
        SettingsError: no checkpoint is set for this family.
        CheckpointError: it cannot be loaded here.
    """
    source = settings.model if family is ModelFamily.DEV else settings.schnell_source
    if source is None:
        raise SettingsError("no Flux Schnell checkpoint: set FLUX_ENDPOINT_SCHNELL_MODEL (option --schnell-model)")
    endpoint_id, spec = next((name, spec) for name, spec in CATALOG.items() if spec.family is family)
    let_threads_sleep()
    # As many as `serve` gives its only worker: another number would draw other last bits.
    threads = settings.threads or threads_per_worker(1)
    engine = build_engines({endpoint_id: source}, {endpoint_id: spec}, device=settings.device, threads=threads)[
        endpoint_id
    ]
    engine.load()
    on_loaded(engine.info)
    steps = engine.generate(request)
    try:
        while True:
            on_step(next(steps))
    except StopIteration as end:
        return Picture(end.value, engine.info)
    finally:
        steps.close()
        engine.close()


def check_model(source: str, family: ModelFamily, device: str | None) -> list[tuple[str, str]]:
    """What is known of a checkpoint that could be loaded here, as rows of a table; no weights are read.

    Raises:
        CheckpointError: it could not be loaded; says why.
    """
    if is_fake(source):
        return [("source", source), ("family", family.value), ("note", "no model: flat colours, for tests")]
    report = check_source(source, family, device=device, download=True)
    rows = [
        ("source", report.source),
        ("files", report.location),
        ("family", report.family.value),
        ("device", report.device),
        ("memory needed", f"{report.needed_bytes / 1e9:.2f} GB"),
    ]
    rows += [
        (part.name, f"{part.parameters / 1e6:.1f} M parameters, {part.files} files, {', '.join(part.dtypes)}")
        for part in report.parts
    ]
    return [*rows, ("note", report.notice)] if report.notice else rows
