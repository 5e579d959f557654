"""Endpoints that an operator declares in a file."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from flux_endpoint.core.clock import ManualClock
from flux_endpoint.core.errors import InvalidParameter, SettingsError
from flux_endpoint.core.job import Completed
from flux_endpoint.core.pricing import Price, PriceUnit
from flux_endpoint.service.custom import CustomEndpoint
from flux_endpoint.wiring.endpoints_file import read_endpoints_file
from tests.contract.samples import sample_job

FULL = """
[[endpoint]]
id = "upper-case"
name = "Upper case"
description = "Shouts."
price_usd = 0.001

[endpoint.input_schema]
type = "object"
required = ["text"]
additionalProperties = false

[endpoint.input_schema.properties]
text = {type = "string", minLength = 1, maxLength = 5}
times = {type = "integer", minimum = 1, maximum = 3}
speed = {type = "number", multipleOf = 0.5}
how = {enum = ["loud", "soft"]}
spots = {type = "array", items = {type = "object", required = ["x"], properties = {x = {type = "number"}}}}

[[endpoint]]
id = "anything"
"""


def write(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "endpoints.toml"
    file.write_text(text)
    return file


@pytest.fixture
def upper(tmp_path: Path) -> CustomEndpoint:
    return read_endpoints_file(write(tmp_path, FULL), ())[0]


def test_a_file_declares_endpoints(tmp_path: Path) -> None:
    upper, anything = read_endpoints_file(write(tmp_path, FULL), ())
    assert (upper.endpoint_id, upper.display_name, upper.description) == ("upper-case", "Upper case", "Shouts.")
    assert upper.price == Price(Decimal("0.001"), PriceUnit.JOB)
    assert (anything.endpoint_id, anything.display_name, anything.description) == ("anything", "anything", "")
    assert anything.price == Price(Decimal(0), PriceUnit.JOB)
    assert anything.input_schema == {"type": "object"}


def test_what_a_client_sends_reaches_the_worker_as_it_is(upper: CustomEndpoint) -> None:
    accepted = upper.accept({"text": "hello", "times": 2})
    assert (accepted.input, accepted.cost_usd) == ({"text": "hello", "times": 2}, Decimal("0.001"))
    without_schema = CustomEndpoint("x", "x")
    assert without_schema.accept({"a": [None, {}]}).input == {"a": [None, {}]}
    assert without_schema.accept({}).cost_usd == 0


@pytest.mark.parametrize("output", [None, {}, [], "text", 5, False, {"a": None}])
def test_every_output_completes_a_job(upper: CustomEndpoint, output: Any) -> None:
    assert upper.conclude(sample_job(ManualClock(0)), output) == Completed(output)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({}, "text is required"),
        ({"text": 5}, "text must be a string"),
        ({"text": ""}, "text must have at least 1 characters"),
        ({"text": "too long"}, "text must have at most 5 characters"),
        ({"text": "a", "times": 4}, "times must be at most 3"),
        ({"text": "a", "times": 0}, "times must be at least 1"),
        ({"text": "a", "times": 1.5}, "times must be an integer"),
        ({"text": "a", "speed": 0.7}, "speed must be divisible by 0.5"),
        ({"text": "a", "how": "hoarse"}, "how must be one of 'loud', 'soft'"),
        ({"text": "a", "spots": [{"x": 1}, {}]}, "spots[1].x is required"),
        ({"text": "a", "spots": [{"x": "1"}]}, "spots[0].x must be a number"),
        ({"text": "a", "voice": 1}, "input is not as its schema wants it: Additional properties are not allowed"),
    ],
)
def test_wrong_input_is_refused_with_field_and_limit(upper: CustomEndpoint, fields: dict, problem: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        upper.accept(fields)
    assert str(caught.value).startswith(f"Invalid parameter: {problem}")
    assert len(str(caught.value)) < 500


def test_a_schema_may_be_a_file_beside_it(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"n": {"$ref": "#/$defs/small"}}, "$defs": {"small": {"maximum": 3}}}
    (tmp_path / "n.json").write_text(json.dumps(schema))
    (endpoint,) = read_endpoints_file(write(tmp_path, '[[endpoint]]\nid = "n"\ninput_schema = "n.json"'), ())
    endpoint.accept({"n": 3})
    with pytest.raises(InvalidParameter, match="n must be at most 3"):
        endpoint.accept({"n": 4})


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[[endpoint]\nid = 1", "line 1"),
        ("id = 'x'", "[[endpoint]] tables and nothing else, not id"),
        ("endpoint = 5", "[[endpoint]] tables"),
        ("endpoint = [5]", "[[endpoint]] tables"),
        ("[[endpoint]]\nname = 'x'", "number 1: id is required"),
        ("[[endpoint]]\nid = 5", "number 1: id must be a string"),
        ("[[endpoint]]\nid = 'a,b'", "(id 'a,b'): id must be 1 to 100 letters"),
        ("[[endpoint]]\nid = 'flux'", "id is 'flux', which is taken already"),
        ("[[endpoint]]\nid = 'a'\n[[endpoint]]\nid = 'a'", "number 2 (id 'a'): id is 'a', which is taken already"),
        ("[[endpoint]]\nid = 'a'\nprice = 1", "price is unknown; known are id, name"),
        ("[[endpoint]]\nid = 'a'\nprice_usd = '1'", "price_usd must be a number"),
        ("[[endpoint]]\nid = 'a'\nprice_usd = true", "price_usd must be a number"),
        ("[[endpoint]]\nid = 'a'\nprice_usd = nan", "price_usd must be between 0 and 1000"),
        ("[[endpoint]]\nid = 'a'\nprice_usd = -0.1", "price_usd must be between 0 and 1000"),
        ("[[endpoint]]\nid = 'a'\nprice_usd = 1e-9", "price_usd must have at most 8 decimals"),
        ("[[endpoint]]\nid = 'a'\ninput_schema = 5", "input_schema must be a table"),
        ("[[endpoint]]\nid = 'a'\ninput_schema = 'no.json'", "cannot be read: No such file"),
        ("[[endpoint]]\nid = 'a'\ninput_schema = 'endpoints.toml'", "which is not JSON"),
        ("[[endpoint]]\nid = 'a'\ninput_schema = {type = 'objct'}", "input_schema is no JSON schema that can be used"),
        ("[[endpoint]]\nid = 'a'\ninput_schema = {'$ref' = '#/x'}", "a $ref leads nowhere: Pointer '/x'"),
        ("[[endpoint]]\nid = 'a'\ninput_schema = {'$ref' = 'http://x.example/'}", "leads out of the schema"),
    ],
)
def test_a_wrong_file_is_refused_with_the_place(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_endpoints_file(write(tmp_path, text), {"flux"})
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"ENDPOINTS_FILE .* cannot be read: No such file"):
        read_endpoints_file(tmp_path / "none.toml", ())
