"""What the OpenAPI documents of all operations have in common."""

from typing import Any, Final

from flux_endpoint.core.catalog import FLUX_DEV

JsonObject = dict[str, Any]

ENDPOINT_PARAMETER_EXAMPLE: Final = FLUX_DEV.endpoint_id
ERROR_SCHEMA: Final[JsonObject] = {
    "type": "object",
    "properties": {"error": {"type": "string"}},
    "required": ["error"],
}
IDEMPOTENCY_PARAMETER: Final[JsonObject] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "For 24 hours the same key and body get the same job; with another body, 409.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]([ -~]*[!-~])?$"},
}


def json_response(description: str, schema: JsonObject) -> dict[str, Any]:
    """One entry of an OpenAPI `responses` table."""
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def object_schema(properties: JsonObject, *optional: str) -> JsonObject:
    """JSON schema of an object that has all of its properties but, perhaps, the optional ones."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required}


def too_many_response() -> dict[str, Any]:
    """OpenAPI response of a limit on how much may be asked in a time."""
    seconds = {"description": "Whole seconds after which to try again.", "schema": {"type": "integer", "minimum": 1}}
    response = json_response("A rate limit is reached; nothing was done.", ERROR_SCHEMA)
    return response | {"headers": {"Retry-After": seconds}}


def query_parameter(name: str, schema: JsonObject, description: str) -> JsonObject:
    """One entry of an OpenAPI `parameters` list: a query that the route checks by hand."""
    return {"name": name, "in": "query", "schema": schema, "description": description}


# Of operations that want an API key.
ERRORS: Final[dict[int | str, JsonObject]] = {
    401: json_response("The API key is missing, unknown or revoked.", ERROR_SCHEMA),
    403: json_response("The API key does not open this operation or endpoint.", ERROR_SCHEMA),
    404: json_response("No such endpoint or job.", ERROR_SCHEMA),
    429: too_many_response(),
    503: json_response("The database did not answer.", ERROR_SCHEMA),
}
