"""The gallery of earlier pictures, the picture in full size, and how it formed."""

import json
import re
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.actions import LONG, badge, draw, fill, has_said, record, thumbnails, values
from tests.browser.conftest import Visitor
from tests.browser.test_access import PHONE, check_access, has_horizontal_scroll

# As after months of use: pictures, sets of four, favourites.
KEEP_MANY = """async (count) => {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 16;
  const opening = indexedDB.open("flux-endpoint");
  const database = await new Promise((resolve) => (opening.onsuccess = () => resolve(opening.result)));
  const transaction = database.transaction("runs", "readwrite");
  for (let index = 0; index < count; index++) {
    canvas.getContext("2d").fillStyle = `hsl(${index} 50% 50%)`;
    canvas.getContext("2d").fillRect(0, 0, 16, 16);
    transaction.objectStore("runs").put({
      id: `kept-${index}`, endpoint: "black-forest-labs-flux-1-dev", endpointName: "Flux Dev", createdMs: 1_000 + index,
      status: "COMPLETED", input: { prompt: `a lake, number ${index}`, width: 256, height: 256, seed: index },
      output: { image_url: "https://elsewhere.example/images/gone.jpg", seed: index },
      thumbnail: canvas.toDataURL("image/jpeg"),
      set: index % 10 < 4 ? `set-${Math.floor(index / 10)}` : undefined, isFavourite: index % 100 === 0,
    });
  }
  await new Promise((resolve) => (transaction.oncomplete = resolve));
  database.close();
}"""
TILES = "#gallery-grid .tile"


def with_many(visitor: Visitor, count: int) -> Page:
    page = visitor.visit()
    page.evaluate(KEEP_MANY, count)
    page.reload()
    return page


def test_a_gallery_of_thousands_asks_the_server_for_none_of_them(visitor: Visitor) -> None:
    page = with_many(visitor, 2_000)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.click("text=Show all 2,000")
    expect(page.locator("#gallery-count")).to_have_text("2,000 of 2,000 pictures")
    expect(page.locator("#gallery-search")).to_be_focused()
    few = page.locator(TILES).count()
    assert 100 <= few < 500
    page.locator("#gallery-room").evaluate("(room) => room.scrollTo(0, room.scrollHeight)")
    expect(page.locator(TILES).nth(few)).to_be_attached()
    assert not [url for url in asked if "/images/" in url]
    fill(page, **{"gallery-search": "number 1234"})
    expect(page.locator("#gallery-count")).to_have_text("1 of 2,000 pictures")
    page.locator(TILES).click()
    expect(page.locator("#gallery-dialog")).to_be_hidden()
    assert values(page, "prompt", "seed") == {"prompt": "a lake, number 1234", "seed": "1234"}


_SCROLL = """async (frames) => {
  const room = document.getElementById("gallery-room");
  for (let frame = 0; frame < frames; frame++) {
    room.scrollBy(0, 24);
    await new Promise(requestAnimationFrame);
  }
}"""


def test_scrolling_paints_only_what_comes_into_view(visitor: Visitor, browser: Browser) -> None:
    page = with_many(visitor, 400)
    page.click("#gallery-open")
    expect(page.locator(f"{TILES} img").nth(50)).to_be_attached()
    frames = 30
    browser.start_tracing(page=page, categories=["cc", "disabled-by-default-devtools.timeline"])
    page.evaluate(_SCROLL, frames)
    events = json.loads(browser.stop_tracing())["traceEvents"]
    pieces = sum(event["name"] == "RasterTask" and event["ph"] == "X" for event in events)
    # A window has 24 pieces of 256 x 256 pixels; a frame brings a strip of 24 pixels into view.
    assert 0 < pieces < 6 * frames


def press_while_another_tab_forgets(page: Page, button: Locator, forgotten: str, then: Locator, words: str) -> None:
    """Press a button, and let go when the list that it stands in has become another."""
    button.hover()
    page.mouse.down()
    page.evaluate("(id) => new BroadcastChannel('flux-endpoint').postMessage({ removed: [id] })", forgotten)
    expect(then).to_have_text(words)
    page.mouse.up()


def test_favourites_and_several_at_once(visitor: Visitor) -> None:
    page = with_many(visitor, 202)
    opener, count = page.locator("#gallery-open"), page.locator("#gallery-count")
    press_while_another_tab_forgets(page, thumbnails(page).nth(2), "kept-2", opener, "Show all 201")
    expect(page.locator("#prompt")).to_have_value("a lake, number 199")
    page.click("#gallery-open")
    press_while_another_tab_forgets(page, page.locator(TILES).nth(3), "kept-1", count, "200 of 200 pictures")
    expect(page.locator("#prompt")).to_have_value("a lake, number 198")
    page.click("#gallery-open")
    check_access(page)
    page.click("#gallery-favourites")
    expect(page.locator(TILES)).to_have_count(3)
    page.click("#gallery-favourites")
    page.locator(".star").first.click()
    page.click("#gallery-favourites")
    expect(page.locator(TILES)).to_have_count(4)
    page.click("#gallery-choose")
    page.locator(TILES).nth(0).click()
    page.locator(TILES).nth(2).click()
    check_access(page)
    page.once("dialog", lambda dialog: dialog.accept())
    page.click("text=Delete 2")
    expect(page.locator("#gallery-count")).to_have_text("2 of 198 pictures")
    expect(page.locator("#gallery-choose")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#gallery-open")).to_have_text("Show all 198")


def test_tabs_agree(visitor: Visitor) -> None:
    here, there = visitor.visit(), visitor.visit()
    draw(here)
    expect(thumbnails(there).locator("img")).to_have_count(1)
    here.click("#actions >> [title=Favourite]")
    there.click("#gallery-open")
    expect(there.locator(".star[aria-pressed=true]")).to_have_count(1)
    here.click("#actions >> [title=Remove]")
    expect(there.locator(TILES)).to_have_count(0)


_SLOWLY = """() => {
  const { decode } = HTMLImageElement.prototype;
  HTMLImageElement.prototype.decode = async function () {
    await new Promise((resolve) => (window.go = resolve));
    return decode.call(this);
  };
}"""


@pytest.mark.parametrize("visitor_options", [{"color_scheme": "dark"}, PHONE], ids=["dark", "phone"])
def test_a_picture_in_full_size(page: Page, visitor_options: dict[str, Any]) -> None:
    if "color_scheme" not in visitor_options:
        page.click("#settings summary")
    draw(page, width=512)
    expect(thumbnails(page).locator("img")).to_have_count(1)
    page.evaluate(_SLOWLY)
    page.get_by_role("button", name="Look at the picture in full size").click()
    image, zoom = page.locator("#viewer-image"), page.locator("#viewer-zoom")
    expect(page.locator("#viewer-room")).to_be_focused()
    # Before the picture is there.
    page.keyboard.press("1")
    page.evaluate("go()")
    expect(zoom).not_to_be_empty()
    check_access(page)
    assert not has_horizontal_scroll(page)
    expect(zoom).to_have_text("100 %")
    assert image.bounding_box()["width"] == 512
    page.keyboard.press("+")
    expect(zoom).to_have_text("125 %")
    page.click("#viewer-fit")
    expect(zoom).not_to_have_text("125 %")
    if "color_scheme" in visitor_options:
        record(page, "#viewer-copy")
        page.click("#viewer-copy")
        has_said(page, "#viewer-copy", "Copied")
        kinds = page.evaluate("async () => (await navigator.clipboard.read()).flatMap(({ types }) => types)")
        assert kinds == ["image/png"]
    page.click("#viewer-close")
    expect(page.locator("#viewer-dialog")).to_be_hidden()


def test_how_a_picture_formed_can_be_gone_through(page: Page) -> None:
    fill(page, **LONG)
    page.click("#run")
    badge(page, "done")
    film, image = page.locator("#film-range"), page.locator(".frame img")
    expect(page.locator("#film-text")).to_have_text("the picture")
    film.focus()
    page.keyboard.press("Home")
    expect(page.locator("#film-text")).to_have_text(re.compile(r"preview 1 of \d+"))
    expect(image).to_have_attribute("src", re.compile("^data:image/jpeg"))
    check_access(page)
    page.keyboard.press("End")
    expect(image).to_have_attribute("src", re.compile(r"/images/"))


@pytest.mark.parametrize("visitor_options", [PHONE | {"color_scheme": "dark"}], ids=["dark-phone"])
def test_whatever_opens_is_fit_for_everybody_on_a_phone_in_the_dark(
    visitor: Visitor, visitor_options: dict[str, Any]
) -> None:
    page = with_many(visitor, 12)

    def check(*places: str) -> None:
        for place in places:
            expect(page.locator(place)).to_be_visible()
        check_access(page)
        assert not has_horizontal_scroll(page)

    page.click("#settings summary")
    fill(page, prompt="a robot " * 60)
    expect(page.locator("#token-count")).to_have_class(re.compile("over"))
    check("#unknown")
    for opener, dialog in (("#key-button", "#key-dialog"), ("#readme-button", "#readme-dialog")):
        page.click(opener)
        check(dialog)
        page.keyboard.press("Escape")
    page.click("#gallery-open")
    check("#gallery-dialog")
    page.click("#gallery-choose")
    page.locator(TILES).first.click()
    check("#gallery-delete")
    page.click("#gallery-choose")
    page.locator(TILES).first.click()
    # Its picture is another server's.
    check(".frame .words")
    page.click("#actions >> [title=Compare]")
    check("#stop-picking")
    page.click("#thumbnails button >> nth=3")
    check("#compare-dialog")
    page.keyboard.press("Escape")
    page.click("#sheet-open")
    check("#sheet-dialog")
    page.keyboard.press("Escape")
    for tab, view in (("#tab-json", "#view-json"), ("#tab-code", "#view-code")):
        page.click(tab)
        check(view)
