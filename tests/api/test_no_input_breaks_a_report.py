"""Whatever a client sends, the report that ends its job is answered, and the job ends."""

import asyncio
import json
import socket
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from flux_endpoint.api.dialects.runpod.buckets import parse_bucket
from flux_endpoint.core.errors import BucketFailed, InvalidParameter
from flux_endpoint.core.outbound import PUBLIC_ONLY
from flux_endpoint.images.client_bucket import sign_object
from flux_endpoint.outbound.client import GuardedSender
from flux_endpoint.outbound.protocol import Answer
from tests.api.conftest import DEV, ECHO, FakeSender, Gateway, HandWorker, open_gateway

# What breaks paths, URLs, headers and SQL, between letters that do not.
_LETTERS = st.sampled_from("ab/.?#%:@&= \\'\"<>{}|^[]~*-_1\u200b\U0001f600\ud800\x00\n\u00fc")
_WORDS = st.sampled_from(["//", "..", "/./", "/../", "%2f", "%zz", "xn--", "0x", "http://"])
_PIECES = _LETTERS | _WORDS
_TEXT = st.lists(_PIECES, max_size=8).map("".join) | st.text(max_size=20)
_HOST = st.sampled_from(["s3.eu-west-1.amazonaws.com", "a.example", "1.2.3.4", "[2600::1]", "localhost"]) | _TEXT
_SCHEME = st.sampled_from(["https://", "http://", "ftp://", "HTTP://u:p@", ""])
_URL = st.builds("{}{}{}{}".format, _SCHEME, _HOST, st.sampled_from(["", ":1", ":99999", ":x"]), _TEXT)
_ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=8,
)
_BUCKET = st.fixed_dictionaries(
    {
        "accessId": _TEXT,
        "accessSecret": _TEXT,
        "bucketName": st.just("pictures") | _TEXT,
        "endpointUrl": st.just("https://s3.eu-west-1.amazonaws.com") | _URL,
    },
    optional={"objectPath": _TEXT, "region": st.just("eu-west-1") | _TEXT},
)
_POLICY = st.fixed_dictionaries(
    {}, optional={"executionTimeout": st.integers(), "ttl": st.integers() | st.just(10_000), "lowPriority": _ANY_JSON}
)
_FLUX_INPUT = st.fixed_dictionaries(
    {"prompt": st.just("a lake") | _TEXT},
    optional={
        "negative_prompt": _TEXT,
        "seed": st.integers(),
        "guidance": _ANY_JSON,
        "image_format": st.sampled_from(["png", "jpeg", "gif"]),
    },
)
_ENVELOPE = st.fixed_dictionaries(
    {"endpoint": st.sampled_from([DEV, ECHO]), "input": _FLUX_INPUT | st.dictionaries(_TEXT, _ANY_JSON, max_size=3)},
    optional={"s3Config": _BUCKET, "webhook": _URL, "policy": _POLICY},
)
_PLAIN = {
    "accessId": "A",
    "accessSecret": "B",
    "bucketName": "pics",
    "endpointUrl": "https://s3.eu-west-1.amazonaws.com",
}


class UnconnectedSender(FakeSender):
    """The real way out, up to the look-up of names, which finds none."""

    def __init__(self) -> None:
        super().__init__()
        self._guarded = GuardedSender(PUBLIC_ONLY, "flux-endpoint/test", self._look_up)

    def _look_up(self, host: str, port: int) -> Sequence[tuple[Any, ...]]:
        raise socket.gaierror(socket.EAI_NONAME, "not found")

    async def send(self, method: str, url: str, headers: Mapping[str, str], body: bytes, timeout_s: float) -> Answer:
        return await self._guarded.send(method, url, headers, body, timeout_s)


@pytest.fixture(scope="module")
def opened() -> Iterator[tuple[asyncio.Runner, Gateway]]:
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner() as runner:
        place = open_gateway(Path(folder), UnconnectedSender())
        yield runner, runner.run(place.__aenter__())
        runner.run(place.__aexit__(None, None, None))


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(body=_ENVELOPE)
@example(body={"endpoint": DEV, "input": {"prompt": "x"}, "s3Config": _PLAIN | {"objectPath": "2026//lakes"}})
@example(body={"endpoint": DEV, "input": {"prompt": "x"}, "s3Config": _PLAIN | {"objectPath": ".."}})
@example(body={"endpoint": DEV, "input": {"prompt": "x"}, "s3Config": _PLAIN | {"endpointUrl": "http://1.2.3.4.5"}})
@example(body={"endpoint": DEV, "input": {"prompt": "x"}, "webhook": "http://a..b"})
def test_no_input_of_a_client_breaks_the_report_of_its_job(
    opened: tuple[asyncio.Runner, Gateway], body: dict[str, Any]
) -> None:
    runner, gateway = opened
    runner.run(_live_through(gateway, dict(body)))


async def _live_through(gateway: Gateway, body: dict[str, Any]) -> None:
    endpoint = body.pop("endpoint")
    # Escaped: some of it no text in UTF-8 can hold.
    content = json.dumps(body).encode()
    accepted = await gateway.client.post(
        f"{endpoint}/run", content=content, headers={"Content-Type": "application/json"}
    )
    assert accepted.status_code in (200, 400), accepted.text
    if accepted.status_code == 400:
        return
    worker = HandWorker(gateway.client, endpoint=endpoint)
    job = await worker.take()
    assert job is not None
    assert job["id"] == accepted.json()["id"]
    reported = await (worker.deliver(job) if endpoint == DEV else worker.done(job, {"output": "done"}))
    assert reported.status_code == 200, reported.text
    await gateway.settle()
    status = await gateway.get(f"{endpoint}/status/{job['id']}")
    assert status.status_code == 200, status.text
    assert status.json()["status"] in ("COMPLETED", "FAILED")
    await gateway.send_due()


@settings(deadline=None, max_examples=300)
@given(config=_BUCKET)
def test_what_the_door_lets_in_can_be_signed_or_is_a_failure_of_the_bucket(config: dict[str, str]) -> None:
    try:
        checked = parse_bucket(config)
    except InvalidParameter as error:
        assert error.field.startswith("s3Config.")
        return
    assert checked is not None
    try:
        signed = sign_object(checked, "job.png")
    except BucketFailed:
        # Only a host can be one that no URL has; the rest was read by the rule that the signer has.
        sign_object(replace(checked, endpoint_url="https://a.example"), "job.png")
        return
    assert "/job.png?X-Amz-Algorithm=" in signed.put_url
