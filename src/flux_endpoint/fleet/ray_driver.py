"""The Ray driver: a small process that the gateway starts, so that nothing of Ray can hold the gateway up.

It reads one JSON object a line from its standard input, `DriverSettings` first and then requests, and answers each of
these with one line. It ends when its input does, or when anything goes wrong: whoever started it starts it again.
"""

import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Iterable
from typing import IO, Any, Final

from flux_endpoint.core.errors import SettingsError
from flux_endpoint.fleet.ray_host import WorkerSpec
from flux_endpoint.fleet.ray_messages import DriverSettings, FleetReport, FleetRequest

logger = logging.getLogger(__name__)

# `ray.init` to an address where nobody listens goes on for many minutes.
_CONNECT_S: Final = 60.0
# From the end of the input to that of the process: for workers of a cluster of its own to leave.
_LEAVE_S: Final = 4.5
EXIT_NO_CLUSTER: Final = 3
WORKER: Final = ("-m", "flux_endpoint", "worker", "--exit-with-parent")


def main() -> int:
    """Drive until the input ends; the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s fleet: %(message)s", stream=sys.stderr)
    # Ray prints; what it prints is no answer.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    settings = DriverSettings.from_json(sys.stdin.readline())
    requests: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(sys.stdin, requests), daemon=True).start()
    try:
        drive(settings, iter(requests.get, None), answers)
    except Exception as error:
        logger.debug("the driver ends", exc_info=True)
        logger.error("the Ray driver ends: %s: %s", type(error).__name__, " ".join(str(error).split())[-500:])
        return EXIT_NO_CLUSTER
    return 0


def drive(settings: DriverSettings, requests: Iterable[str], answers: IO[str]) -> None:
    """Connect, and make requests true until there are no more; then end what this process has started itself."""
    is_own = _connect(settings.address)
    import ray

    from flux_endpoint.fleet.ray_cluster import Workers

    workers = Workers(settings.namespace, WorkerSpec(WORKER, settings.environment), settings.device)
    for line in requests:
        request = FleetRequest.from_json(line)
        try:
            workers.check_reachable(settings.gateway_url)
            seen = workers.reconcile(request)
        except SettingsError as error:
            seen = FleetReport({}, trouble=str(error))
        print(seen.to_json(), file=answers, flush=True)
    if is_own:
        workers.end_all()
    ray.shutdown()


def _connect(address: str | None) -> bool:
    """Join a cluster, or start one; whether it is our own and ends with this process."""
    is_own, address = address is None, address or "local"
    limit = threading.Timer(_CONNECT_S, _give_up, [address])
    limit.daemon = True
    limit.start()
    import ray

    options: dict[str, Any] = {"include_dashboard": False} if is_own else {}
    ray.init(address, namespace="flux-endpoint-driver", log_to_driver=False, logging_level=logging.WARNING, **options)
    limit.cancel()
    logger.info("connected to %s", "a cluster of its own" if is_own else f"the cluster at {address}")
    return is_own


def _give_up(address: str) -> None:
    logger.error("no Ray cluster answers at %s within %.0f s", address, _CONNECT_S)
    os._exit(EXIT_NO_CLUSTER)


def _read(lines: IO[str], requests: "queue.SimpleQueue[str | None]") -> None:
    for line in lines:
        requests.put(line)
    requests.put(None)
    # Whatever Ray is doing just now: nobody waits for it any more.
    time.sleep(_LEAVE_S)
    os._exit(EXIT_NO_CLUSTER)


if __name__ == "__main__":
    sys.exit(main())
