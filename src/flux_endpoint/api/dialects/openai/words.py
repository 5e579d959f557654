"""How this dialect tells errors."""

from collections.abc import Sequence
from typing import Any, Final

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
