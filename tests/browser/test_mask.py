"""The mask: painted over the picture that a run starts from, with a pointer or by the keyboard alone."""

import base64
import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.browser.actions import fill, hold
from tests.browser.test_access import PHONE, check_access, has_horizontal_scroll, tab_to
from tests.browser.test_source import a_photo


@pytest.fixture
def page(page: Page, tmp_path: Path) -> Page:
    """A page whose next picture starts from a photo of 512 x 256 pixels; nothing is ever drawn."""
    photo = tmp_path / "photo.png"
    photo.write_bytes(a_photo(512, 256))
    page.set_input_files("#source-file", photo)
    hold(page, "**/run")
    fill(page, prompt="a lake")
    return page


def mask_of(page: Page) -> Image.Image | None:
    """What the next run sends."""
    with page.expect_request("**/run") as sending:
        page.keyboard.press("Control+Enter")
    page.keyboard.press("Escape")
    data = sending.value.post_data_json["input"].get("mask")
    return data and Image.open(io.BytesIO(base64.b64decode(data.partition(",")[2])))


def stroke(page: Page, *places: tuple[float, float]) -> None:
    """Paint along places, in shares of the picture."""
    box = page.locator("#mask-canvas").bounding_box()
    assert box
    for index, (x, y) in enumerate(places):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
        if index == 0:
            page.mouse.down()
    page.mouse.up()


_TAKEN_AWAY = """() => {
  document.getElementById("mask-open").click();
  document.getElementById("mask-picture").src = "data:,";
}"""


@pytest.mark.parametrize("visitor_options", [{}, PHONE | {"color_scheme": "dark"}], ids=["desktop", "phone"])
def test_a_mask_is_painted_and_sent(page: Page, visitor_options: dict[str, Any]) -> None:
    # One whose picture is taken away before it is there does not open.
    page.evaluate(_TAKEN_AWAY)
    page.click("text=Paint a mask")
    expect(page.locator("#mask-share")).to_have_text("0 % painted")
    expect(page.locator("#mask-undo")).to_be_disabled()
    stroke(page, (0, 0.5), (1, 0.5))
    # The brush is as wide as 15 % of the shorter side.
    expect(page.locator("#mask-share")).to_have_text("15 % painted")
    page.click("#mask-erase")
    stroke(page, (0.5, 0), (0.5, 1))
    expect(page.locator("#mask-share")).to_have_text("14 % painted")
    page.click("#mask-clear")
    expect(page.locator("#mask-share")).to_have_text("0 % painted")
    page.click("#mask-undo")
    expect(page.locator("#mask-share")).to_have_text("14 % painted")
    check_access(page)
    assert not has_horizontal_scroll(page)
    page.click("#mask-done")
    expect(page.locator("#mask-note")).to_have_text("14 % is drawn anew.")
    mask = mask_of(page)
    assert mask and mask.size == (512, 256)
    grey = mask.convert("L")
    # Along the stroke, where it was erased, and above and below it.
    places = ((100, 128), (100, 112), (256, 128), (100, 100), (100, 156))
    assert [grey.getpixel(place) for place in places] == [255, 255, 0, 0, 0]
    # What is closed without being used is as if it had not been painted.
    page.click("text=Change the mask")
    page.click("#mask-clear")
    page.click("#mask-close")
    assert mask_of(page) is not None
    # A mask belongs to its picture.
    page.click("#source-remove")
    assert mask_of(page) is None


def test_a_mask_is_painted_by_the_keyboard_alone(page: Page) -> None:
    page.focus("#source-remove")
    tab_to(page, "mask-open")
    page.keyboard.press("Enter")
    expect(page.locator("#mask-canvas")).to_be_focused()
    page.keyboard.press("Space")
    expect(page.locator("#mask-share")).to_have_text("Under 1 % painted")
    for _ in range(8):
        page.keyboard.press("ArrowLeft")
    for _ in range(20):
        page.keyboard.press("Shift+ArrowUp")
    page.keyboard.press("Space")
    expect(page.locator("#mask-share")).to_have_text("5 % painted")
    page.keyboard.press("Control+z")
    tab_to(page, "mask-done")
    page.keyboard.press("Enter")
    expect(page.locator("#mask-open")).to_be_focused()
    mask = mask_of(page)
    assert mask
    # The dot in the middle, and what was painted on the way up to the edge.
    grey = mask.convert("L")
    left = 256 - round(8 * 0.15 * 256 / 4)
    assert [grey.getpixel(place) for place in ((256, 128), (left, 100), (left, 2), (256, 40))] == [255, 255, 255, 0]
