"""For everybody: keyboard alone, screen readers, light and dark, small screens."""

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.actions import SMALL, badge, draw, fill, thumbnails
from tests.browser.conftest import HERE

AXE = (HERE / "node_modules" / "axe-core" / "axe.min.js").read_text()
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}


def check_access(page: Page) -> None:
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE)
    rules = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")["violations"]
    assert [(rule["id"], node["target"], node["failureSummary"]) for rule in rules for node in rule["nodes"]] == []


def has_horizontal_scroll(page: Page) -> bool:
    return page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")


@pytest.mark.parametrize(
    "visitor_options",
    [{"color_scheme": "light"}, {"color_scheme": "dark"}, PHONE],
    ids=["light", "dark", "phone"],
)
def test_the_accessibility_checker_has_nothing_to_say(page: Page, visitor_options: dict[str, Any]) -> None:
    check_access(page)
    page.evaluate("document.getElementById('settings').open = true")
    fill(page, **SMALL, negative_prompt="boats")
    page.fill("#width", "100")
    page.click("#run")
    expect(page.locator("#width-error")).not_to_be_empty()
    check_access(page)
    draw(page)
    check_access(page)
    for tab in ("#tab-json", "#tab-code"):
        page.click(tab)
        check_access(page)
    page.click("#tab-picture")
    page.click("#variations")
    check_access(page)
    badge(page, "done")
    for opener, dialog in (("#key-button", "#key-dialog"), ("#readme-button", "#readme-dialog")):
        page.click(opener)
        expect(page.locator(dialog)).to_be_visible()
        check_access(page)
        page.keyboard.press("Escape")
    thumbnails(page).first.click()
    page.click("#actions >> [title=Compare]")
    thumbnails(page).nth(1).click()
    expect(page.locator("#compare-dialog")).to_be_visible()
    check_access(page)


@pytest.mark.parametrize("visitor_options", [PHONE], ids=["phone"])
def test_a_phone_shows_everything_without_scrolling_sideways(page: Page, visitor_options: dict[str, Any]) -> None:
    # The narrowest that there are, and while something runs too.
    for words in ("Add to queue", "Run"):
        page.evaluate("(words) => (document.querySelector('#run-text').textContent = words)", words)
        for width in (320, 360, 390):
            page.set_viewport_size({"width": width, "height": 844})
            assert not has_horizontal_scroll(page), (words, width)
    page.click("#settings summary")
    draw(page, prompt="averyveryverylongwordwithoutanyplacetobreakit" * 3)
    assert not has_horizontal_scroll(page)
    expect(page.locator(".frame img")).to_be_in_viewport()
    for tab in ("#tab-json", "#tab-code", "#tab-picture"):
        page.click(tab)
        assert not has_horizontal_scroll(page)
    page.click("#variations")
    badge(page, "done")
    assert not has_horizontal_scroll(page)


_TOO_SMALL = """() => [...document.querySelectorAll("button, a, select, textarea, summary, label:has(input), input")]
  .filter((e) => e.checkVisibility({ visibilityProperty: true }) && !e.closest(".unseen") && e.type !== "radio")
  .filter((e) => !e.matches("input[data-for]"))
  .map((e) => [e.id || e.textContent, e.getBoundingClientRect()])
  .filter(([, { width, height }]) => width < 44 || height < 44)
  .map(([name, { width, height }]) => `${name}: ${width} x ${height}`)"""


@pytest.mark.parametrize("visitor_options", [PHONE], ids=["phone"])
def test_whatever_a_finger_shall_press_has_44_pixels(page: Page, visitor_options: dict[str, Any]) -> None:
    page.click("#settings summary")
    draw(page, negative_prompt="boats")
    assert page.evaluate(_TOO_SMALL) == []
    page.click("#actions >> [title=Compare]")
    expect(page.locator("#stop-picking")).to_be_visible()
    expect(page.locator("#earlier-note")).not_to_contain_text("Esc")
    page.click("#key-button")
    assert page.evaluate(_TOO_SMALL) == []
    page.keyboard.press("Escape")
    page.click("#tab-code")
    assert page.evaluate(_TOO_SMALL) == []


def tab_to(page: Page, name: str) -> None:
    """Press Tab until an element has the focus."""
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id || document.activeElement.dataset.for || ''") == name:
            return
    raise AssertionError(f"the Tab key never comes to {name}")


def test_the_keyboard_is_enough(page: Page) -> None:
    expect(page.locator("#prompt")).to_be_focused()
    page.keyboard.type("a calm sea at night")
    for name, value in (("width", "256"), ("height", "256"), ("num_inference_steps", "4")):
        tab_to(page, name)
        page.keyboard.press("Control+a")
        page.keyboard.type(value)
    page.keyboard.press("Control+Enter")
    badge(page, "done")
    expect(page.locator("#announcer")).to_contain_text("Completed in")
    tab_to(page, "run")
    page.keyboard.press("Enter")
    expect(thumbnails(page)).to_have_count(2)
    badge(page, "done")
    expect(page.locator("#run")).to_be_focused()
    tab_to(page, "tab-picture")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#view-json")).to_be_visible()
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#view-picture")).to_be_visible()
    tab_to(page, "open-file")
    tab_to(page, "clear")
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(thumbnails(page).nth(1)).to_have_attribute("aria-current", "true")
    expect(thumbnails(page).nth(1)).to_be_focused()


def test_the_focus_is_always_seen(page: Page) -> None:
    for _ in range(25):
        page.keyboard.press("Tab")
        # A hidden radio shows the ring on its label.
        outline = page.evaluate(
            "(() => { const e = document.activeElement;"
            " return getComputedStyle(e.type === 'radio' ? e.parentElement : e).outlineStyle })()"
        )
        assert outline == "solid", page.evaluate("document.activeElement.outerHTML")


def test_the_theme_follows_the_system_until_one_is_chosen(page: Page) -> None:
    root = page.locator("html")
    expect(root).to_have_attribute("data-theme", "light")
    page.emulate_media(color_scheme="dark")
    expect(root).to_have_attribute("data-theme", "dark")
    page.click("#theme")
    expect(root).to_have_attribute("data-theme", "light")
    page.reload()
    expect(root).to_have_attribute("data-theme", "light")


def test_the_pages_own_files_fit_their_budget() -> None:
    folder = Path(__file__).parents[2] / "src" / "flux_endpoint" / "api" / "playground"
    files = list(folder.iterdir())
    assert sum(file.stat().st_size for file in files) < 300_000
    for file in files:
        assert len(file.read_text().splitlines()) < 400, file.name
