"""What the routes of clients have in common: their parameters, their errors, their key."""

from typing import Annotated, Any

from fastapi import Path, Security
from fastapi.security import HTTPBearer

from flux_endpoint.api import schemas

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

# Named so that the OpenAPI page has its "Authorize" button; the raw form of the header is checked by hand (`admit`).
BEARER = Security(HTTPBearer(auto_error=False, description="An API key."))
