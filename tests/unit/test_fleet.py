"""The local fleet with tiny real processes in the place of workers."""

import asyncio
import sys

import pytest

from flux_endpoint.fleet.devices import list_devices
from flux_endpoint.fleet.local import Backoff, LocalFleet, node_name
from flux_endpoint.wiring.threads import threads_per_worker

pytestmark = pytest.mark.anyio

# Ends at the end of its input, as a worker does when its gateway is gone.
PATIENT = "import sys; sys.stdin.read()"
# The same, and leaves in order when it is asked to.
PATIENT_AND_POLITE = f"import signal, os; signal.signal(signal.SIGTERM, lambda *_: os._exit(0)); {PATIENT}"
DEADLINE_S = 30


class Diary:
    """What a fleet told about its workers."""

    def __init__(self):
        self.started = asyncio.Queue()
        self.lost_ones = asyncio.Queue()
        self.left_ones = asyncio.Queue()
        self.befores = []
        self.dismissed = []
        self.refusals = []

    async def starts(self, worker_id, reason):
        self.befores.append(reason)
        self.started.put_nowait(worker_id)

    async def leaves(self, worker_id):
        self.dismissed.append(worker_id)

    async def left(self, worker_id):
        self.left_ones.put_nowait(worker_id)

    async def refused(self, worker_id, reason):
        self.refusals.append((worker_id, reason))

    async def lost(self, worker_id):
        self.lost_ones.put_nowait(worker_id)

    async def next_started(self):
        return await asyncio.wait_for(self.started.get(), DEADLINE_S)

    async def next_lost(self):
        return await asyncio.wait_for(self.lost_ones.get(), DEADLINE_S)

    async def next_left(self):
        return await asyncio.wait_for(self.left_ones.get(), DEADLINE_S)


def make_fleet(diary, code, workers=1, **options):
    options = {"backoff": Backoff(0.01, 0.01), "environment": {}} | options
    command = [sys.executable, "-I", "-S", "-c", code]
    return LocalFleet(command, workers=workers, node="node", events=diary, **options)


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
        assert await diary.next_left() == first
        assert diary.dismissed == []
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
        assert diary.lost_ones.empty()
        assert diary.started.qsize() == 1
        reason = f"it ended with exit code {code} and is not started again: its log says why"
        assert diary.refusals == [(await diary.next_started(), reason)]
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
            return diary.refusals

        await until(one_is_refused)
        waiting = asyncio.create_task(fleet.wait_refused())
        ((refused_id, _),) = diary.refusals
        workers = await fleet.list()
        (other,) = [slot for slot in fleet._slots.values() if slot.worker_id != refused_id]
        assert len(workers) == 2
        assert not waiting.done()

        async def runs():
            return other.process

        (await until(runs)).stdin.close()
        assert await asyncio.wait_for(waiting, DEADLINE_S) in (2, 78)
        assert len(diary.refusals) == 2
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
        assert f"worker {first} is ended: it has been silent for 61 s" in caplog.text
    finally:
        await fleet.stop()


async def test_a_report_that_fails_does_not_end_the_slot(caplog):
    class Forgetful(Diary):
        async def lost(self, worker_id):
            raise ConnectionError("no database")

    diary = Forgetful()
    fleet = make_fleet(diary, "raise SystemExit(3)")
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
    assert diary.lost_ones.empty()
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


async def pids_of(fleet, number):
    """Those of its workers, once so many run and all others are gone."""

    async def pids():
        workers = await fleet.list()
        found = {worker.worker_id: worker.pid for worker in workers}
        is_settled = len(found) == number and None not in found.values()
        return is_settled and not any(worker.is_leaving for worker in workers) and (found or {"none": 0})

    return await until(pids)


async def test_a_fleet_grows_and_shrinks_and_spares_the_busy():
    diary = Diary()
    fleet = make_fleet(diary, PATIENT_AND_POLITE)
    await fleet.start()
    try:
        (first,) = await pids_of(fleet, 1)
        await fleet.scale(3)
        three = await pids_of(fleet, 3)
        assert first in three
        idle = sorted(three)[0]
        await fleet.scale(2, busy=three.keys() - {idle})
        assert await diary.next_left() == idle
        assert (await pids_of(fleet, 2)).keys() == three.keys() - {idle}
        await fleet.scale(0, busy=three.keys())
        assert {await diary.next_left(), await diary.next_left()} == three.keys() - {idle}
        assert set(diary.dismissed) == three.keys()
        assert await pids_of(fleet, 0) == {"none": 0}
        assert diary.lost_ones.empty()
    finally:
        await fleet.stop()


async def test_a_place_is_filled_again_when_its_worker_has_left():
    """Its device is free only then."""
    diary = Diary()
    fleet = make_fleet(diary, PATIENT)
    await fleet.start()
    try:
        (first,) = await pids_of(fleet, 1)
        await fleet.scale(0)
        await fleet.scale(1)
        assert [worker.worker_id for worker in await fleet.list()] == [first]
        assert await diary.next_left() == first
        (second,) = await pids_of(fleet, 1)
        assert second.startswith("node-w0-")
        assert second != first
    finally:
        await fleet.stop()


async def test_a_place_without_a_process_is_the_first_to_go():
    diary = Diary()
    fleet = make_fleet(diary, "raise SystemExit(3)", workers=1, backoff=Backoff(3600, 3600))
    await fleet.start()
    await diary.next_lost()
    fleet._command = [sys.executable, "-I", "-S", "-c", PATIENT]
    await fleet.scale(2)
    try:
        running = await until(lambda: one_that_runs(fleet))
        await fleet.scale(1, busy=[running])
        assert list(await pids_of(fleet, 1)) == [running]
    finally:
        await fleet.stop()


async def one_that_runs(fleet):
    return next((worker.worker_id for worker in await fleet.list() if worker.pid), None)


async def test_a_worker_that_can_never_run_is_dismissed_without_a_process():
    diary = Diary()
    fleet = make_fleet(diary, "raise SystemExit(78)")
    await fleet.start()
    await asyncio.wait_for(fleet.wait_refused(), DEADLINE_S)
    await fleet.scale(0)
    assert await fleet.list() == []
    await fleet.stop()
    await fleet.scale(1)
    assert await fleet.list() == [], "a fleet that was stopped stays so"


async def test_each_worker_gets_a_gpu_of_its_own(tmp_path):
    diary = Diary()
    code = f"import os; open({str(tmp_path)!r} + '/' + os.environ['CUDA_VISIBLE_DEVICES'], 'w')\n{PATIENT}"
    fleet = make_fleet(diary, code, workers=2, devices=["GPU-a", "GPU-b"])
    await fleet.start()

    async def are_told():
        return {file.name for file in tmp_path.iterdir()} == {"GPU-a", "GPU-b"}

    await until(are_told)
    await fleet.stop()


@pytest.mark.parametrize(
    ("set_to", "devices"),
    [(None, ["GPU-1", "GPU-2"]), ("", []), ("-1", []), ("3, 5", ["3", "5"]), ("0,-1,2", ["0"]), ("MIG-x", ["MIG-x"])],
)
def test_gpus_are_those_of_the_machine_unless_the_environment_names_some(set_to, devices):
    environment = {} if set_to is None else {"CUDA_VISIBLE_DEVICES": set_to}
    assert list_devices(environment, lambda: ["GPU-1", "GPU-2"]) == devices


def test_a_node_keeps_its_name(tmp_path):
    name = node_name(tmp_path)
    assert name == node_name(tmp_path)
    assert name != node_name(tmp_path.parent)


def test_workers_share_the_cores():
    assert threads_per_worker(1) >= 1
    assert threads_per_worker(10_000) == 1
    assert threads_per_worker(0) == threads_per_worker(1)
