"""LoRAs: chosen by chips, told of a picture, and restored with it."""

import json
import re
from urllib.parse import quote

from playwright.sync_api import Page, expect

from tests.browser.actions import draw, hold
from tests.browser.conftest import Visitor
from tests.browser.test_access import check_access
from tests.servers import DEV


def asked(page: Page) -> list[dict[str, object]] | None:
    """What the next run would send; nothing is drawn."""
    with page.expect_request("**/run") as sent:
        page.click("#run")
    page.keyboard.press("Escape")
    return sent.value.post_data_json["input"].get("loras")


def test_a_lora_is_chosen_told_and_restored(visitor: Visitor) -> None:
    page = visitor.visit()
    chip = page.get_by_role("button", name="screenprint", exact=True)
    chip.press("Enter")
    expect(chip).to_be_focused()
    expect(chip).to_have_attribute("aria-pressed", "true")
    page.get_by_label("screenprint", exact=True).fill("0.8")
    check_access(page)
    draw(page, seed=3)
    expect(page.locator("#facts")).to_contain_text(re.compile(r"LoRAs\s*screenprint . 0.8"))
    page.wait_for_url(re.compile("loras="))
    link = page.url.split("#")[1]
    picture = page.locator(".frame img").get_attribute("src")
    # The file says it too.
    with page.expect_download() as saved:
        page.click("#actions >> text=Download")
    chip.click()
    expect(page.locator("#loras-scales input")).to_have_count(0)
    page.set_input_files("#file", saved.value.path())
    expect(page.get_by_label("screenprint", exact=True)).to_have_value("0.8")
    chip.click()
    page.locator("#thumbnails button").click()
    expect(page.get_by_label("screenprint", exact=True)).to_have_value("0.8")
    expect(page.locator(".frame img")).to_have_attribute("src", picture or "")
    other = visitor.visit(link)
    hold(other, "**/run")
    assert asked(other) == [{"path": "screenprint", "scale": 0.8}]


def test_a_lora_that_the_server_does_not_have_is_marked(visitor: Visitor) -> None:
    loras = json.dumps([{"path": "no/such"}, 7, {"path": "screenprint"}])
    page = visitor.visit(f"endpoint={DEV}&loras={quote(loras)}")
    expect(page.locator("#loras-chips [aria-pressed=true]")).to_have_text(["screenprint", "no/such"])
    page.fill("#prompt", "a lake")
    page.click("#run")
    expect(page.locator("#loras-error")).to_contain_text("Invalid parameter: loras[0].path cannot be used")
    # It is nowhere to be had again once it is taken away.
    page.get_by_role("button", name="no/such").click()
    expect(page.locator("#loras-chips button")).to_have_text(["screenprint"])
    expect(page.locator("#loras-error")).to_be_empty()
