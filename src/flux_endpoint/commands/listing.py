"""How the `list` commands answer: a table for people, or JSON for programs."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any

import typer

from flux_endpoint.core.periods import as_text

AsJson = Annotated[bool, typer.Option("--json", help="JSON instead of tables; times in UTC, ISO 8601.")]


def print_json(content: Any) -> None:
    """Print what a list holds.

    Args:
        content: of what JSON knows, amounts of money, times of `time_of`, and sets.
    """
    print(json.dumps(content, indent=2, ensure_ascii=False, default=_plain))


def time_of(time_ms: int | None) -> str | None:
    """A time of ours (milliseconds since 1970-01-01 UTC) for programs: `2026-11-01T12:00:00Z`; None stays None."""
    if time_ms is None:
        return None
    return as_text(datetime.fromtimestamp(time_ms // 1_000, UTC))


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, frozenset):
        return sorted(value)
    raise TypeError(f"{value!r} has no place in JSON")
