"""How it looks: pictures in build/screenshots, for people to judge, and for the docs."""

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.actions import badge, draw, fill
from tests.browser.conftest import Visitor

FOLDER = Path(__file__).parents[2] / "build" / "screenshots"
SUNSET = {
    "prompt": "A serene mountain landscape at sunset, golden light filtering through clouds, photorealistic",
    "seed": 42,
    "num_inference_steps": 28,
}
PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "is_mobile": True, "has_touch": True}


@pytest.mark.parametrize(
    ("name", "visitor_options"),
    [
        ("desktop-light", {"color_scheme": "light"}),
        ("desktop-dark", {"color_scheme": "dark"}),
        ("phone", PHONE),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_screenshots_are_written(visitor: Visitor, name: str, visitor_options: dict[str, Any]) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    page = visitor.visit()
    page.screenshot(path=FOLDER / f"{name}-empty.png")
    if name == "desktop-dark":
        fill(page, **SUNSET | {"num_inference_steps": 12})
        fill(page, width=384, height=256)
        page.click("#variations")
        badge(page, "done")
        expect(page.locator(".frame img[data-kind=picture]")).to_have_count(4)
    else:
        if name == "phone":
            page.click("#settings summary")
        draw(page, **SUNSET, width=768, height=512)
        expect(page.locator("#strip img")).to_be_visible()
    page.screenshot(path=FOLDER / f"{name}.png")
    assert (FOLDER / f"{name}.png").stat().st_size > 10_000
