"""Whatever JSON a worker sends: its client gets it as it was sent, or the job FAILED with the reason of the refusal."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.api.conftest import ECHO, Gateway, ThirdPartyWorker

pytestmark = pytest.mark.anyio

LONGEST, TOO_LONG = "9" * 4_300, "9" * 4_301
# Each with what the refusal says of it; an empty text for what is taken.
GOOD = st.sampled_from(["1", "1.0", "true", '"\\ud800"', '"\\u0000"', "18446744073709551615", "-0.0", LONGEST])
BAD = {"NaN": "contains NaN", "-Infinity": "contains -Infinity", "1e999": "too large", TOO_LONG: "4300 digits"}
BAD |= {"[" * 101 + "]" * 101: "not valid JSON", "nul": "not valid JSON"}
TEXTS = st.recursive(
    GOOD | st.text('aø猫\n"\\\x00').map(json.dumps) | st.integers().map(str) | st.sampled_from(list(BAD)),
    lambda texts: st.lists(texts, min_size=1).map(lambda some: f"[{','.join(some)}]"),
    max_leaves=4,
)


def value_of(text: str) -> Any:
    """None for what is refused."""
    return None if any(bad in text for bad in BAD) else json.loads(text)


def each_bad(test: Any) -> Any:
    for text in (*BAD, LONGEST, f"[[{TOO_LONG}]]"):
        test = example(text=text)(test)
    return test


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=TEXTS)
@each_bad
async def test_a_result_comes_back_or_fails_the_job(gateway: Gateway, text: str) -> None:
    third_party = ThirdPartyWorker(gateway)
    job_id = (await gateway.post(f"{ECHO}/run", {"input": {}})).json()["id"]
    await third_party.take()
    reply = await third_party.post("job-done", job_id, b'{"output": ' + text.encode() + b"}")
    job = (await gateway.get(f"{ECHO}/status/{job_id}")).json()
    value = value_of(text)
    if value is None:
        assert (reply.status_code, job["status"]) == (400, "FAILED")
        assert job["error"] == f"the worker's result was refused: {reply.json()['error']}"
        assert any(bad in text and words in job["error"] for bad, words in BAD.items())
    else:
        assert (reply.status_code, job["status"]) == (200, "COMPLETED")
        assert json.dumps(job["output"]) == json.dumps(value)
