"""How this dialect names things: models, pictures' forms, errors."""

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

from flux_endpoint.core.account import ApiKey
from flux_endpoint.core.endpoint import EndpointSpec
from flux_endpoint.core.errors import UnknownEndpoint
from flux_endpoint.service.endpoint import Endpoint, Endpoints

DIALECT: Final = "openai"

ERROR_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}

# By status: the type of the error, and its code.
_ERRORS: Final[dict[int, tuple[str, str | None]]] = {
    400: ("invalid_request_error", None),
    401: ("authentication_error", "invalid_api_key"),
    402: ("insufficient_quota", "insufficient_quota"),
    403: ("permission_error", None),
    404: ("invalid_request_error", "not_found"),
    405: ("invalid_request_error", None),
    415: ("invalid_request_error", None),
    429: ("rate_limit_error", "rate_limit_exceeded"),
}
_SERVER_ERROR: Final = ("server_error", None)


def error_body(
    status_code: int, text: str, *, made_id: str | None, problems: Sequence[str], field: str | None
) -> tuple[object, str]:
    """An error as an object, which is what clients of this dialect show. Implements `WordsOfErrors`."""
    kind, code = _ERRORS.get(status_code, _SERVER_ERROR)
    return {"error": {"message": text, "type": kind, "param": field, "code": code}}, "application/json"


def model_name(spec: EndpointSpec) -> str:
    """What an endpoint is called as a `model`: `flux-dev`."""
    return _plain(spec.endpoint_id)


def picture_models(specs: Iterable[EndpointSpec]) -> list[EndpointSpec]:
    """The endpoints that draw pictures."""
    return [spec for spec in specs if spec.makes_pictures]


def endpoint_of(endpoints: Endpoints, key: ApiKey, model: str | None) -> Endpoint:
    """The endpoint that a `model` means: its id, a name such as `flux-dev`, or the hub's id; None for the first.

    Raises:
        UnknownEndpoint: none of that name is served here.
    """
    served = picture_models(endpoints.specs)
    for spec in served:
        if model is None or _plain(model) == model_name(spec):
            return endpoints.opened(spec.endpoint_id, key)
    names = ", ".join(model_name(spec) for spec in served) or "none"
    raise UnknownEndpoint(f"the model '{str(model)[:80]}' is not served here; served: {names}")


def _plain(name: str) -> str:
    """`black-forest-labs/FLUX.1-dev`, `black-forest-labs-flux-1-dev` and `flux-dev` are one model: `flux-dev`."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return plain.removeprefix("black-forest-labs-").replace("flux-1-", "flux-")
