"""What the routes of clients have in common: their parameters, their errors, their key."""

from dataclasses import dataclass
from typing import Any, Final, overload

from starlette.requests import Request

from flux_endpoint.api import schemas
from flux_endpoint.core.errors import InvalidRequest
from flux_endpoint.core.job import READ_TTL_MS

# Of a number in a query; the limits themselves are far below.
_MAX_DIGITS: Final = 12

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


@dataclass(frozen=True, slots=True)
class WholeNumber:
    """A query parameter that is a whole number; both limits included."""

    name: str
    minimum: int
    maximum: int
    description: str

    @overload
    def read(self, request: Request, default: int) -> int: ...
    @overload
    def read(self, request: Request) -> int | None: ...
    def read(self, request: Request, default: int | None = None) -> int | None:
        """The value a request has; `default` when it has none.

        Raises:
            InvalidRequest: it is no such number; the text names the parameter and its limits.
        """
        text = request.query_params.get(self.name)
        if text is None:
            return default
        is_number = text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS
        if not is_number or not self.minimum <= int(text) <= self.maximum:
            # The real service's words for `wait`.
            raise InvalidRequest(f"{self.name} is invalid; must be between {self.minimum} and {self.maximum}")
        return int(text)

    def parameter(self, default: int | None = None) -> dict[str, Any]:
        """Its entry in the OpenAPI document."""
        schema: dict[str, Any] = {"type": "integer", "minimum": self.minimum, "maximum": self.maximum}
        if default is not None:
            schema["default"] = default
        return query_parameter(self.name, schema, self.description)


@dataclass(frozen=True, slots=True)
class Flag:
    """A query parameter that is `true` or `false`; absent is false."""

    name: str
    description: str

    def read(self, request: Request) -> bool:
        """The value a request has.

        Raises:
            InvalidRequest: it is neither.
        """
        text = request.query_params.get(self.name, "false")
        if text not in ("true", "false"):
            raise InvalidRequest(f"{self.name} is invalid; must be true or false")
        return text == "true"

    def parameter(self) -> dict[str, Any]:
        """Its entry in the OpenAPI document."""
        return query_parameter(self.name, {"type": "boolean", "default": False}, self.description)


# Contract section 1.2.
WAIT_MS: Final = WholeNumber("wait", 1_000, 300_000, "How long the call is held at most, milliseconds.")
TTL_MS: Final = WholeNumber("ttl", *READ_TTL_MS, "Let the job vanish this many milliseconds from now.")

POSITION: Final = WholeNumber(
    "position", 0, 10**12 - 1, "Only what came after it: 0, and then the `position` of the answer before."
)

IDEMPOTENCY_PARAMETER: Final[dict[str, Any]] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "For 24 hours the same key and body get the same job; with another body, 409.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]([ -~]*[!-~])?$"},
}
