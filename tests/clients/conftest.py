"""The servers that clients are tried against."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import Server, Servers


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    servers = Servers(tmp_path_factory.mktemp("server"))
    yield servers.start(model="fake")
    servers.close()


@pytest.fixture
def slow_server(tmp_path: Path) -> Iterator[Server]:
    """One whose steps take long enough to be interrupted."""
    servers = Servers(tmp_path)
    yield servers.start(model="fake:0.2")
    servers.close()
