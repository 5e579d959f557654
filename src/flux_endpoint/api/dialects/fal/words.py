"""How this dialect tells errors."""

from collections.abc import Sequence
from typing import Final

from flux_endpoint.api.schemas import JsonObject

DIALECT: Final = "fal"
# In every answer that is about a request; clients show it, and take a 503 with it for ours and not a proxy's.
REQUEST_ID: Final = "x-fal-request-id"
ERROR_TYPE: Final = "x-fal-error-type"
_WRONG_INPUT: Final = 422


def error_body(
    status_code: int, text: str, *, made_id: str | None, problems: Sequence[str], field: str | None
) -> tuple[object, str]:
    """An error as `detail`, a list where the input is wrong, and as `message`. Implements `WordsOfErrors`."""
    if status_code != _WRONG_INPUT:
        return told(text), "application/json"
    where = ["body"] if field is None else ["body", field]
    return told(text) | {"detail": [{"loc": where, "msg": text, "type": "value_error"}]}, "application/json"


def told(text: str, error_type: str | None = None) -> JsonObject:
    """A sentence under both names that clients look for it: some show only `detail`, others only `message`."""
    return {"detail": text, "message": text} | ({} if error_type is None else {"error_type": error_type})
