"""How far a running job is: what its worker tells, and what of it goes where."""

from collections.abc import Mapping
from typing import Any, Final

# A preview is a few kB. What is larger is no preview, but data like any other.
MAX_PREVIEW_CHARS: Final = 65_536
_PREVIEW_PREFIX: Final = "data:image/"
_FIGURES: Final = ("step", "total", "percent", "eta_ms")
PREVIEW: Final = "preview"


def read_progress(chunk: Any) -> Mapping[str, Any] | None:
    """What a chunk says about how far its job is; None when it is something else.

    Args:
        chunk: any JSON value a worker sent.

    Returns:
        `step` and `total`, whole numbers; `percent`, of the time that the whole takes, and `eta_ms`, milliseconds that
        are left of it, when the worker knows; `preview`, a `data:` URL of a small picture, when there is one. A chunk
        without the first two is no progress.
    """
    if not isinstance(chunk, Mapping) or not all(_is_count(chunk.get(name)) for name in ("step", "total")):
        return None
    progress = {name: chunk[name] for name in _FIGURES if _is_count(chunk.get(name))}
    preview = chunk.get(PREVIEW)
    if isinstance(preview, str) and preview.startswith(_PREVIEW_PREFIX) and len(preview) <= MAX_PREVIEW_CHARS:
        progress[PREVIEW] = preview
    return progress


def without_preview(progress: Mapping[str, Any]) -> dict[str, Any]:
    """The same without its preview."""
    return {name: value for name, value in progress.items() if name != PREVIEW}


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
