"""Every form in which clients send a key opens every dialect, and a missing key is told in the dialect's own shape."""

import base64
from typing import Any

import pytest

from tests.api.conftest import API_KEY, DEV, Gateway

pytestmark = pytest.mark.anyio


def basic(credentials: str) -> str:
    return "Basic " + base64.b64encode(credentials.encode()).decode()


# What clients send beside nothing else.
FORMS = [
    {"Authorization": API_KEY},
    {"Authorization": f"Bearer {API_KEY}"},
    {"Authorization": f"bearer  {API_KEY} "},
    {"Authorization": f"Key {API_KEY}"},
    {"Authorization": basic(f"me:{API_KEY}")},
    {"Authorization": basic(f":{API_KEY}")},
    {"x-key": API_KEY},
]
WRONG = [
    {},
    {"Authorization": "Key"},
    {"Authorization": f"Key me:{API_KEY}"},
    {"Authorization": f"Basic {API_KEY}"},
    {"Authorization": basic(API_KEY)},
    {"Authorization": basic(f"{API_KEY}:")},
    {"Authorization": "Basic " + base64.b64encode(b"me:\xff").decode()},
    {"Authorization": "Basic ä:ü".encode()},
    {"Authorization": f"Token {API_KEY}"},
    {"x-key": f"Bearer {API_KEY} too"},
]
# A cheap question of every dialect, and what a refusal looks like there, beside its text.
DIALECTS: dict[str, tuple[str, str, set[str]]] = {
    "runpod": ("GET", f"{DEV}/health", {"error"}),
    "openai": ("GET", "/v1/models", {"error"}),
    "huggingface": ("POST", "/hf/flux-dev", {"error"}),
    "bfl": ("POST", "/v1/flux-dev", {"detail"}),
    "replicate": ("GET", "/v1/predictions", {"title", "detail", "status", "type"}),
}


async def ask(gateway: Gateway, method: str, path: str, headers: dict[str, Any]) -> Any:
    # The client of these tests would add its own.
    gateway.client.headers.pop("Authorization", None)
    return await gateway.client.request(method, path, headers=headers, json={} if method == "POST" else None)


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_key_opens_every_dialect_in_every_form(gateway: Gateway, dialect: str) -> None:
    method, path, _ = DIALECTS[dialect]
    for headers in FORMS:
        reply = await ask(gateway, method, path, headers)
        # What is posted is no request for a picture: the key was right where that is what is told.
        assert reply.status_code in ((200,) if method == "GET" else (400, 422)), (headers, reply.text)


async def test_what_only_looks_like_a_key_opens_nothing_and_is_not_repeated(gateway: Gateway) -> None:
    for headers in WRONG:
        reply = await ask(gateway, "GET", f"{DEV}/health", headers)
        assert (reply.status_code, list(reply.json())) == (401, ["error"]), headers
        assert API_KEY not in reply.text


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_missing_key_is_told_in_the_shape_of_the_dialect(gateway: Gateway, dialect: str) -> None:
    method, path, keys = DIALECTS[dialect]
    reply = await ask(gateway, method, path, {})
    assert (reply.status_code, set(reply.json())) == (401, keys)
    assert "API key" in reply.text
