"""`core.job`: states, moves and derived times."""

from decimal import Decimal

import pytest

from flux_endpoint.core.job import ALLOWED_MOVES, Job, JobStatus

TERMINAL = {JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.TIMED_OUT}


def job_at(*, queued_ms=1_000, started_ms=None, finished_ms=None):
    return Job(
        id="job-1",
        endpoint_id="endpoint",
        status=JobStatus.IN_QUEUE,
        input={},
        key_id="key-1",
        cost_usd=Decimal(0),
        created_ms=1_000,
        queued_ms=queued_ms,
        started_ms=started_ms,
        finished_ms=finished_ms,
    )


def test_the_table_of_moves_covers_every_state_and_ends_in_the_terminal_ones():
    assert set(ALLOWED_MOVES) == set(JobStatus)
    assert {status for status in JobStatus if status.is_terminal} == TERMINAL
    retried = {status for status in TERMINAL if ALLOWED_MOVES[status]}
    assert retried == {JobStatus.FAILED, JobStatus.TIMED_OUT}
    assert all(ALLOWED_MOVES[status] == {JobStatus.IN_QUEUE} for status in retried)


def test_a_job_completes_only_from_a_worker_and_never_moves_to_itself():
    sources = [status for status in JobStatus if JobStatus.COMPLETED in ALLOWED_MOVES[status]]
    assert sources == [JobStatus.IN_PROGRESS]
    assert all(status not in targets for status, targets in ALLOWED_MOVES.items())


@pytest.mark.parametrize("status", sorted(set(JobStatus) - TERMINAL))
def test_whatever_is_unfinished_can_fail_be_cancelled_and_time_out(status):
    assert {JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.TIMED_OUT} <= ALLOWED_MOVES[status]


def test_states_are_spelled_as_on_the_wire():
    assert [str(status) for status in JobStatus] == [
        "IN_QUEUE",
        "IN_PROGRESS",
        "COMPLETED",
        "FAILED",
        "CANCELLED",
        "TIMED_OUT",
    ]


def test_times_are_unknown_until_they_happened():
    assert (job_at().delay_time_ms, job_at().execution_time_ms) == (None, None)
    assert job_at(started_ms=1_500).execution_time_ms is None
    # Cancelled in the queue: it ended, but nobody ever worked on it.
    assert (job_at(finished_ms=1_500).delay_time_ms, job_at(finished_ms=1_500).execution_time_ms) == (None, None)


def test_times_are_derived_from_the_stamps():
    job = job_at(started_ms=1_500, finished_ms=4_000)
    assert (job.delay_time_ms, job.execution_time_ms) == (500, 2_500)


def test_clocks_that_disagree_make_no_negative_times():
    job = job_at(queued_ms=2_000, started_ms=1_500, finished_ms=1_400)
    assert (job.delay_time_ms, job.execution_time_ms) == (0, 0)


def test_a_job_cannot_be_changed():
    with pytest.raises(AttributeError):
        job_at().status = JobStatus.COMPLETED
