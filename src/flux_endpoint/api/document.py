"""What the OpenAPI document says beyond what FastAPI reads from the routes."""

from collections.abc import Collection
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from flux_endpoint.api import schemas
from flux_endpoint.core.endpoint import EndpointSpec

JsonObject = dict[str, Any]

# FastAPI announces this on every route; ours check by hand, and the few that answer 422 say when.
_NEVER_SENT: Final = "Validation Error"
_ENDPOINT: Final = "{endpoint_id}"
# What a client may do with the id that a submission is answered with.
_FOLLOWING: Final = tuple(f"runpod_{name}" for name in ("status", "status_sync", "stream", "cancel", "retry"))


def operation_id(route: APIRoute) -> str:
    """The name of a route in the document, for generated clients: that of its file and function."""
    module = route.endpoint.__module__.rpartition(".")[2].replace("jobs", "runpod")
    return f"{module}_{route.name}"


def describe(app: FastAPI, specs: Collection[EndpointSpec]) -> JsonObject:
    """The OpenAPI document of an application, made once.

    Submissions get one path for each endpoint, because each has its own input; all else is told once.

    Args:
        app: with all its routes.
        specs: the endpoints served here.
    """
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        document["paths"] = {
            concrete: operations
            for path, described in document["paths"].items()
            for concrete, operations in _expanded(path, described, specs)
        }
        for operations in document["paths"].values():
            for operation in operations.values():
                _complete(operation, sorted(spec.endpoint_id for spec in specs))
        for name in ("HTTPValidationError", "ValidationError"):
            document.get("components", {}).get("schemas", {}).pop(name, None)
        app.openapi_schema = document
    return app.openapi_schema


def _expanded(path: str, operations: JsonObject, specs: Collection[EndpointSpec]) -> list[tuple[str, JsonObject]]:
    if not _holds_submission(operations):
        return [(path, operations)]
    return [(path.replace(_ENDPOINT, spec.endpoint_id), _of_endpoint(spec, operations)) for spec in specs]


def _holds_submission(value: Any) -> bool:
    if isinstance(value, dict):
        return value == schemas.SUBMISSION_PLACE or any(map(_holds_submission, value.values()))
    return isinstance(value, list) and any(map(_holds_submission, value))


def _of_endpoint(spec: EndpointSpec, operations: JsonObject) -> JsonObject:
    described: JsonObject = _filled(operations, schemas.submission_schema(spec))
    for operation in described.values():
        operation["operationId"] += "_" + spec.endpoint_id.replace("-", "_")
        operation["summary"] += f": {spec.display_name}"
        operation["parameters"] = [given for given in operation["parameters"] if given["name"] != "endpoint_id"]
        if schemas.is_job(operation["responses"]["200"]):
            operation["responses"]["200"]["links"] = {
                name: {
                    "operationId": name,
                    "parameters": {"endpoint_id": spec.endpoint_id, "job_id": "$response.body#/id"},
                }
                for name in _FOLLOWING
            }
    return described


def _filled(value: Any, submission: JsonObject) -> Any:
    """A copy with the submission in each of its places."""
    if value == schemas.SUBMISSION_PLACE:
        return submission
    if isinstance(value, dict):
        return {name: _filled(item, submission) for name, item in value.items()}
    return [_filled(item, submission) for item in value] if isinstance(value, list) else value


def _complete(operation: JsonObject, endpoint_ids: list[str]) -> None:
    responses = operation["responses"]
    operation["responses"] = {
        status: responses[status] for status in sorted(responses) if responses[status]["description"] != _NEVER_SENT
    }
    for parameter in operation.get("parameters", []):
        if parameter["in"] == "path" and parameter["name"] == "endpoint_id":
            parameter["schema"]["enum"] = endpoint_ids
