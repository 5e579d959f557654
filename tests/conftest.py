"""Fixtures for tests that talk to real processes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import Servers


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    """Starts servers in a folder of the test's own; whatever still runs at the end is killed."""
    servers = Servers(tmp_path)
    try:
        yield servers
    finally:
        servers.close()
