"""The OpenAPI document of a gateway with endpoints of its operator's own."""

import copy
from collections.abc import Collection
from typing import Any, Final

from fastapi import FastAPI

from flux_endpoint.core.catalog import CATALOG
from flux_endpoint.core.endpoint import EndpointSpec

_SUBMISSIONS: Final = (
    "/v2/{endpoint_id}/run",
    "/v2/{endpoint_id}/runsync",
    "/v2/{endpoint_id}/estimate",
    "/v2/{endpoint_id}/batch",
    "/v2/{endpoint_id}/batch/{batch_id}/requests",
)


def describe_own_endpoints(app: FastAPI, specs: Collection[EndpointSpec]) -> None:
    """Add the input of every endpoint that is not in the catalogue to what the routes for submissions accept."""
    own = [_input_schema(spec) for spec in specs if spec.endpoint_id not in CATALOG]
    if not own:
        return
    describe_the_rest = app.openapi

    def describe() -> dict[str, Any]:
        if app.openapi_schema is None:
            # A copy: parts of it are shared with every other application of this process.
            document = copy.deepcopy(describe_the_rest())
            for path in _SUBMISSIONS:
                _submission_in(_body_schema(document, path))["properties"]["input"]["anyOf"] += own
            app.openapi_schema = document
        return app.openapi_schema

    # FastAPI's own way to change the document, which it makes when somebody asks for it.
    app.openapi = describe  # type: ignore[method-assign]


def _body_schema(document: dict[str, Any], path: str) -> dict[str, Any]:
    schema: dict[str, Any] = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    return schema


def _submission_in(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of one submission in that of a body, which may be a list of them or hold one."""
    if "items" in schema:
        return _submission_in(schema["items"])
    return _submission_in(schema["properties"]["requests"]) if "requests" in schema["properties"] else schema


def _input_schema(spec: EndpointSpec) -> dict[str, Any]:
    schema = dict(spec.input_schema or {})
    if _has_references(schema):
        # They point into the operator's schema, and would point into this document.
        schema = {}
    return schema | {"type": "object", "title": f"{spec.display_name} input (endpoint {spec.endpoint_id})"}


def _has_references(value: Any) -> bool:
    if isinstance(value, dict):
        return any(name in ("$ref", "$dynamicRef") or _has_references(item) for name, item in value.items())
    return isinstance(value, list) and any(_has_references(item) for item in value)
