"""Places workers as actors of a Ray cluster. Runs in the Ray driver (ray_driver.py), never in the gateway."""

import ipaddress
import logging
import re
import socket
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import ray
from ray.exceptions import GetTimeoutError, RayError

from flux_endpoint.core.errors import SettingsError
from flux_endpoint.fleet.local import LEAVE_S
from flux_endpoint.fleet.ray_host import HostReport, WorkerHost, WorkerSpec
from flux_endpoint.fleet.ray_messages import FleetReport, FleetRequest, PlacedWorker

logger = logging.getLogger(__name__)

# For the answers of all hosts together. One that does not answer is starting, or its machine is lost.
_REPORT_S: Final = 3.0
# A host's own limit, and the way there and back.
_LEAVE_S: Final = LEAVE_S + 1.5
_NAME: Final = re.compile(r"(gpu|cpu)-([0-9]+)")


class Workers:
    """The workers of one namespace of a cluster: actors with the names `gpu-0`, `gpu-1`, ... or `cpu-0`, ...

    They are detached, and found by name by whoever comes next; two who want the same do no harm to each other.

    Args:
        namespace: of Ray.
        spec: how workers are started.
        device: as the setting says; None for GPUs where the cluster has any.
    """

    def __init__(self, namespace: str, spec: WorkerSpec, device: str | None) -> None:
        self._namespace, self._spec, self._device = namespace, spec, device

    def reconcile(self, request: FleetRequest) -> FleetReport:
        """Make a request true as far as one step can. Doing it again does nothing more."""
        reports = self._reports(self._names())
        by_worker = {report.worker_id: name for name, report in reports.items() if report}
        restart = [name for worker_id, name in by_worker.items() if worker_id in request.restart]
        replace = [name for worker_id, name in by_worker.items() if worker_id in request.replace]
        surplus: Collection[str] = ()
        if request.count is not None:
            keep = chosen(reports, request, self._kind(), self._spec.digest)
            surplus = reports.keys() - keep
            for name in keep - reports.keys():
                self._make(name)
                reports[name] = None
        for name in restart:
            self._ask(name, "restart")
        lost = self._end(replace, is_final=False)
        left = self._end(surplus, is_final=True)
        return FleetReport(
            {name: _placed(reports[name]) for name in sorted(reports) if name not in surplus},
            [worker_id for worker_id, name in by_worker.items() if name in left],
            [worker_id for worker_id, name in by_worker.items() if name in lost],
        )

    def end_all(self) -> None:
        """End all workers, politely first."""
        self._end(self._names(), is_final=True)

    def check_reachable(self, gateway_url: str) -> None:
        """Refuse a gateway's address that names another machine on each machine of the cluster.

        Raises:
            SettingsError: it is a loopback address, and there are nodes on other machines than this.
        """
        nodes = {node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}  # type: ignore[no-untyped-call]
        elsewhere = sorted(address for address in nodes if not is_of_this_machine(address))
        if elsewhere and is_loopback(gateway_url):
            raise SettingsError(
                f"no worker is placed: the cluster has nodes at {', '.join(elsewhere[:3])}, which cannot reach the "
                f"gateway at {gateway_url}; set GATEWAY_URL to an address that they can, and HOST to listen there"
            )

    def _names(self) -> Sequence[str]:
        actors = ray.util.list_named_actors(all_namespaces=True)
        return [actor["name"] for actor in actors if actor["namespace"] == self._namespace]

    def _actor(self, name: str) -> Any:
        return ray.get_actor(name, namespace=self._namespace)

    def _reports(self, names: Iterable[str]) -> dict[str, HostReport | None]:
        asked = {name: self._ask(name, "report") for name in names}
        answered = _answers(asked, _REPORT_S)
        return {name: answered.get(name) for name in names}

    def _ask(self, name: str, method: str) -> Any:
        try:
            return getattr(self._actor(name), method).remote()
        except (RayError, ValueError):
            # It has gone meanwhile.
            return None

    def _kind(self) -> str | None:
        """What a worker holds of its machine; None while the cluster has neither, as one that still starts."""
        resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
        if self._device is not None:
            return "cpu" if self._device == "cpu" else "gpu"
        return "gpu" if resources.get("GPU") else "cpu" if resources.get("CPU") else None

    def _make(self, name: str) -> None:
        has_gpu = name.startswith("gpu-")
        logger.info("placing the worker %s", name)
        # With GPUs alone an actor would also hold a CPU, and few machines have as many as they need for their data.
        ray.remote(WorkerHost).options(
            name=name,
            namespace=self._namespace,
            lifetime="detached",
            get_if_exists=True,
            max_restarts=-1,
            num_gpus=1 if has_gpu else 0,
            num_cpus=0 if has_gpu else 1,
        ).remote(f"ray-{name}", self._spec, has_gpu)

    def _end(self, names: Collection[str], *, is_final: bool) -> Collection[str]:
        """Ask for the jobs back, then end the actors: for good, or for Ray to make them anew where there is room.

        Returns:
            The names of those whose worker is known to have ended.
        """
        left = _answers({name: self._ask(name, "leave") for name in names}, _LEAVE_S)
        for name in names:
            logger.info("ending the worker %s", name)
            try:
                ray.kill(self._actor(name), no_restart=is_final)
            except (RayError, ValueError):
                logger.info("the worker %s has gone already", name)
        return left.keys()


def chosen(
    reports: Mapping[str, HostReport | None], request: FleetRequest, kind: str | None, digest: str
) -> frozenset[str]:
    """Names of the actors that are to be there.

    Those that are there stay, busy ones first; one of another kind, with old settings, or whose host was told to leave
    goes. While the cluster has nothing to place workers on, those of either kind stay.
    """
    assert request.count is not None
    fit = [name for name, report in reports.items() if _fits(name, report, kind, digest)]
    fit.sort(key=lambda name: (not _is_busy(reports[name], request), _number(name)))
    keep = fit[: request.count]
    if kind is not None:
        # Names of actors that go are free from the next step on.
        unused = (name for number in range(request.count + len(reports)) if (name := f"{kind}-{number}") not in reports)
        keep += [name for name, _ in zip(unused, range(request.count - len(keep)), strict=False)]
    return frozenset(keep)


def _fits(name: str, report: HostReport | None, kind: str | None, digest: str) -> bool:
    match = _NAME.fullmatch(name)
    if match is None or (kind is not None and match[1] != kind):
        return False
    return report is None or (report.digest == digest and not report.has_left)


def _is_busy(report: HostReport | None, request: FleetRequest) -> bool:
    return report is not None and report.worker_id in request.busy


def _number(name: str) -> int:
    match = _NAME.fullmatch(name)
    return int(match[2]) if match else 0


def _answers(asked: Mapping[str, Any], within_s: float) -> dict[str, Any]:
    """What has been answered in time, by name."""
    waiting = [answer for answer in asked.values() if answer is not None]
    if waiting:
        ray.wait(waiting, num_returns=len(waiting), timeout=within_s)
    answered = {}
    for name, answer in asked.items():
        try:
            answered[name] = ray.get(answer, timeout=0) if answer is not None else None
        except GetTimeoutError:
            # It is starting, or its machine is away.
            continue
        except RayError as error:
            # Ray says here, and nowhere else, why it could not make an actor: this package is not installed there.
            logger.warning("the worker %s cannot be reached: %s", name, " ".join(str(error).split())[-500:])
    return answered


def _placed(report: HostReport | None) -> PlacedWorker | None:
    """A report without what is made of secrets."""
    if report is None:
        return None
    return PlacedWorker(report.host, report.worker_id, report.pid, report.restarts, report.last_end, report.refusal)


def is_loopback(url: str) -> bool:
    """Whether a URL means whichever machine it is opened on."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def is_of_this_machine(address: str) -> bool:
    """Whether this machine has a network address."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True
