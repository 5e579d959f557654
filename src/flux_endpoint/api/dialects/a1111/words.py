"""How this dialect tells errors."""

from collections.abc import Sequence
from typing import Final

DIALECT: Final = "a1111"


def error_body(
    status_code: int, text: str, *, made_id: str | None, problems: Sequence[str], field: str | None
) -> tuple[object, str]:
    """An error as `{"detail": text}`. Implements `WordsOfErrors`."""
    return {"detail": text}, "application/json"
