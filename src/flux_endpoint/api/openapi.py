"""The OpenAPI document of a gateway with endpoints of its operator's own."""

import copy
from collections.abc import Collection
from typing import Any, Final

from fastapi import FastAPI

from flux_endpoint.core.catalog import CATALOG
from flux_endpoint.core.endpoint import EndpointSpec

_SUBMISSIONS: Final = ("/v2/{endpoint_id}/run", "/v2/{endpoint_id}/runsync", "/v2/{endpoint_id}/estimate")


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
                body = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
                body["properties"]["input"]["anyOf"] += own
            app.openapi_schema = document
        return app.openapi_schema

    # FastAPI's own way to change the document, which it makes when somebody asks for it.
    app.openapi = describe  # type: ignore[method-assign]


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
