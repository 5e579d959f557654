"""The form: what the catalogue says, sizes, seeds, links, the key."""

import json
import re

import pytest
from playwright.sync_api import Page, expect

from flux_endpoint.core.catalog import FLUX_DEV, FLUX_SCHNELL
from flux_endpoint.core.inputs import input_schema
from tests.browser.actions import SMALL, badge, draw, fill, hold, thumbnails, values
from tests.browser.conftest import DESKTOP, Visitor
from tests.servers import SCHNELL

# All that the page has stored, as one text.
_STORED = """async () => {
  const opening = indexedDB.open("flux-endpoint");
  const database = await new Promise((resolve) => (opening.onsuccess = () => resolve(opening.result)));
  const reading = database.transaction("runs").objectStore("runs").getAll();
  const runs = await new Promise((resolve) => (reading.onsuccess = () => resolve(reading.result)));
  database.close();
  return { runs: JSON.stringify(runs), local: { ...localStorage }, session: JSON.stringify(sessionStorage) };
}"""


def test_defaults_ranges_and_prices_are_those_of_the_server(page: Page) -> None:
    dev, schnell = (input_schema(model)["properties"] for model in (FLUX_DEV, FLUX_SCHNELL))
    steps = dev["num_inference_steps"]
    assert values(page, "width", "height", "num_inference_steps", "guidance", "seed") == {
        "width": str(dev["width"]["default"]),
        "height": str(dev["width"]["default"]),
        "num_inference_steps": str(steps["default"]),
        "guidance": str(dev["guidance"]["default"]),
        "seed": "",
    }
    expect(page.locator("#num_inference_steps")).to_have_attribute("max", str(steps["maximum"]))
    expect(page.locator("#cost")).to_have_text("$0.0210")
    page.click("text=Flux Schnell")
    fewer = schnell["num_inference_steps"]
    expect(page.locator("#num_inference_steps")).to_have_value(str(fewer["default"]))
    expect(page.locator("#num_inference_steps")).to_have_attribute("max", str(fewer["maximum"]))
    expect(page.locator("#cost")).to_have_text("$0.0025")
    fill(page, width=512, height=512)
    expect(page.locator("#cost")).to_have_text("$0.0006")
    # What is charged, to the last decimal.
    expect(page.locator("#cost")).to_have_attribute("title", "$0.00062915")
    expect(page.locator("#cost-rule")).to_have_text("0.26 MP \u00d7 $0.0024 \u00b7 nobody is billed")
    for half_written in ("-64", "0"):
        fill(page, height=half_written)
        expect(page.locator("#cost")).to_have_text("\u2013")
        expect(page.locator("#cost-rule")).to_have_text("$0.0024 per megapixel")
    # The server fills in what is empty.
    fill(page, height="")
    expect(page.locator("#cost")).to_have_text("$0.0013")
    written = "async () => (await import('./playground/format.js')).seconds(119_600)"
    assert page.evaluate(written) == "2 min 0 s"


def test_all_that_a_picture_usually_needs_is_seen_at_once(page: Page) -> None:
    for name in ("prompt", "width", "height", "seed", "image_format", "num_inference_steps", "guidance", "run"):
        expect(page.locator(f"#{name}")).to_be_in_viewport(ratio=1)


def test_a_long_prompt_stays_in_its_box_and_is_counted(page: Page) -> None:
    limit = input_schema(FLUX_DEV)["properties"]["prompt"]["maxLength"]
    fill(page, prompt="山🌄" * 1_000)
    expect(page.locator("#prompt-count")).to_have_text(f"2,000 of {limit:,} characters")
    fill(page, prompt="word " * 2_001)
    expect(page.locator("#prompt-count")).to_have_class("note count over")
    assert page.locator("#prompt").bounding_box()["height"] < DESKTOP["height"] * 0.35
    page.click("#run")
    # The server's words are seen, and so is the box that they are about.
    for place in ("#prompt", "#prompt-error"):
        expect(page.locator(place)).to_be_in_viewport(ratio=1)
    expect(page.locator("#prompt-error")).to_contain_text("Invalid parameter: prompt")


def test_schnell_draws(page: Page) -> None:
    page.click("text=Flux Schnell")
    draw(page)
    expect(page.locator("#facts")).to_contain_text("$0.0002")


def test_aspect_ratios_give_allowed_sizes_and_their_shape(page: Page) -> None:
    allowed = input_schema(FLUX_DEV)["properties"]["width"]
    for button in page.locator("#aspects button").all():
        button.click()
        across, down = map(int, button.inner_text().split(":"))
        width, height = (int(value) for value in values(page, "width", "height").values())
        assert width % allowed["multipleOf"] == height % allowed["multipleOf"] == 0
        assert width / height == pytest.approx(across / down, rel=0.05)
        shape = page.locator("#shape").bounding_box()
        assert shape["width"] / shape["height"] == pytest.approx(width / height, rel=0.05)
    # Any size of a ratio is shown as one, not only the size that its button gives.
    fill(page, width=768, height=512)
    expect(page.locator("#aspects [aria-pressed=true]")).to_have_text("3:2")
    before = values(page, "width", "height")
    page.click("#swap")
    assert values(page, "width", "height") == {"width": before["height"], "height": before["width"]}


def test_the_lock_keeps_the_seed_of_the_picture_and_the_dice_draws_another(page: Page) -> None:
    draw(page)
    seed = re.search(r"Seed\s+(\d+)", page.locator("#facts").inner_text()).group(1)
    assert page.input_value("#seed") == ""
    page.click("#lock")
    assert page.input_value("#seed") == seed
    expect(page.locator("#lock")).to_have_attribute("aria-pressed", "true")
    page.click("#dice")
    assert page.input_value("#seed") not in ("", seed)
    page.click("#lock")
    assert page.input_value("#seed") == ""
    fill(page, seed=12)
    page.click("#reset")
    assert values(page, "prompt", "seed") == {"prompt": "", "seed": ""}


def test_a_link_reproduces_the_input(visitor: Visitor) -> None:
    page = visitor.visit()
    page.click("text=Flux Schnell")
    fields = {**SMALL, "prompt": 'a "lake" & a=b #1 山', "negative_prompt": "boats", "seed": 3, "guidance": 1.5}
    fill(page, **{name: str(value) for name, value in fields.items()})
    page.select_option("#image_format", "png")
    page.wait_for_url(re.compile("image_format=png"))
    other = visitor.context.new_page()
    other.goto(page.url)
    expect(other.locator("#prompt")).to_have_value(fields["prompt"])
    assert values(other, *fields) == {name: str(value) for name, value in fields.items()}
    assert other.is_checked(f'[name="endpoint"][value="{SCHNELL}"]')
    assert other.input_value("#image_format") == "png"


@pytest.mark.usefixtures("own_profile")
def test_a_link_that_is_opened_while_the_address_is_written_is_read(visitor: Visitor) -> None:
    # The browser tells of a new address some time after it has it.
    visitor.context.add_init_script(
        "addEventListener('hashchange', (event) => window.isLate && event.stopImmediatePropagation())"
    )
    page = visitor.visit()
    page.evaluate("window.isLate = true; location.hash = '#endpoint=black-forest-labs-flux-1-schnell&prompt=a+castle'")
    page.fill("#prompt", "a lake")
    page.wait_for_timeout(600)
    assert page.evaluate("location.hash") == "#endpoint=black-forest-labs-flux-1-schnell&prompt=a+castle"
    page.evaluate("window.isLate = false; dispatchEvent(new Event('hashchange'))")
    expect(page.locator("#prompt")).to_have_value("a castle")


def test_the_key_leaves_the_address_at_once_and_is_kept_nowhere_else(visitor: Visitor, api_key: str) -> None:
    page = visitor.visit("endpoint=black-forest-labs-flux-1-dev&prompt=a+lake")
    assert api_key not in page.url
    assert page.input_value("#prompt") == "a lake"
    draw(page)
    page.click("#actions >> [title='Copy link']")
    page.wait_for_function("async () => (await navigator.clipboard.readText()).includes('prompt=')")
    assert api_key not in page.evaluate("navigator.clipboard.readText()")
    stored = page.evaluate(_STORED)
    assert "calm sea" in stored["runs"]
    assert api_key not in stored["runs"] + stored["session"]
    assert [name for name, value in stored["local"].items() if api_key in value] == ["flux-endpoint.key"]
    page.click("#tab-code")
    assert api_key not in page.content()
    assert api_key not in visitor.server.log.read_text()
    page.click("#key-button")
    page.click("#key-forget")
    assert api_key not in str(page.evaluate(_STORED))


def test_without_a_key_it_is_asked_for_and_a_wrong_one_refused(visitor: Visitor, api_key: str) -> None:
    page = visitor.visit(signed_in=False)
    fill(page, **SMALL)
    page.click("#run")
    dialog = page.locator("#key-dialog")
    expect(dialog).to_be_visible()
    page.fill("#key-input", api_key)
    held = hold(page, "**/v2/usage?*")
    with page.expect_request("**/v2/usage?*"):
        page.click("#key-save")
    # A page that is left now has not lost the key it had.
    stored = "localStorage.getItem('flux-endpoint.key')"
    assert page.evaluate(stored) is None
    # Whoever closes the dialog meanwhile is not signed in, and nothing is drawn.
    page.click("#key-close")
    with page.expect_response("**/v2/usage?*"):
        held.first(page).continue_()
    page.unroute("**/v2/usage?*")
    page.click("#run")
    assert page.evaluate(stored) is None
    page.fill("#key-input", "fxe_wrong")
    page.click("#key-save")
    expect(page.locator("#key-error")).to_have_text("unknown API key: check the Authorization header")
    page.fill("#key-input", api_key)
    page.keyboard.press("Enter")
    expect(dialog).to_be_hidden()
    badge(page, "done")
    expect(page.locator("#key-state")).to_have_text("Signed in")
    expect(thumbnails(page)).to_have_count(1)


def test_the_page_works_under_another_name_than_the_public_url(visitor: Visitor, api_key: str) -> None:
    # Pictures come through the page's own origin: no policy has to be opened, no host be reachable.
    page = visitor.context.new_page()
    page.goto(f"http://localhost:{visitor.server.port}/#key={api_key}")
    draw(page)
    source = page.locator(".frame img").get_attribute("src")
    assert source.startswith(f"http://localhost:{visitor.server.port}/images/")


def test_an_endpoint_of_ones_own_has_a_json_editor(page: Page) -> None:
    page.click("#endpoints >> text=Echo")
    assert json.loads(page.input_value("#json")) == {"text": "", "times": 2}
    expect(page.locator("#cost")).to_have_text("$0.01")
    expect(page.locator("#variations")).to_be_hidden()
    page.click("#run")
    expect(page.locator("#json-error")).to_have_text("Invalid parameter: text must have at least 1 characters")
    page.fill("#json", "{")
    page.click("#run")
    expect(page.locator("#json-error")).to_contain_text("not valid JSON")
    page.fill("#json", '{"text": "hello"}')
    page.click("#tab-code")
    expect(page.locator("#code")).to_contain_text('"text": "hello"')
    page.click("#run")
    expect(page.locator("#badge-text")).to_have_text("Waiting: no worker serves this endpoint")
    page.keyboard.press("Escape")
    expect(page.locator("#badge-text")).to_have_text("Cancelled")
