"""Picks what starts and stops workers, by the setting FLEET."""

import importlib.util
import os
import sys
from collections.abc import Sequence
from typing import Final

from flux_endpoint.core.errors import SettingsError
from flux_endpoint.core.scaling import ScalingRules
from flux_endpoint.fleet.devices import list_devices
from flux_endpoint.fleet.local import LocalFleet
from flux_endpoint.fleet.protocol import Fleet
from flux_endpoint.fleet.ray_fleet import RayFleet
from flux_endpoint.fleet.ray_messages import DriverSettings
from flux_endpoint.service.own_workers import OwnWorkers
from flux_endpoint.settings import Settings
from flux_endpoint.settings.fields import PREFIX
from flux_endpoint.settings.http import url_host
from flux_endpoint.wiring.threads import threads_per_worker

# Of a cluster on this machine. Workers are no background work: Ray would run them at nice 15. And a server of one's own
# tells nobody else how it is used, unless its owner says so.
_RAY: Final = {"RAY_worker_niceness": "0", "RAY_USAGE_STATS_ENABLED": "0"}


class _Reports:
    """Hands what a fleet tells of its workers on to the service that knows all workers; implements `WorkerEvents`."""

    def __init__(self, workers: OwnWorkers, endpoint_ids: Sequence[str]) -> None:
        self._workers = workers
        self._endpoint_ids = endpoint_ids
        self.leaves = workers.dismiss
        self.left = workers.dismissed
        self.refused = workers.refused

    async def starts(self, worker_id: str, reason: str) -> None:
        """See `WorkerEvents.starts`."""
        await self._workers.expect(worker_id, self._endpoint_ids, reason)

    async def lost(self, worker_id: str) -> None:
        """See `WorkerEvents.lost`."""
        await self._workers.lost(worker_id)


def make_fleet(
    settings: Settings, worker_token: str, port: int, node: str, own: OwnWorkers
) -> tuple[Fleet, ScalingRules]:
    """The fleet of a gateway, of which nothing is started yet, and how many workers it may keep.

    Args:
        settings: of the gateway.
        worker_token: the secret with which workers join.
        port: where the gateway listens.
        node: starts all worker ids.
        own: told what becomes of the workers.

    Raises:
        SettingsError: FLEET is 'ray', and Ray is not installed.
    """
    is_local = settings.fleet == "local" and settings.keeps_workers
    # Where DEVICE names one GPU, all workers share that.
    devices = list_devices(os.environ) if is_local and settings.device in (None, "cuda") else ()
    rules = settings.scaling(len(devices))
    gateway = f"http://{url_host(settings.host)}:{port}"
    if settings.fleet == "ray":
        if importlib.util.find_spec("ray") is None:
            raise SettingsError("FLEET=ray needs Ray, which is not installed: pip install 'flux-endpoint[ray]'")
        url = settings.gateway_url or settings.public_url or gateway
        ray_fleet = RayFleet(
            driver_settings=DriverSettings(
                address=settings.ray_address or os.environ.get("RAY_ADDRESS") or None,
                namespace=settings.ray_namespace,
                gateway_url=url,
                device=settings.device,
                environment=worker_variables(settings, worker_token, url),
            ),
            environment=_RAY | _inherited(),
            events=_Reports(own, list(settings.sources)),
        )
        return ray_fleet, rules
    threads = {f"{PREFIX}THREADS": str(threads_per_worker(rules.max_workers))}
    # What a worker on a GPU compiles takes it minutes, and would be lost with /tmp. Who has set a place keeps it.
    compiled = {"TORCHINDUCTOR_CACHE_DIR": str(settings.data_dir.resolve() / "compiled")}
    local_fleet = LocalFleet(
        command=[sys.executable, "-m", "flux_endpoint", "worker", "--exit-with-parent"],
        environment=compiled | _inherited() | worker_variables(settings, worker_token, gateway) | threads,
        workers=rules.min_workers,
        node=node,
        events=_Reports(own, list(settings.sources)),
        devices=devices,
    )
    return local_fleet, rules


def worker_variables(settings: Settings, worker_token: str, gateway: str) -> dict[str, str]:
    """What a worker must be told in its environment; where it runs decides about its threads and its device.

    Args:
        settings: of the gateway.
        worker_token: the secret with which workers join.
        gateway: URL at which the worker reaches the gateway.
    """
    given = {
        "GATEWAY": gateway,
        "WORKER_TOKEN": worker_token,
        "MODEL": settings.model,
        "SCHNELL_MODEL": settings.schnell_source,
        "KONTEXT_MODEL": settings.kontext_model,
        "FILL_MODEL": settings.fill_model,
        "CANNY_MODEL": settings.canny_model,
        "DEPTH_MODEL": settings.depth_model,
        "REDUX_MODEL": settings.redux_model,
        "CONTROLNET_MODEL": settings.controlnet_model,
        "JOBS_PER_WORKER": str(settings.jobs_per_worker),
        "DEVICE": settings.device,
        "MEMORY": settings.memory,
        "LORA_DIR": None if settings.lora_dir is None else str(settings.lora_dir.resolve()),
        "LORA_CACHE_MB": str(settings.lora_cache_mb),
        "LORA_KEPT_DIR": str(settings.kept_loras_dir),
        "LORA_KEPT_MB": str(settings.lora_kept_mb),
        "IDLE_UNLOAD_S": str(settings.idle_unload_s),
        "PROMPTS_IN_FILES": settings.prompts_in_files,
        # The places of the files: their content never leaves the processes that sign.
        "C2PA_CERT": str(settings.c2pa_cert.absolute()) if settings.c2pa_cert else None,
        "C2PA_KEY": str(settings.c2pa_key.absolute()) if settings.c2pa_key else None,
        "LOG_LEVEL": settings.log_level,
        "LOG_FORMAT": settings.log_format,
        "OTLP_ENDPOINT": settings.otlp_endpoint,
    }
    return {PREFIX + name: value for name, value in given.items() if value is not None}


def _inherited() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.upper().startswith(PREFIX)}
