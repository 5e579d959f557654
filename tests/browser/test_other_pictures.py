"""Pictures to draw along and to read like a prompt, on a page whose catalogue says that there is such an endpoint."""

import base64
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from flux_endpoint.core.catalog import FLUX_CANNY, FLUX_DEV
from flux_endpoint.core.controlnet import ControlNetKind
from flux_endpoint.core.inputs import input_schema
from tests.browser.actions import fill, hold
from tests.browser.conftest import Visitor
from tests.browser.test_access import PHONE, check_access, has_horizontal_scroll
from tests.browser.test_earlier import DROP
from tests.browser.test_source import a_photo

FILE = ["map.png", "image/png", base64.b64encode(a_photo(512, 320)).decode()]


@pytest.fixture
def page(visitor: Visitor) -> Page:
    """The page of a gateway with Redux, a ControlNet of several kinds, and Flux Canny Dev."""

    def catalogue(route: Route) -> None:
        reply = route.fetch()
        dev, *others = reply.json()
        dev["input"] = input_schema(FLUX_DEV, controlnet=ControlNetKind.UNION)
        canny = dev | {"id": FLUX_CANNY.endpoint_id, "name": "Flux Canny Dev", "input": input_schema(FLUX_CANNY)}
        route.fulfill(json=[dev, canny, *others])

    visitor.context.route("**/v2/endpoints", catalogue)
    return visitor.visit()


def drop_on(page: Page, selector: str) -> None:
    page.evaluate(
        DROP.replace("document.body.dispatchEvent", f"document.querySelector('{selector}').dispatchEvent"), FILE
    )


def sent(page: Page) -> Any:
    """The input that the next run sends; nothing is drawn."""
    with page.expect_request("**/run") as sending:
        page.keyboard.press("Control+Enter")
    page.keyboard.press("Escape")
    return sending.value.post_data_json["input"]


@pytest.mark.parametrize("visitor_options", [{}, PHONE | {"color_scheme": "dark"}], ids=["desktop", "phone"])
def test_pictures_are_sent_as_what_they_were_dropped_on(page: Page, visitor_options: dict[str, Any]) -> None:
    hold(page, "**/run")
    fill(page, prompt="a lake")
    for field in ("control", "look"):
        drop_on(page, f"#{field}-open")
        expect(page.locator(f"#{field}-name")).to_have_text("map.png")
    expect(page.locator("#source-picture")).to_be_hidden()
    assert page.input_value("#width") == "512"
    page.select_option("#control_mode", "depth")
    fill(page, control_scale=0.5)
    check_access(page)
    assert not has_horizontal_scroll(page)
    asked = sent(page)
    assert asked["control_image"] == asked["image_prompt"] == f"data:image/png;base64,{FILE[2]}"
    assert (asked["control_mode"], asked["control_scale"], asked["image_prompt_scale"]) == ("depth", 0.5, 1)
    assert not {"image", "strength"} & asked.keys()
    page.click("#look-remove")
    expect(page.locator("#look-open")).to_be_focused()
    assert not {"image_prompt", "image_prompt_scale"} & sent(page).keys()


def test_an_endpoint_that_draws_along_maps_takes_any_picture_as_its_map(page: Page) -> None:
    page.click("text=Flux Canny Dev")
    fill(page, prompt="a lake")
    page.route(
        "**/run",
        lambda route: route.fulfill(status=400, json={"error": "Invalid parameter: control_image is required"}),
    )
    page.click("#run")
    expect(page.locator("#control_image-error")).to_be_visible()
    expect(page.locator("#control-open")).to_be_focused()
    page.evaluate(DROP, FILE)
    expect(page.locator("#control-name")).to_have_text("map.png")
    expect(page.locator("#control_image-error")).to_be_empty()
    # It has nothing but the map.
    expect(page.locator("#control_scale, #control_mode, #source-open, #look-open")).to_have_count(4)
    for name in ("control_scale", "control_mode", "source-open", "look-open"):
        expect(page.locator(f"#{name}")).to_be_hidden()
