from typing import Any

import pytest

from flux_endpoint.core.progress import MAX_PREVIEW_CHARS, read_progress, without_preview

PREVIEW = "data:image/jpeg;base64,AAAA"
WHOLE = {"step": 3, "total": 28, "eta_ms": 1200, "preview": PREVIEW}


def test_what_our_worker_sends_is_read_whole() -> None:
    assert read_progress(WHOLE) == WHOLE
    assert without_preview(WHOLE) == {"step": 3, "total": 28, "eta_ms": 1200}


@pytest.mark.parametrize(
    "chunk",
    [None, "3 of 28", 3, [3, 28], {}, {"step": 3}, {"total": 28}]
    + [{"step": step, "total": 28} for step in ("3", 3.0, None, True, -1, [3])],
)
def test_what_has_no_step_and_total_is_no_progress(chunk: Any) -> None:
    assert read_progress(chunk) is None


def test_what_a_third_party_worker_adds_is_left_out() -> None:
    assert read_progress({"step": 0, "total": 1, "eta_ms": "soon", "loss": 0.1}) == {"step": 0, "total": 1}


@pytest.mark.parametrize(
    "preview", [None, 1, "", "https://example.com/a.jpg", "data:text/html,x", PREVIEW + "A" * MAX_PREVIEW_CHARS]
)
def test_only_a_small_picture_is_a_preview(preview: Any) -> None:
    assert read_progress(WHOLE | {"preview": preview}) == without_preview(WHOLE)
