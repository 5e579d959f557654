"""What the routes of clients have in common: their parameters, their errors, their key."""

from typing import Annotated, Any

from fastapi import Path, Request, Security
from fastapi.security import HTTPBearer

from flux_endpoint.api import schemas
from flux_endpoint.core.errors import InvalidRequest

# Of a number in a query; the limits themselves are far below.
_MAX_DIGITS = 12

EndpointId = Annotated[
    str, Path(description="Which model.", examples=[schemas.ENDPOINT_PARAMETER_EXAMPLE], alias="endpoint_id")
]
JobId = Annotated[str, Path(description="As answered by /run or /runsync.")]

ERRORS: dict[int | str, dict[str, Any]] = {
    401: schemas.json_response("The API key is missing, unknown or revoked.", schemas.ERROR_SCHEMA),
    403: schemas.json_response("The API key does not open this operation or endpoint.", schemas.ERROR_SCHEMA),
    404: schemas.json_response("No such endpoint or job.", schemas.ERROR_SCHEMA),
    429: schemas.too_many_response(),
    503: schemas.json_response("The database did not answer.", schemas.ERROR_SCHEMA),
}


def query_parameter(name: str, schema: schemas.JsonObject, description: str) -> schemas.JsonObject:
    """One entry of an OpenAPI `parameters` list: a query that the route checks by hand."""
    return {"name": name, "in": "query", "schema": schema, "description": description}


def whole_number(request: Request, name: str, default: int, minimum: int, maximum: int) -> int:
    """A whole number in the query.

    Raises:
        InvalidRequest: it is something else, or out of range.
    """
    text = request.query_params.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS and minimum <= int(text) <= maximum):
        raise InvalidRequest(f"{name} is invalid; must be a whole number from {minimum} to {maximum}")
    return int(text)


# Named so that the OpenAPI page has its "Authorize" button; the raw form of the header is checked by hand (`admit`).
BEARER = Security(HTTPBearer(auto_error=False, description="An API key."))
