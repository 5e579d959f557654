"""A worker as a process: `flux-endpoint worker`."""

import logging
from collections.abc import Mapping

from flux_endpoint.core.catalog import CATALOG, FLUX_DEV, FLUX_SCHNELL
from flux_endpoint.core.errors import CheckpointError, FluxEndpointError, SettingsError
from flux_endpoint.engine.factory import build_engines
from flux_endpoint.engine.protocol import Engine
from flux_endpoint.settings import WorkerSettings
from flux_endpoint.wiring.logs import set_up_logging
from flux_endpoint.wiring.threads import let_threads_sleep, threads_per_worker
from flux_endpoint.worker.process import leave_with_parent, load_engines, new_worker_id, run_worker, tell_unwell

logger = logging.getLogger(__name__)


def work(settings: WorkerSettings, *, exit_with_parent: bool) -> None:
    """Load the models, then take jobs until SIGTERM or SIGINT.

    Args:
        settings: of the worker.
        exit_with_parent: leave when standard input ends, which is a pipe from the parent.

    Raises:
        SettingsError: no token, or an endpoint without a model.
        CheckpointError: a model cannot be loaded here.
        Unauthenticated: the token is wrong.
    """
    set_up_logging(settings.log_level, "worker")
    if exit_with_parent:
        leave_with_parent()
    if settings.worker_token is None:
        raise SettingsError("setting FLUX_ENDPOINT_WORKER_TOKEN (option --token) is missing; see DATA_DIR/worker-token")
    let_threads_sleep()
    token, worker_id = settings.worker_token.get_secret_value(), settings.worker_id or new_worker_id()
    sources = _sources(settings)
    try:
        engines = _load(settings, sources)
    except CheckpointError as error:
        tell_unwell(settings.gateway, token, worker_id, list(sources), str(error))
        raise
    run_worker(settings.gateway, token, worker_id, engines)


def _load(settings: WorkerSettings, sources: Mapping[str, str]) -> Mapping[str, Engine]:
    try:
        threads = settings.threads or threads_per_worker(1)
        engines = build_engines(sources, CATALOG, device=settings.device, threads=threads)
        load_engines(engines)
    except (FluxEndpointError, MemoryError) as error:
        raise CheckpointError(str(error) or "this machine has not enough memory for the model") from error
    except Exception as error:
        # Whatever it is, it would come again: nobody shall start this worker anew and anew.
        logger.debug("the model cannot be loaded", exc_info=True)
        raise CheckpointError(f"the model cannot be loaded: {type(error).__name__}: {error}") from error
    return engines


def _sources(settings: WorkerSettings) -> Mapping[str, str]:
    given = {FLUX_DEV.endpoint_id: settings.model, FLUX_SCHNELL.endpoint_id: settings.schnell_source}
    sources = {endpoint_id: source for endpoint_id, source in given.items() if source is not None}
    if settings.endpoints is None:
        return sources
    wanted = settings.endpoints.split(",")
    for endpoint_id in wanted:
        if endpoint_id not in sources:
            raise SettingsError(f"no model for the endpoint '{endpoint_id}'; there are {', '.join(sources)}")
    return {endpoint_id: sources[endpoint_id] for endpoint_id in wanted}
