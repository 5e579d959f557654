"""Real databases and real object storage, started once per session; each test gets an empty place on them."""

import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import obstore
import pytest
from moto.server import ThreadedMotoServer
from obstore.store import S3Store

from flux_endpoint.core.clock import ManualClock
from flux_endpoint.images.object_store import ObjectImageStore, open_image_store
from flux_endpoint.stores.connect import Stores, open_stores
from tests.contract.samples import NEVER_S, until
from tests.databases import copy_empty_database

OpenStore = Callable[[], Awaitable[Stores]]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/made/by the store/jobs.db"


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> str:
    return request.getfixturevalue(f"{request.param}_url")


@pytest.fixture
async def open_another(database_url: str, clock: ManualClock) -> AsyncIterator[OpenStore]:
    """Opens one more store on the test's database, as another process would."""
    async with AsyncExitStack() as stack:
        scheme, _, file = database_url.partition(":///")
        if scheme == "sqlite":
            await copy_empty_database(Path(file))

        async def open_one() -> Stores:
            stores = await open_stores(database_url, clock)
            stack.push_async_callback(stores.close)
            return stores

        yield open_one


@pytest.fixture
async def stores(open_another: OpenStore) -> Stores:
    stores = await open_another()
    # When notifications come for the first time, everybody who waits is woken: not in the middle of a test.
    await until(stores, lambda recheck_s: recheck_s > 1)
    # And then nobody looks by themselves: what wakes a sleeper is what it was told.
    stores.database.signals.recheck_s = NEVER_S
    return stores


@pytest.fixture
def s3_endpoint(s3_server: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The AWS_* variables point to the real S3 server."""
    for name, value in s3_server.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="session")
def moto_server() -> Iterator[dict[str, str]]:
    """Moto, which knows more of S3 than rclone does and checks no signature; the AWS_* variables that point to it."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    address, port = server.get_host_and_port()
    yield {
        "AWS_ENDPOINT_URL": f"http://{address}:{port}",
        "AWS_ACCESS_KEY_ID": "test-id",
        "AWS_SECRET_ACCESS_KEY": "test-secret",
        "AWS_REGION": "us-east-1",
    }
    server.stop()


@pytest.fixture
def moto_endpoint(moto_server: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The AWS_* variables point to moto, which has the bucket `pictures`."""
    for name, value in moto_server.items():
        monkeypatch.setenv(name, value)
    httpx.put(f"{moto_server['AWS_ENDPOINT_URL']}/pictures").raise_for_status()


@pytest.fixture(params=["folder", "s3", "moto", "memory"])
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
        case "moto":
            request.getfixturevalue("moto_endpoint")
            return f"s3://pictures/{secrets.token_hex(6)}"
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
