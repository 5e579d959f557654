"""How long a body may take to be read."""

import pytest

from flux_endpoint.core.errors import InvalidRequest
from flux_endpoint.core.raw_json import BIG_CHARS
from flux_endpoint.service import bodies
from tests.api.readers import busy, idle

pytestmark = pytest.mark.anyio


async def test_it_is_processor_time_that_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that does other things first is no fault of the body."""
    monkeypatch.setattr(bodies, "_MAX_S", 0.1)
    body, reading = bytes(BIG_CHARS + 1), bodies.Bodies()
    assert await reading.read(body, idle, 0.2) == len(body)
    with pytest.raises(InvalidRequest, match=r"to check the body took more than 0\.1 s"):
        await reading.read(body, busy)
    assert await reading.read(body, idle, 0) == len(body)
