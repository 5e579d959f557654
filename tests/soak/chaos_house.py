"""The house of the chaos run: everything that talks to anything does so through a network that can be broken."""

import contextlib
import signal
import time

import psutil

from tests.proxy import Proxy, proxy_to
from tests.ray_nodes import Nodes
from tests.servers import COMMAND, clean_environment
from tests.soak.house import TOKEN, House

LEASE_S = 10
# Seconds by which the second gateway's clock is wrong from the start.
WRONG_S = 240


class ChaosHouse(House):
    """Two gateways behind a load balancer, and workers that know no other way to them.

    Args:
        workers: how many.
        nodes: of a Ray cluster on which the gateways place the workers; None for workers that a supervisor starts.
    """

    def __init__(self, workers: int, nodes: Nodes | None) -> None:
        super().__init__()
        self.worker_count, self.nodes = workers, nodes
        # By whoever started them, and not to be started again yet.
        self.down: set[str] = set()

    def start(self) -> None:
        """Return when both gateways are ready and all workers are started."""
        self.database_url = self._start_postgres()
        self._prepare()
        self._start_s3()
        self.database = self._proxy(str(self.postgres.get_postmaster_info().socket_path))
        self.bucket = self._proxy(_address(self.s3_url))
        self.front = self._proxy(*map(_address, self.urls))
        front_url = f"http://127.0.0.1:{self.front.port}"
        self.gateways_database_url = f"postgresql://postgres@127.0.0.1:{self.database.port}/postgres"
        self.gateways_s3_url = f"http://127.0.0.1:{self.bucket.port}"
        self.public_urls = [front_url, front_url]
        self.gateway_settings = {"lease_s": LEASE_S}
        if self.nodes:
            ray = {"fleet": "ray", "ray_address": self.nodes.address, "gateway_url": front_url}
            self.gateway_settings |= ray
            for _ in range(self.worker_count):
                self.nodes.add()
        workers = self.worker_count if self.nodes else 0
        self.move_clock(WRONG_S)
        self._start_gateway("gateway-1", 0, workers)
        self._start_gateway("gateway-2", 1, workers, **self._faketime())
        self._wait_ready()
        for number in range(0 if self.nodes else self.worker_count):
            name = f"worker-{number + 1}"
            environment = clean_environment(gateway=front_url, worker_token=TOKEN, model="demo", worker_id=name)
            self._spawn(name, [*COMMAND, "worker"], environment)

    def mend(self) -> list[str]:
        """Start what has ended and was not taken down, as a supervisor would; the names."""
        names = [name for name, process in self.processes.items() if process.poll() is not None]
        ended = [name for name in names if name not in self.down]
        for name in ended:
            self.restart(name)
        return ended

    def workers(self) -> list[psutil.Process]:
        """The worker processes, wherever they are."""
        if self.nodes:
            return [worker for node in self.nodes.all for worker in self.nodes.workers(node)]
        there = (self.processes[f"worker-{number + 1}"] for number in range(self.worker_count))
        return [psutil.Process(process.pid) for process in there if process.poll() is None]

    def kill_postgres(self, number: signal.Signals) -> None:
        """End the database at once, all of its processes with SIGKILL or by its own way of an immediate shutdown."""
        server = psutil.Process(self.postgres.get_pid())
        everything = [server, *server.children(recursive=True)] if number is signal.SIGKILL else [server]
        for process in everything:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        psutil.wait_procs(everything, timeout=10)
        # As long as it is there, and its process not reaped, the package takes the dead for living.
        (self.folder / "postgres" / "postmaster.pid").unlink(missing_ok=True)

    def start_postgres(self) -> None:
        """Start it again; returns when it takes connections."""
        end = time.monotonic() + 60
        while True:
            try:
                return self.postgres.ensure_postgres_running()
            except Exception:
                # What the dead one has shared is still being given back.
                if time.monotonic() > end:
                    raise
                time.sleep(0.2)

    def mend_network(self) -> None:
        """Let everything through."""
        for proxy in (self.database, self.bucket, self.front):
            proxy.delay_s = 0.0
            proxy.flow()

    def _proxy(self, *targets: tuple[str, int] | str) -> Proxy:
        return self._stack.enter_context(proxy_to(*targets))


def _address(url: str) -> tuple[str, int]:
    host, _, port = url.removeprefix("http://").partition(":")
    return host, int(port)
