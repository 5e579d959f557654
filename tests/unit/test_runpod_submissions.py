"""`submissions`: every rule and message about what stands around `input`."""

import json
from dataclasses import replace

import pytest

from flux_endpoint.api.dialects.runpod.buckets import s3_config_of
from flux_endpoint.api.dialects.runpod.submissions import fingerprint, read_submission
from flux_endpoint.core.bucket import Bucket
from flux_endpoint.core.errors import InvalidRequest
from flux_endpoint.core.job import Policy
from flux_endpoint.core.outbound import PUBLIC_ONLY
from flux_endpoint.core.submission import Submission
from flux_endpoint.service.custom import CustomEndpoint

S3 = {"accessId": "id", "accessSecret": "secret", "bucketName": "b", "endpointUrl": "https://s3.example"}
BUCKET = Bucket("https://s3.example", "b", "id", "secret", field="s3Config", url_field="s3Config.endpointUrl")
ECHO = CustomEndpoint("echo", "Echo")
COST_USD = ECHO.accept({}).cost_usd


def read(body):
    return read_submission(json.dumps(body).encode(), ECHO, PUBLIC_ONLY, False)


def problem_with(body):
    with pytest.raises(InvalidRequest) as caught:
        read(body)
    return str(caught.value)


def test_an_input_is_enough_and_unknown_keys_are_told():
    body = {"input": {"prompt": "x"}, "timeout": 60_000, "other": None}
    assert read(body) == Submission({"prompt": "x"}, COST_USD)
    warnings = ("webhookV2: did you mean webhook?", "a: not known here")
    assert read(body | {"webhookV2": 7, "a": 0}) == Submission({"prompt": "x"}, COST_USD, warnings=warnings)


def test_every_part_is_taken_as_it_was_sent():
    body = {
        "input": {},
        "policy": {"executionTimeout": 5_000, "ttl": 604_800_000.0, "lowPriority": True, "other": 1},
        "webhook": "http://hooks.example:8080/a?b=c",
        "s3Config": S3 | {"objectPath": "pictures/a", "regoin": "x"},
    }
    assert read(body) == Submission(
        {},
        COST_USD,
        Policy(execution_timeout_ms=5_000, ttl_ms=604_800_000, low_priority=True),
        "http://hooks.example:8080/a?b=c",
        replace(BUCKET, path="pictures/a"),
        warnings=("policy.other: not known here", "s3Config.regoin: did you mean region?"),
    )


def test_null_counts_as_absent():
    body = {"input": {}, "policy": None, "webhook": None, "s3Config": None}
    assert read(body) == read({"input": {}, "webhook": ""}) == Submission({}, COST_USD)
    nulls = {"executionTimeout": None, "ttl": None, "lowPriority": None}
    assert read({"input": {}, "policy": nulls}).policy == Policy()


@pytest.mark.parametrize("body", [None, [], "x", 1])
def test_a_body_must_be_an_object_with_an_input(body):
    assert problem_with(body) == "Invalid request: the body must be a JSON object with the key 'input'"
    assert problem_with({"input": body}) == "Invalid request: 'input' must be a JSON object"
    assert problem_with({}) == "Invalid request: the body has no 'input'"


@pytest.mark.parametrize(
    ("policy", "problem"),
    [
        ([], "policy must be a JSON object"),
        ({"executionTimeout": 4_999}, "policy.executionTimeout must be between 5000 and 604800000 milliseconds"),
        ({"executionTimeout": 604_800_001}, "policy.executionTimeout must be between 5000 and 604800000 milliseconds"),
        ({"executionTimeout": "5000"}, "policy.executionTimeout must be an integer (milliseconds)"),
        ({"executionTimeout": True}, "policy.executionTimeout must be an integer (milliseconds)"),
        ({"executionTimeout": 5_000.5}, "policy.executionTimeout must be an integer (milliseconds)"),
        ({"ttl": 9_999}, "policy.ttl must be between 10000 and 604800000 milliseconds"),
        ({"ttl": 604_800_001}, "policy.ttl must be between 10000 and 604800000 milliseconds"),
        ({"lowPriority": 1}, "policy.lowPriority must be true or false"),
    ],
)
def test_policy(policy, problem):
    assert problem_with({"input": {}, "policy": policy}) == f"Invalid parameter: {problem}"


@pytest.mark.parametrize(
    "url",
    [
        7,
        "ftp://a.example",
        "https://",
        "/path",
        "a.example/hook",
        "https://a.example/ü",
        "https://a.example/a b",
        "https://a.example:0/",
        "https://a.example:99999/",
        "https://[::1",
        "https://a.example/" + "a" * 2_000,
    ],
)
def test_a_webhook_must_be_a_url(url):
    expected = "must be an http:// or https:// URL of at most 2000 characters"
    assert problem_with({"input": {}, "webhook": url}) == f"Invalid parameter: webhook {expected}"
    s3 = S3 | {"endpointUrl": url}
    if isinstance(url, str) and len(url) <= 1_000:
        assert problem_with({"input": {}, "s3Config": s3}) == f"Invalid parameter: s3Config.endpointUrl {expected}"


@pytest.mark.parametrize("name", S3)
def test_a_bucket_needs_all_four_keys(name):
    lacking = {key: value for key, value in S3.items() if key != name}
    assert problem_with({"input": {}, "s3Config": lacking}) == f"Invalid parameter: s3Config.{name} is required"


@pytest.mark.parametrize("value", ["", 7, "a\nb", "a" * 1_001, {}])
@pytest.mark.parametrize("name", ["bucketName", "objectPath"])
def test_a_buckets_keys_are_short_printable_text(name, value):
    expected = f"Invalid parameter: s3Config.{name} must be a string of 1 to 1000 printable characters"
    assert problem_with({"input": {}, "s3Config": S3 | {name: value}}) == expected
    assert problem_with({"input": {}, "s3Config": []}) == "Invalid parameter: s3Config must be a JSON object"


@pytest.mark.parametrize("path", ["2026//lakes", "..", ".", "a/./b", "a/../b", "a/..", "./a"])
def test_an_object_path_has_no_part_that_is_none(path):
    found = problem_with({"input": {}, "s3Config": S3 | {"objectPath": path}})
    assert found == "Invalid parameter: s3Config.objectPath must have no empty part and none that is '.' or '..'"


@pytest.mark.parametrize(
    "name", ["a?b", "a#b", "a..b", "..", ".", "a/b", "a b", "%2e", "b\u00fccher", ".a", "a.", "a" * 256]
)
def test_a_bucket_is_called_as_buckets_are(name):
    found = problem_with({"input": {}, "s3Config": S3 | {"bucketName": name}})
    assert found is not None
    assert found.startswith("Invalid parameter: s3Config.bucketName must be letters, digits, '-', '_' and single dots")


@pytest.mark.parametrize("name", ["pictures", "my.pictures.2026", "A_b-c", "a" * 255])
def test_buckets_of_all_ages_are_taken(name):
    config = S3 | {"bucketName": name, "objectPath": "/a b//"}
    assert read({"input": {}, "s3Config": config}).bucket == replace(BUCKET, name=name, path="/a b//")


def test_the_rest_of_a_bucket():
    for url in ("https://s3.example/?a=b", "https://s3.example#a"):
        found = problem_with({"input": {}, "s3Config": S3 | {"endpointUrl": url}})
        assert found == "Invalid parameter: s3Config.endpointUrl must have no '?' and no '#'"
    for region in ("a b", "us/east", "x" * 65):
        found = problem_with({"input": {}, "s3Config": S3 | {"region": region}})
        assert found == "Invalid parameter: s3Config.region must be 1 to 64 letters, digits, '-' or '_'"
    assert read({"input": {}, "s3Config": S3 | {"region": None, "objectPath": None}}).bucket == BUCKET
    assert s3_config_of(replace(BUCKET, region="eu")) == S3 | {"region": "eu"}


def test_a_fingerprint_does_not_see_the_order_of_keys_and_sees_everything_else():
    body = {"input": {"a": 1, "b": [1, 2]}}
    assert fingerprint(body) == fingerprint({"input": {"b": [1, 2], "a": 1}})
    assert fingerprint(body) != fingerprint({"input": {"b": [2, 1], "a": 1}})
    assert fingerprint(body) != fingerprint({"input": {"b": [1, 2], "a": "1"}})
