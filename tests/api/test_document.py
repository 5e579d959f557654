"""The OpenAPI document and its page."""

import asyncio
import re
from typing import Any

import pytest

from flux_endpoint.api.app import ROUTES
from flux_endpoint.api.document import Document, describe
from flux_endpoint.core.endpoint import FLUX_ENDPOINTS
from flux_endpoint.service.custom import CustomEndpoint
from tests.api.conftest import DEV, ENDPOINTS, SCHNELL, Gateway

pytestmark = pytest.mark.anyio


# Methods by path.
OPERATIONS = {
    f"{endpoint}/{operation}": methods
    for endpoint in (DEV, SCHNELL, "/v2/echo")
    for operation, methods in {
        "run": ["post"],
        "runsync": ["post"],
        "estimate": ["post"],
        "batch": ["get", "post"],
        "batch/{batch_id}/requests": ["get", "post"],
    }.items()
} | {
    "/v2/endpoints": ["get"],
    "/v2/usage": ["get"],
    "/v2/{endpoint_id}/status/{job_id}": ["get", "post"],
    "/v2/{endpoint_id}/cancel/{job_id}": ["post"],
    "/v2/{endpoint_id}/status-sync/{job_id}": ["get", "post"],
    "/v2/{endpoint_id}/stream/{job_id}": ["get", "post"],
    "/v2/{endpoint_id}/events/{job_id}": ["get"],
    "/v2/{endpoint_id}/requests": ["get"],
    "/v2/{endpoint_id}/batch/{batch_id}": ["get", "put"],
    "/v2/{endpoint_id}/batch/{batch_id}/requests/{request_id}": ["delete"],
    "/v2/{endpoint_id}/batch/{batch_id}/finalize": ["post"],
    "/v2/{endpoint_id}/batch/{batch_id}/cancel": ["post"],
    "/v2/{endpoint_id}/retry/{job_id}": ["post"],
    "/v2/{endpoint_id}/finish/{job_id}": ["post"],
    "/v2/{endpoint_id}/purge-queue": ["post"],
    "/v2/{endpoint_id}/health": ["get"],
    "/v2/billing": ["get"],
    "/v2/billing/endpoints": ["get"],
    "/v2/billing/serverless": ["get"],
    "/v2/serverless": ["get"],
    "/v2/serverless/{endpoint_id}": ["get"],
    "/v2/serverless/{endpoint_id}/workers": ["get"],
    "/graphql": ["post"],
    "/fal/run/{owner}/{app}/{name}": ["post"],
    "/fal/run/{owner}/{app}/{name}/stream": ["post"],
    "/fal/queue/{owner}/{app}/{name}": ["post"],
    "/fal/queue/{owner}/{app}/requests/{request_id}": ["get"],
    "/fal/queue/{owner}/{app}/requests/{request_id}/cancel": ["put"],
    "/fal/queue/{owner}/{app}/requests/{request_id}/status": ["get"],
    "/fal/queue/{owner}/{app}/requests/{request_id}/status/stream": ["get"],
    "/fal/run/{owner}/{app}/{name}/image-to-image": ["post"],
    "/fal/queue/{owner}/{app}/{name}/image-to-image": ["post"],
    "/sdapi/v1/txt2img": ["post"],
    "/sdapi/v1/img2img": ["post"],
    "/sdapi/v1/progress": ["get"],
    "/sdapi/v1/interrupt": ["post"],
    "/sdapi/v1/options": ["get", "post"],
    "/sdapi/v1/sd-models": ["get"],
    "/sdapi/v1/png-info": ["post"],
    "/sdapi/v1/loras": ["get"],
    "/v1/images/generations": ["post"],
    "/v1/images/edits": ["post"],
    "/v2/gpu/release": ["post"],
    "/v1/get_result": ["get"],
    "/v1/models": ["get"],
    "/v1/models/{model}": ["get"],
    "/v1/{model}": ["post"],
    "/v1/models/{owner}/{name}/predictions": ["post"],
    "/v1/predictions": ["get", "post"],
    "/v1/predictions/{prediction_id}": ["get"],
    "/v1/predictions/{prediction_id}/cancel": ["post"],
    "/v1/predictions/{prediction_id}/stream": ["get"],
    "/hf/{model}": ["post"],
    "/images/{key}": ["get"],
    "/readyz": ["get"],
    "/livez": ["get"],
    "/metrics": ["get"],
}


async def test_openapi_describes_every_public_operation(gateway: Gateway) -> None:
    document = (await gateway.get("/openapi.json")).json()
    assert {path: sorted(methods) for path, methods in document["paths"].items()} == OPERATIONS
    says_422 = [path for path, methods in document["paths"].items() if "422" in str(methods) and path.startswith("/v2")]
    assert says_422 == ["/v2/billing/endpoints", "/v2/billing", "/v2/billing/serverless"]
    dev, schnell = (_input_of(document, f"{endpoint}/run") for endpoint in (DEV, SCHNELL))
    assert dev["width"]["multipleOf"] == 64
    assert dev["num_inference_steps"]["default"] == 28
    assert schnell["num_inference_steps"]["maximum"] == 8


def _input_of(document: dict[str, Any], path: str) -> dict[str, Any]:
    body = document["paths"][path]["post"]["requestBody"]
    return body["content"]["application/json"]["schema"]["properties"]["input"]["properties"]


async def test_openapi_page_asks_no_other_host_and_no_other_folder(gateway: Gateway) -> None:
    page = await gateway.get("/docs")
    assert page.status_code == 200
    links = re.findall(r'(?:src|href)="([^"#]*)"', page.text)
    assert len(links) > 5
    for link in {*links, "openapi.json"} - {"./"}:
        assert not link.startswith(("/", "http"))
        assert (await gateway.get(f"/{link}")).status_code == 200, link
    assert "default-src 'none'; script-src 'self'" in page.headers["Content-Security-Policy"]


async def test_openapi_describes_the_input_of_endpoints_of_ones_own() -> None:
    schema = {"required": ["n"], "properties": {"n": {"maximum": 3}}}
    referring = {"properties": {"n": {"$ref": "#/$defs/n"}}, "$defs": {"n": {}}}
    catalog = ENDPOINTS | {
        "small": CustomEndpoint("small", "Small", input_schema=schema),
        "referring": CustomEndpoint("referring", "Referring", input_schema=referring),
    }
    document = describe(ROUTES, catalog.values())
    for operation in ("run", "runsync", "estimate", "batch", "batch/{batch_id}/requests"):
        inputs = {}
        for endpoint_id in ("echo", "small", "referring"):
            body = document["paths"][f"/v2/{endpoint_id}/{operation}"]["post"]["requestBody"]
            submission = body["content"]["application/json"]["schema"]
            if operation.startswith("batch"):
                submission = submission.get("properties", {}).get("requests", submission)["items"]
            inputs[endpoint_id] = submission["properties"]["input"]
        assert inputs == {
            "echo": {"type": "object"},
            "small": schema | {"type": "object"},
            "referring": {"type": "object"},
        }
    # One server's endpoints are not another's.
    assert "/v2/small/run" not in describe(ROUTES, FLUX_ENDPOINTS.values())["paths"]


async def test_the_document_is_made_once() -> None:
    document = Document(ROUTES, FLUX_ENDPOINTS.values())
    first, second = await asyncio.gather(document.read(), document.read())
    assert first is second
