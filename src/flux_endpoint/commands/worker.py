"""`flux-endpoint worker`: one more worker for a server."""

import logging
from collections.abc import Mapping
from typing import Annotated

import typer

from flux_endpoint.commands.model_choice import add_ons_of
from flux_endpoint.commands.options import with_settings
from flux_endpoint.core.catalog import CATALOG
from flux_endpoint.core.errors import CheckpointError, FluxEndpointError, SettingsError
from flux_endpoint.engine.factory import build_engines
from flux_endpoint.engine.protocol import Engine
from flux_endpoint.settings import WorkerSettings
from flux_endpoint.wiring.file_rules import file_rules
from flux_endpoint.wiring.logs import set_up_logging
from flux_endpoint.wiring.loras import kept_by_worker
from flux_endpoint.wiring.threads import let_threads_sleep, threads_per_worker
from flux_endpoint.wiring.tracing import make_tracer

logger = logging.getLogger(__name__)


@with_settings(WorkerSettings)
def worker(
    *,
    settings: WorkerSettings,
    exit_with_parent: Annotated[bool, typer.Option("--exit-with-parent", hidden=True)] = False,
) -> None:
    """Join a server with one more worker, from this machine or any other that can reach it.

    The token is in the server's `DATA_DIR/worker-token`. Better in the environment than as an option: other users
    of a machine can read the arguments of your processes.

    Example:
    - `FLUX_ENDPOINT_WORKER_TOKEN=fxw_... flux-endpoint worker --gateway https://pictures.example.org`
    """
    from flux_endpoint.worker.process import leave_with_parent, new_worker_id, run_worker, tell_unwell

    set_up_logging(settings.log_level, settings.log_format, "worker")
    if exit_with_parent:
        leave_with_parent()
    if settings.worker_token is None:
        raise SettingsError("setting FLUX_ENDPOINT_WORKER_TOKEN (option --token) is missing; see DATA_DIR/worker-token")
    let_threads_sleep()
    token, worker_id = settings.worker_token.get_secret_value(), settings.worker_id or new_worker_id()
    sources = _sources(settings)
    tracer = make_tracer(settings.otlp_endpoint, "flux-endpoint-worker", worker_id)
    try:
        engines = _load(settings, sources)
    except CheckpointError as error:
        tell_unwell(settings.gateway, token, worker_id, list(sources), str(error))
        raise
    limits = settings.jobs_per_worker, settings.idle_unload_s
    run_worker(settings.gateway, token, worker_id, engines, *limits, tracer, kept_by_worker(settings))


def _load(settings: WorkerSettings, sources: Mapping[str, str]) -> Mapping[str, Engine]:
    from flux_endpoint.worker.process import load_engines

    try:
        threads = settings.threads or threads_per_worker(1)
        engines = build_engines(
            sources,
            CATALOG,
            device=settings.device,
            threads=threads,
            memory=settings.memory,
            add_ons=add_ons_of(settings),
            rules=file_rules(settings),
            lora_dir=settings.lora_dir,
            lora_cache_bytes=settings.lora_cache_bytes,
            kept_loras=kept_by_worker(settings),
        )
        load_engines(engines)
    except (FluxEndpointError, MemoryError) as error:
        raise CheckpointError(str(error) or "this machine has not enough memory for the model") from error
    except Exception as error:
        # Whatever it is, it would come again: nobody shall start this worker anew and anew.
        logger.debug("the model cannot be loaded", exc_info=True)
        raise CheckpointError(f"the model cannot be loaded: {type(error).__name__}: {error}") from error
    return engines


def _sources(settings: WorkerSettings) -> Mapping[str, str]:
    sources = settings.sources
    if settings.endpoints is None:
        return sources
    wanted = settings.endpoints.split(",")
    for endpoint_id in wanted:
        if endpoint_id not in sources:
            raise SettingsError(f"no model for the endpoint '{endpoint_id}'; there are {', '.join(sources)}")
    return {endpoint_id: sources[endpoint_id] for endpoint_id in wanted}
