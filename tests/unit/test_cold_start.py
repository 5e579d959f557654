"""How a worker tells how long it took to start."""

import os
import time

import psutil
import pytest

from flux_endpoint.worker.client import Gateway
from flux_endpoint.worker.connection import NoAnswer, Reply
from flux_endpoint.worker.process import age_ms

pytestmark = pytest.mark.anyio


class NotingConnection:
    """Answers nothing at first, then that there is no job."""

    def __init__(self):
        self.queries = []

    async def request(self, method, path, query, body, media_type, patience):
        """See `Connection.request`."""
        self.queries.append(dict(query))
        if len(self.queries) == 1:
            raise NoAnswer("refused")
        return Reply(204, b"")


async def no_sleep(seconds):
    pass


async def test_the_first_take_tells_it_once_and_the_same_at_every_try():
    connection, ages = NotingConnection(), iter((1_200, 9_999))
    gateway = Gateway(connection, ["flux"], "w-1", "none", no_sleep, lambda: next(ages))
    for _ in range(3):
        assert await gateway.take(is_busy=False) is None
    assert [query.get("coldStart") for query in connection.queries] == ["1200", "1200", None, None]


async def test_the_first_take_tells_the_fingerprint_too():
    connection = NotingConnection()
    gateway = Gateway(connection, ["flux"], "w-1", "none", no_sleep, fingerprint="1f2e (device cpu)")
    for _ in range(3):
        assert await gateway.take(is_busy=False) is None
    told = [query.get("fingerprint") for query in connection.queries]
    assert told == ["1f2e (device cpu)", "1f2e (device cpu)", None, None]


def running_ms():
    # Not by the time of day, of which the system tells the start of the machine in whole seconds.
    started_s = psutil.Process(os.getpid()).create_time() - psutil.boot_time()
    return (time.clock_gettime(time.CLOCK_BOOTTIME) - started_s) * 1_000


def test_the_age_of_this_process_is_that_since_its_start():
    before_ms = running_ms()
    assert before_ms - 1 <= age_ms() <= running_ms() + 1
