"""A Ray cluster whose machines come and go, as far as one machine can play them."""

import contextlib
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import psutil

from tests.servers import wait_until


class Nodes:
    """The machines of a cluster beside its head, which has no room for workers."""

    def __init__(self, cluster: Any) -> None:
        self._cluster = cluster
        self.address: str = cluster.address
        self.all: list[Any] = []

    def add(self) -> Any:
        """A machine with room for one worker."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.all.append(self._cluster.add_node(num_cpus=1, include_dashboard=False))
        return self.all[-1]

    def workers(self, node: Any) -> list[psutil.Process]:
        """The worker processes of ours on a machine."""
        return [process for process in self._below(node) if is_worker(process)]

    def lose(self, node: Any) -> None:
        """A machine loses its power: all of its processes end at once."""
        for process in self._below(node):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.all.remove(node)
        self._cluster.remove_node(node)

    def _below(self, node: Any) -> list[psutil.Process]:
        raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
        return [raylet, *raylet.children(recursive=True)]


def is_worker(process: psutil.Process) -> bool:
    """Whether it is a worker of ours, and lives."""
    with contextlib.suppress(psutil.Error):
        return "flux_endpoint" in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE
    return False


def patient(get_node: Callable[..., Any]) -> Callable[..., Any]:
    """Ray's question whether a machine has come up, which it gives up after 30 s: little on a busy machine."""

    def get(*names: object) -> Any:
        def answer() -> Any:
            with contextlib.suppress(RuntimeError):
                return get_node(*names)

        return wait_until(answer, "a machine of the cluster has come up")

    return get


@contextlib.contextmanager
def ray_nodes() -> Iterator[Nodes]:
    """A head; everything that it starts has ended at the end. The environment is changed meanwhile."""
    # Ray keeps a token at home, once it has made one. Paths of its sockets must be short. A cluster with a folder of
    # its own still writes its address into the default one, and fails where no Ray has run before.
    Path("/tmp/ray").mkdir(exist_ok=True)
    home = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    before = dict(os.environ)
    os.environ |= {"HOME": home, "RAY_worker_niceness": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from ray._private import services
            from ray.cluster_utils import Cluster

            with mock.patch.object(services, "get_node", patient(services.get_node)):
                head = {"num_cpus": 0, "include_dashboard": False, "temp_dir": home}
                cluster = Cluster(initialize_head=True, head_node_args=head)
                try:
                    yield Nodes(cluster)
                finally:
                    cluster.shutdown()
    finally:
        os.environ.clear()
        os.environ.update(before)
        shutil.rmtree(home, ignore_errors=True)
