"""The local fleet with tiny real processes in the place of workers."""

import asyncio
import sys

import pytest

from flux_endpoint.fleet.local import Backoff, LocalFleet, node_name
from flux_endpoint.wiring.threads import threads_per_worker

pytestmark = pytest.mark.anyio

# Ends at the end of its input, as a worker does when its gateway is gone.
PATIENT = "import sys; sys.stdin.read()"
DEADLINE_S = 30


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Diary:
    """What a fleet told about its workers."""

    def __init__(self):
        self.started = asyncio.Queue()
        self.lost = asyncio.Queue()
        self.befores = []
        self.refused = []

    async def note_started(self, worker_id, before):
        self.befores.append(before)
        self.started.put_nowait(worker_id)

    async def note_refused(self, worker_id, reason):
        self.refused.append((worker_id, reason))

    async def note_lost(self, worker_id):
        self.lost.put_nowait(worker_id)

    async def next_started(self):
        return await asyncio.wait_for(self.started.get(), DEADLINE_S)

    async def next_lost(self):
        return await asyncio.wait_for(self.lost.get(), DEADLINE_S)


def make_fleet(diary, code, workers=1, **options):
    listeners = {
        "on_worker_starts": diary.note_started,
        "on_worker_lost": diary.note_lost,
        "on_worker_refused": diary.note_refused,
    }
    options = {"backoff": Backoff(0.01, 0.01), "environment": {}} | listeners | options
    command = [sys.executable, "-I", "-S", "-c", code]
    return LocalFleet(command, workers=workers, node="node", **options)


async def until(question):
    """The answer, as soon as it is true."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            if answer := await question():
                return answer
            await asyncio.sleep(0)


async def test_a_worker_that_dies_is_reported_and_replaced_under_a_new_name(caplog):
    diary = Diary()
    fleet = make_fleet(diary, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    await fleet.start()
    try:
        first = await diary.next_started()
        assert await diary.next_lost() == first
        second = await diary.next_started()
        assert first != second
        assert first.startswith("node-w0-")
        assert second.startswith("node-w0-")
        assert f"worker {first} died: signal SIGKILL" in caplog.text
        assert (await fleet.list())[0].restarts >= 1
        assert diary.befores[:2] == ["", "the worker before it died: signal SIGKILL"]
    finally:
        await fleet.stop()


async def test_a_worker_that_ends_by_itself_is_replaced_too(caplog):
    diary = Diary()
    fleet = make_fleet(diary, "raise SystemExit(3)")
    await fleet.start()
    try:
        first = await diary.next_started()
        assert await diary.next_lost() == first
        assert f"worker {first} died: exit code 3" in caplog.text
        await diary.next_started()
    finally:
        await fleet.stop()


async def test_a_worker_is_restarted_on_request(caplog):
    caplog.set_level("INFO")
    diary = Diary()
    fleet = make_fleet(diary, PATIENT)
    await fleet.start()
    try:
        first = await diary.next_started()
        await fleet.restart("somebody-else")

        async def pid():
            return (await fleet.list())[0].pid

        await until(pid)
        await fleet.restart(first)
        assert await diary.next_lost() == first
        assert await diary.next_started() != first
        assert f"worker {first} left, another takes its place" in caplog.text
        assert "died" not in caplog.text
    finally:
        await fleet.stop()


@pytest.mark.parametrize("code", [2, 78])
async def test_a_worker_that_refuses_its_settings_is_not_replaced(code):
    diary = Diary()
    fleet = make_fleet(diary, f"raise SystemExit({code})")
    await fleet.start()
    try:
        assert await asyncio.wait_for(fleet.wait_refused(), DEADLINE_S) == code
        assert diary.lost.empty()
        assert diary.started.qsize() == 1
        reason = f"it ended with exit code {code} and is not started again: its log says why"
        assert diary.refused == [(await diary.next_started(), reason)]
    finally:
        await fleet.stop()


async def test_a_fleet_is_refused_when_its_last_worker_is(tmp_path):
    diary = Diary()
    # The first that comes here is refused, the other one lives until it is told to leave.
    code = f"import os, sys; os.mkdir({str(tmp_path / 'first')!r}); sys.exit(78)"
    patient = f"import sys\ntry:\n    exec({code!r})\nexcept FileExistsError:\n    sys.stdin.read()\n    sys.exit(2)"
    fleet = make_fleet(diary, patient, workers=2)
    await fleet.start()
    try:

        async def one_is_refused():
            return diary.refused

        await until(one_is_refused)
        waiting = asyncio.create_task(fleet.wait_refused())
        ((refused_id, _),) = diary.refused
        workers = await fleet.list()
        (other,) = [slot for slot in fleet._slots if slot.worker_id != refused_id]
        assert len(workers) == 2
        assert not waiting.done()

        async def runs():
            return other.process

        (await until(runs)).stdin.close()
        assert await asyncio.wait_for(waiting, DEADLINE_S) in (2, 78)
        assert len(diary.refused) == 2
    finally:
        await fleet.stop()


async def test_a_worker_that_is_stopped_and_deaf_is_replaced(caplog):
    diary = Diary()
    fleet = make_fleet(diary, "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)")
    await fleet.start()
    try:
        first = await diary.next_started()

        async def pid():
            return (await fleet.list())[0].pid

        await until(pid)
        await fleet.replace("somebody-else", "it hangs")
        await fleet.replace(first, "it has been silent for 61 s")
        assert await diary.next_lost() == first
        assert await diary.next_started() != first
        assert f"worker {first} hangs and is ended: it has been silent for 61 s" in caplog.text
    finally:
        await fleet.stop()


async def test_a_report_that_fails_does_not_end_the_slot(caplog):
    diary = Diary()

    async def fail(worker_id):
        raise ConnectionError("no database")

    fleet = make_fleet(diary, "raise SystemExit(3)", on_worker_lost=fail)
    await fleet.start()
    try:
        await diary.next_started()
        await diary.next_started()
        assert "could not be noted at once" in caplog.text
    finally:
        await fleet.stop()


async def test_stop_ends_all_workers_and_reports_none_as_lost():
    diary = Diary()
    fleet = make_fleet(diary, PATIENT, workers=3)
    await fleet.start()

    async def pids():
        found = {worker.pid for worker in await fleet.list()}
        return None not in found and found

    assert len(await until(pids)) == 3
    await fleet.stop()
    assert [worker.pid for worker in await fleet.list()] == [None] * 3
    assert diary.lost.empty()
    await fleet.stop()


async def test_a_worker_deaf_to_signals_is_killed(tmp_path):
    diary = Diary()
    ready = tmp_path / "ready"
    deaf = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); open({str(ready)!r}, 'w'); signal.pause()"
    fleet = make_fleet(diary, deaf, leave_s=0.05)
    await fleet.start()

    async def is_ready():
        return ready.exists()

    await until(is_ready)
    await fleet.stop()
    assert (await fleet.list())[0].pid is None


async def test_secrets_and_names_travel_in_the_environment(tmp_path):
    diary = Diary()
    file = tmp_path / "seen"
    code = f"import os; open({str(file)!r}, 'w').write(repr(dict(os.environ))); raise SystemExit(78)"
    fleet = make_fleet(diary, code, environment={"FLUX_ENDPOINT_WORKER_TOKEN": "fxw_token"})
    await fleet.start()
    worker_id = await diary.next_started()
    await asyncio.wait_for(fleet.wait_refused(), DEADLINE_S)
    await fleet.stop()
    seen = file.read_text()
    assert "fxw_token" in seen
    assert worker_id in seen


async def test_stop_does_not_wait_for_a_pause_before_a_restart():
    diary = Diary()
    fleet = make_fleet(diary, "raise SystemExit(3)", backoff=Backoff(3600, 3600))
    await fleet.start()
    await diary.next_lost()
    await asyncio.wait_for(fleet.stop(), DEADLINE_S)


async def test_a_worker_that_cannot_be_started_is_tried_again(caplog):
    diary = Diary()
    fleet = make_fleet(diary, "")
    fleet._command = ["/nowhere/python"]
    await fleet.start()
    await diary.next_started()
    await diary.next_started()
    await fleet.stop()
    assert "cannot be started" in caplog.text


def test_a_node_keeps_its_name(tmp_path):
    name = node_name(tmp_path)
    assert name == node_name(tmp_path)
    assert name != node_name(tmp_path.parent)


def test_workers_share_the_cores():
    assert threads_per_worker(1) >= 1
    assert threads_per_worker(10_000) == 1
    assert threads_per_worker(0) == threads_per_worker(1)
