"""A TCP proxy on this machine that behaves as a broken network does."""

import contextlib
import itertools
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator


class Proxy:
    """Forwards connections, in threads of its own, so that processes and event loops can use it.

    Args:
        targets: addresses with ports, or paths of Unix sockets. Of several each gets a connection in turn, and those
            that refuse are left out, as a load balancer does.
    """

    def __init__(self, *targets: tuple[str, int] | str) -> None:
        self._targets = targets
        self._turns = itertools.cycle(range(len(targets)))
        # Before each piece that is forwarded, seconds.
        self.delay_s = 0.0
        self._refuses = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._flows = threading.Event()
        self._flows.set()
        self._cut_at: Callable[[bytes], bool] | None = None
        self._is_told_first = False
        self._is_closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    def swallow(self) -> None:
        """Be a black hole: connections are taken and stay open, and nothing comes through."""
        self._flows.clear()

    def flow(self) -> None:
        """Forward again, also what was held back."""
        self._refuses = False
        self._flows.set()

    def refuse(self) -> None:
        """Close all connections, and new ones at once, until it flows again."""
        self._refuses = True
        self.cut()

    def cut(self) -> None:
        """Close all connections; new ones are forwarded."""
        for one in list(self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def cut_at(self, is_it: Callable[[bytes], bool], *, after_forwarding: bool) -> None:
        """Close the connection on which a client says something, once; the server hears it only if so told."""
        self._cut_at, self._is_told_first = is_it, after_forwarding

    def close(self) -> None:
        self._is_closed = True
        self._flows.set()
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while not self._is_closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        self._flows.wait()
        with client:
            server = None if self._refuses else self._connect()
            if server is None:
                return
            with server:
                self._open |= {client, server}
                try:
                    self._forward(client, server)
                except OSError:
                    pass
                finally:
                    self._open -= {client, server}

    def _connect(self) -> socket.socket | None:
        first = next(self._turns)
        for target in self._targets[first:] + self._targets[:first]:
            server = socket.socket(socket.AF_UNIX if isinstance(target, str) else socket.AF_INET)
            try:
                server.connect(target)
            except OSError:
                server.close()
            else:
                return server
        return None

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        while True:
            for one in select.select([client, server], [], [])[0]:
                data = one.recv(65_536)
                self._flows.wait()
                if self.delay_s:
                    time.sleep(self.delay_s)
                if not data:
                    return
                cuts = one is client and self._cut_at is not None and self._cut_at(data)
                if cuts:
                    self._cut_at = None
                if not cuts or self._is_told_first:
                    (server if one is client else client).sendall(data)
                if cuts:
                    if self._is_told_first:
                        # Until the server has done what it was told; its answer goes nowhere.
                        server.recv(65_536)
                    return


@contextlib.contextmanager
def held_port() -> Iterator[int]:
    """A port of this machine that the system gives to nobody else meanwhile, also while its server is restarted.

    It is bound and not listened on: a server that may reuse addresses, as ours and PostgreSQL may, can take it.
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


@contextlib.contextmanager
def proxy_to(*targets: tuple[str, int] | str) -> Iterator[Proxy]:
    """A proxy that is closed at the end."""
    proxy = Proxy(*targets)
    try:
        yield proxy
    finally:
        proxy.close()
