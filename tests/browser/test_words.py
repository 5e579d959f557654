"""What is said before a picture is drawn: words that the model does not know, how long it takes, who would draw it."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.actions import SMALL, badge, draw, fill, thumbnails
from tests.browser.conftest import Visitor
from tests.browser.test_access import check_access


def test_words_that_the_model_does_not_know_are_told_while_they_are_typed(page: Page) -> None:
    words = page.locator("#unknown")
    expect(words).to_be_hidden()
    page.locator("#prompt").press_sequentially("a robot in a cafe, 4k, a mountian")
    expect(words).to_contain_text("Does not know: robot, cafe, mountian; try")
    check_access(page)
    words.get_by_role("button", name="mountain").click()
    expect(page.locator("#prompt")).to_have_value("a robot in a cafe, 4k, a mountain")
    expect(page.locator("#prompt")).to_be_focused()
    expect(words).to_contain_text("Does not know: robot, cafe; try")
    fill(page, prompt="a castle at sunset")
    expect(words).to_be_hidden()
    # The server says it too, with the picture.
    draw(page, prompt="a robot")
    expect(page.locator("#warnings")).to_contain_text("does not know: robot")


@pytest.mark.usefixtures("own_profile")
def test_real_weights_know_all_words(visitor: Visitor) -> None:
    def as_real(route) -> None:
        reply = route.fetch()
        known = [{name: value for name, value in one.items() if name != "vocabulary"} for one in reply.json()]
        route.fulfill(response=reply, json=known)

    visitor.context.route("**/v2/endpoints", as_real)
    page = visitor.visit()
    page.clock.install()
    fill(page, prompt="a robot")
    page.clock.run_for(2_000)
    expect(page.locator("#unknown")).to_be_hidden()


def test_what_to_expect_is_told_before_anything_runs(visitor: Visitor) -> None:
    page = visitor.visit()
    draw(page)
    expect(page.locator("#estimate")).to_have_text(re.compile(r"About [\d.]+ m?s, at once\."))
    page.click("#endpoints >> text=Echo")
    page.fill("#json", '{"text": "hello"}')
    expect(page.locator("#estimate")).to_have_text("It would wait: no worker serves this endpoint.")
    page.fill("#json", "{")
    expect(page.locator("#estimate")).to_be_empty()
    page.click("text=Flux Dev")
    fill(page, **SMALL)
    expect(page.locator("#estimate")).to_contain_text("About")
    page.click("#key-button")
    page.click("#key-forget")
    expect(page.locator("#estimate")).to_be_empty()


def test_how_much_of_a_prompt_is_read_is_told_while_it_is_typed(page: Page) -> None:
    tokens = page.locator("#token-count")
    fill(page, prompt="a lake")
    expect(tokens).to_have_text("Tokens: T5 3/64 · CLIP 4/77")
    check_access(page)
    fill(page, prompt="a lake " * 60)
    expect(tokens).to_have_text("Tokens: T5 121/64, the rest is not read · CLIP 122/77")
    expect(tokens).to_have_class(re.compile("over"))
    check_access(page)
    fill(page, prompt="")
    expect(tokens).to_be_empty()


def test_the_models_best_pictures_are_drawn_again_by_a_click(page: Page) -> None:
    best = page.locator(".best button")
    expect(best).to_have_count(12)
    expect(page.locator(".best img").first).to_have_js_property("complete", True)
    check_access(page)
    heart = best.last
    name = heart.get_attribute("title")
    heart.click()
    expect(page.locator("#prompt")).to_have_value(name)
    expect(thumbnails(page)).to_have_count(1)
    badge(page, "done")
    seed = page.input_value("#seed")
    assert seed
    expect(page.locator("#facts")).to_contain_text(re.compile(rf"Seed\s*{seed}"))
