"""The contact sheet: two fields varied in a grid, drawn as a batch."""

import json
import re
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, expect

from tests.browser.actions import SMALL, fill, hold, thumbnails, values
from tests.browser.test_access import PHONE, check_access, has_horizontal_scroll
from tests.servers import SCHNELL

CELLS = "#sheet-grid .cell"


def open_sheet(page: Page, **fields: Any) -> None:
    fill(page, **SMALL | fields)
    page.click("#sheet-open")
    expect(page.locator("#sheet-dialog")).to_be_visible()


def test_a_sheet_fills_in_is_saved_and_gives_a_cell_back(page: Page) -> None:
    open_sheet(page, seed=5)
    expect(page.locator("#sheet-plan")).to_contain_text("12 pictures, $0.0157")
    page.select_option("#sheet-across", "num_inference_steps")
    page.fill("#sheet-across-values", "1, 2")
    page.select_option("#sheet-down", "endpoint")
    expect(page.locator("#sheet-plan")).to_contain_text("4 pictures, $0.0029")
    check_access(page)
    page.click("text=Draw 4 pictures")
    expect(page.locator(f"{CELLS} img")).to_have_count(4)
    expect(page.locator("#sheet-cancel")).to_be_hidden()
    check_access(page)
    with page.expect_download() as saved:
        page.click("#sheet-json")
    sheet = json.loads(saved.value.path().read_text())
    assert (sheet["across"], sheet["down"]) == ("num_inference_steps", "endpoint")
    assert [(cell["across"], cell["down"]) for cell in sheet["cells"]] == [
        (steps, name) for name in ("Flux Dev", "Flux Schnell") for steps in (1, 2)
    ]
    # All of one seed, or the fields could not be told from chance.
    assert {cell["output"]["seed"] for cell in sheet["cells"]} == {5}
    with page.expect_download() as saved:
        page.click("#sheet-picture")
    assert saved.value.suggested_filename == "contact-sheet.png"
    assert saved.value.path().stat().st_size > 10_000
    page.locator(CELLS).last.click()
    expect(page.locator("#sheet-dialog")).to_be_hidden()
    expect(page.locator(".frame img[data-kind=picture]")).to_be_visible()
    assert values(page, "num_inference_steps", "seed") == {"num_inference_steps": "2", "seed": "5"}
    assert page.is_checked(f'[name="endpoint"][value="{SCHNELL}"]')
    expect(thumbnails(page)).to_have_count(4)


def test_two_cells_are_compared(page: Page) -> None:
    open_sheet(page)
    page.fill("#sheet-across-values", "1, 2")
    page.select_option("#sheet-down", "none")
    # A connection that is lost for a moment loses nothing.
    page.route("**/requests?limit=*", lambda route: route.abort(), times=1)
    page.click("text=Draw 2 pictures")
    expect(page.locator(f"{CELLS} img")).to_have_count(2)
    expect(page.locator("#sheet-error")).to_be_empty()
    page.locator(CELLS).nth(0).drag_to(page.locator(CELLS).nth(1))
    expect(page.locator("#compare-left-text")).to_contain_text("seed 1 ")
    expect(page.locator("#compare-right-text")).to_contain_text("seed 2 ")
    page.keyboard.press("Escape")
    # The same without a mouse.
    page.get_by_role("button", name="Compare two").press("Enter")
    expect(page.locator("#sheet-hint")).to_have_text("Choose two pictures.")
    page.locator(CELLS).nth(1).press("Enter")
    expect(page.locator(CELLS).nth(1)).to_have_attribute("aria-pressed", "true")
    check_access(page)
    page.locator(CELLS).nth(0).press("Enter")
    expect(page.locator("#compare-left-text")).to_contain_text("seed 2 ")
    expect(page.locator("#compare-right-text")).to_contain_text("seed 1 ")
    expect(page.locator("#compare-range")).to_be_focused()
    check_access(page)
    page.keyboard.press("Escape")
    expect(page.locator(CELLS).nth(0)).to_be_focused()
    # A cell is taken up again as soon as none is to be compared.
    page.get_by_role("button", name="Compare two").press("Enter")
    page.locator(CELLS).nth(0).press("Enter")
    expect(page.locator("#sheet-dialog")).to_be_hidden()


@pytest.mark.parametrize("visitor_options", [PHONE | {"color_scheme": "dark"}], ids=["phone"])
def test_what_is_wrong_with_a_sheet_is_told_before_anything_is_drawn(
    page: Page, visitor_options: dict[str, Any]
) -> None:
    page.click("#settings summary")
    page.click("#sheet-open")
    expect(page.locator("#prompt-error")).to_have_text("Invalid parameter: prompt must not be empty")
    open_sheet(page)
    assert not has_horizontal_scroll(page)
    check_access(page)
    for text, words in (
        ("1, two", "Seed must be numbers"),
        (",".join("1" * 50), "150 pictures are too many"),
        ("-7", "seed must be"),
    ):
        page.fill("#sheet-across-values", text)
        expect(page.locator("#sheet-error")).to_contain_text(words)
    page.fill("#sheet-across-values", "1, 2")
    expect(page.locator("#sheet-error")).to_be_empty()


def test_a_sheet_can_be_cancelled(page: Page) -> None:
    open_sheet(page, num_inference_steps=50, width=1024, height=1024)
    page.click("#sheet-draw")
    expect(page.locator(CELLS).first).to_contain_text(re.compile("waiting|drawing"))
    page.click("#sheet-cancel")
    expect(page.locator("#sheet-cancel")).to_be_hidden()
    expect(page.locator(CELLS).last).to_contain_text("cancelled")


@pytest.mark.parametrize("held_back", ["**/batch", "**/finalize"])
def test_a_sheet_that_is_cancelled_while_it_is_sent_draws_nothing(page: Page, held_back: str) -> None:
    open_sheet(page, width=1_536, height=1_536)
    page.fill("#sheet-across-values", "1, 2")
    page.select_option("#sheet-down", "endpoint")
    held = hold(page, held_back)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(urlsplit(request.url).path.rsplit("/", 1)[1]))
    with page.expect_request(held_back):
        page.click("#sheet-draw")
    page.click("#sheet-cancel")
    held.first(page).continue_()
    expect(page.locator("#sheet-cancel")).to_be_hidden()
    expect(page.locator(CELLS)).to_have_text(["cancelled"] * 4)
    # What was made of it is cancelled, and no more is made: one batch of two, or two of which one was queued.
    assert asked.count("cancel") == asked.count("batch")
    assert asked.count("finalize") == (held_back == "**/finalize")
