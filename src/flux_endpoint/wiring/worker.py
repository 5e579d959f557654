"""A worker as a process: `flux-endpoint worker`."""

from collections.abc import Mapping

from flux_endpoint.core.catalog import CATALOG, FLUX_DEV, FLUX_SCHNELL
from flux_endpoint.core.errors import SettingsError
from flux_endpoint.engine.factory import build_engines
from flux_endpoint.settings import WorkerSettings
from flux_endpoint.wiring.logs import set_up_logging
from flux_endpoint.wiring.threads import let_threads_sleep, threads_per_worker
from flux_endpoint.worker.process import leave_with_parent, load_engines, new_worker_id, run_worker


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
    threads = settings.threads or threads_per_worker(1)
    engines = build_engines(_sources(settings), CATALOG, device=settings.device, threads=threads)
    load_engines(engines)
    worker_id = settings.worker_id or new_worker_id()
    run_worker(settings.gateway, settings.worker_token.get_secret_value(), worker_id, engines)


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
