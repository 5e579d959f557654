"""What is served here, told to everybody; and the page that lives from it."""

import re

import pytest

from flux_endpoint.api.pages import CONTENT_SECURITY_POLICY
from flux_endpoint.core.catalog import FLUX_DEV
from tests.api.conftest import DEV, Gateway

pytestmark = pytest.mark.anyio


async def test_the_catalogue_tells_limits_and_prices_without_a_key(gateway: Gateway) -> None:
    reply = await gateway.get("/v2/endpoints", headers={"Authorization": ""})
    assert reply.status_code == 200
    dev, schnell, own = reply.json()
    assert dev["id"] == DEV.removeprefix("/v2/")
    assert (dev["name"], dev["price"], dev["makesPictures"]) == ("Flux Dev", {"usdPerMegapixel": 0.02}, True)
    assert dev["input"]["required"] == ["prompt"]
    steps = dev["input"]["properties"]["num_inference_steps"]
    assert (steps["minimum"], steps["maximum"], steps["default"]) == (1, 50, 28)
    assert schnell["input"]["properties"]["num_inference_steps"]["default"] == 4
    assert dev["description"] == FLUX_DEV.description
    assert dev["readme"] and dev["examples"]
    assert dev["isEmbeddedModel"] is False
    assert dev["loras"] == own["loras"] == []
    assert (own["makesPictures"], list(own["price"]), own["input"]["type"]) == (False, ["usdPerJob"], "object")


async def test_the_openapi_document_describes_every_key_of_the_catalogue(gateway: Gateway) -> None:
    document = (await gateway.get("/openapi.json")).json()
    schema = document["paths"]["/v2/endpoints"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    for entry in (await gateway.get("/v2/endpoints")).json():
        assert set(schema["items"]["required"]) == set(entry)
    # Only of the embedded model, which this gateway does not serve: see tests/system/test_pictures.py.
    assert set(schema["items"]["properties"]) - set(schema["items"]["required"]) == {"vocabulary", "gallery"}


async def test_the_words_of_the_embedded_model_are_kept_by_caches(gateway: Gateway) -> None:
    reply = await gateway.get("/embedded/vocabulary.json", headers={"Authorization": ""})
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["cache-control"] == "public, max-age=3600"
    assert set(reply.json()) == {"words", "nearest", "torn"}
    known = await gateway.get("/embedded/vocabulary.json", headers={"If-None-Match": reply.headers["etag"]})
    assert (known.status_code, known.content) == (304, b"")
    for name in ("README.md", "model_index.json", "..%2fREADME.md"):
        assert (await gateway.get(f"/embedded/{name}")).status_code == 404


@pytest.mark.parametrize("name", ["", "usage"])
async def test_the_pages_and_every_file_they_name_are_served_under_the_policy(gateway: Gateway, name: str) -> None:
    page = await gateway.get(f"/{name}")
    assert page.status_code == 200
    names = re.findall(r'(?:href|src)="(playground/[^"]+)"', page.text)
    assert len(names) > 4
    for path in [name, *names]:
        reply = await gateway.get(f"/{path}")
        assert reply.status_code == 200, path
        assert reply.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
        assert reply.headers["x-content-type-options"] == "nosniff"
    assert not re.search(r"https?://", page.text)
    # Neither inline scripts nor inline styles: the policy forbids them.
    assert not re.search(r"<style|style=|<script(?![^>]*src=)|\son\w+=", page.text)


async def test_modules_have_the_type_that_browsers_insist_on(gateway: Gateway) -> None:
    reply = await gateway.get("/playground/main.js")
    assert reply.headers["content-type"] == "text/javascript; charset=utf-8"
    known = await gateway.get("/playground/main.js", headers={"If-None-Match": reply.headers["etag"]})
    assert (known.status_code, known.content) == (304, b"")


@pytest.mark.parametrize("name", ["nothing.js", "..%2fapp.py", "%2e%2e/app.py"])
async def test_only_the_files_of_the_page_are_served(gateway: Gateway, name: str) -> None:
    assert (await gateway.get(f"/playground/{name}")).status_code == 404


async def test_the_policy_lets_nothing_in_from_elsewhere() -> None:
    rules = dict(rule.split(" ", 1) for rule in CONTENT_SECURITY_POLICY.split("; "))
    assert rules["default-src"] == "'none'"
    assert {rules[name] for name in ("script-src", "style-src", "connect-src")} == {"'self'"}
    assert "unsafe" not in CONTENT_SECURITY_POLICY and "*" not in CONTENT_SECURITY_POLICY
