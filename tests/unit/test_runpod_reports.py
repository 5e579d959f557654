"""What a worker's report makes of its job."""

import json
import logging
from typing import Any

import pytest

from flux_endpoint.api.dialects.runpod.reports import outcome_of
from flux_endpoint.core.job import Completed, Failed, Returned

# As the official SDK 1.12 writes an exception of a handler down.
RAISED = {
    "error_type": "<class 'torch.cuda.OutOfMemoryError'>",
    "error_message": "out of memory",
    "error_traceback": "Traceback (most recent call last):\n  File secret.py",
    "hostname": "unknown",
    "worker_id": "w",
    "runpod_version": "1.12.0",
}


def read(result: dict[str, Any]) -> object:
    return outcome_of("job-1", result)


@pytest.mark.parametrize("output", [{"a": 1}, [], "text", 0, False, None])
def test_an_output_completes(output: Any) -> None:
    assert read({"output": output}) == Completed(output)


def test_nothing_completes_with_nothing() -> None:
    assert read({}) == Completed(None)
    assert read({"stopPod": True}) == Completed(None)


@pytest.mark.parametrize("error", [None, False])
def test_no_error_is_no_error(error: object) -> None:
    assert read({"error": error, "output": 1}) == Completed(1)


def test_a_returned_job_is_unharmed() -> None:
    assert read({"returned": True}) == Returned()


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        ("bad size", "bad size"),
        ("two\nlines stay two", "two\nlines stay two"),
        ("", "the worker reported an error without saying which"),
        ({"message": "bad size", "code": 5}, "bad size"),
        ({"code": 5, "detail": " bad "}, "bad"),
        ({"error": {"deep": 1}}, '{"error": {"deep": 1}}'),
        (["a", 1], '["a", 1]'),
        (5, "5"),
        (True, "true"),
        ('{"not": "an exception"}', '{"not": "an exception"}'),
        ("{broken", "{broken"),
        (json.dumps(RAISED), "OutOfMemoryError: out of memory"),
        (json.dumps(RAISED | {"error_type": "<class 'ValueError'>", "error_message": ""}), "ValueError"),
        (json.dumps({"error_message": "x"}), "x"),
        ("handler: bad \ntraceback: Traceback (most recent call last):\n  File", "handler: bad"),
        ("x" * 20_000, "x" * 10_000),
    ],
)
def test_an_error_is_a_sentence(error: object, sentence: str) -> None:
    assert read({"error": error}) == Failed(sentence)


def test_what_the_handler_had_all_the_same_is_kept() -> None:
    assert read({"error": "half done", "output": {"done": [1]}}) == Failed("half done", output={"done": [1]})


def test_a_traceback_goes_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        read({"error": json.dumps(RAISED)})
    (record,) = caplog.records
    assert record.getMessage() == "job job-1: the handler raised OutOfMemoryError: out of memory"
    assert vars(record)["details"] == RAISED["error_traceback"]
