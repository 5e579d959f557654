"""A TCP proxy on this machine that behaves as a broken network does."""

import contextlib
import select
import socket
import threading
from collections.abc import Callable, Iterator


class Proxy:
    """Forwards connections to one place, in threads of its own, so that processes and event loops can use it.

    Args:
        target: an address and port, or the path of a Unix socket.
    """

    def __init__(self, target: tuple[str, int] | str) -> None:
        self._target = target
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
        self._flows.set()

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
        family = socket.AF_UNIX if isinstance(self._target, str) else socket.AF_INET
        with client, socket.socket(family) as server:
            self._open |= {client, server}
            try:
                server.connect(self._target)
                self._forward(client, server)
            except OSError:
                pass
            finally:
                self._open -= {client, server}

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        while True:
            for one in select.select([client, server], [], [])[0]:
                data = one.recv(65_536)
                self._flows.wait()
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
def proxy_to(target: tuple[str, int] | str) -> Iterator[Proxy]:
    """A proxy that is closed at the end."""
    proxy = Proxy(target)
    try:
        yield proxy
    finally:
        proxy.close()
