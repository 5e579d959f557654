"""What a worker may send as a result or a chunk comes back as it was sent, on every database."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from flux_endpoint.core.job import Completed, Failed
from tests.contract.samples import DEV, LEASE_S, sample_job

pytestmark = pytest.mark.anyio

# All that `decode_json` lets through: numbers of up to 4,300 digits, lone surrogates and U+0000 in texts.
LARGEST = 10**4_300 - 1
NUMBERS = st.integers() | st.integers(-LARGEST, LARGEST) | st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text(st.characters(codec=None, exclude_categories=()))
SCALARS = st.none() | st.booleans() | NUMBERS | TEXTS
VALUES = st.recursive(SCALARS, lambda some: st.lists(some) | st.dictionaries(TEXTS, some), max_leaves=10)


def spelled(value: Any) -> str:
    """Tells 1 from 1.0 and from true, which Python calls equal."""
    return json.dumps(value)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=VALUES, error=st.booleans())
@example(value=12345678901234567890, error=False)
@example(value=2**64 - 1, error=True)
@example(value=10**400, error=False)
@example(value=1.0, error=False)
@example(value=-0.0, error=False)
@example(value=5e-324, error=False)
@example(value="123", error=False)
@example(value="Infinity", error=False)
async def test_any_json_value_comes_back_as_it_was_sent(stores, clock, value, error):
    job = await stores.jobs.enqueue(sample_job(clock))
    (claim,) = await stores.claims.claim("worker-a", [DEV], 1, LEASE_S)
    if value is not None:
        await stores.claims.append_chunk(job.id, "worker-a", claim.token, value)
        await stores.claims.set_progress(job.id, "worker-a", claim.token, {"output": value})
        assert spelled((await stores.jobs.get(DEV, job.id)).progress) == spelled({"output": value})
        assert spelled((await stores.jobs.take_chunks(DEV, job.id, "key", 0))[1]) == spelled([value])
    await stores.claims.finish(job.id, "worker-a", claim.token, Failed("no", value) if error else Completed(value))
    assert spelled((await stores.jobs.get(DEV, job.id)).output) == spelled(value)
