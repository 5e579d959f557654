"""What people do on the playground."""

from typing import Any

from playwright.sync_api import Page, expect

SMALL = {"prompt": "a calm sea at night", "width": 256, "height": 256, "num_inference_steps": 4}
# Long enough for several previews on a quiet machine.
LONG = {"prompt": "mountains behind a lake at dawn", "width": 704, "height": 704, "num_inference_steps": 50}


def fill(page: Page, **fields: Any) -> None:
    """Type values into fields, by their wire names."""
    for name, value in fields.items():
        page.fill(f"#{name}", str(value))


def badge(page: Page, state: str) -> None:
    """Wait until what runs is in a state: idle, busy, done or bad."""
    expect(page.locator("#badge")).to_have_attribute("data-state", state)


def draw(page: Page, **fields: Any) -> None:
    """Make one picture and wait until it is seen."""
    fill(page, **SMALL | fields)
    page.click("#run")
    badge(page, "done")
    expect(page.locator(".frame img[data-kind=picture]")).to_be_visible()


def values(page: Page, *names: str) -> dict[str, str]:
    """What stands in fields."""
    return {name: page.input_value(f"#{name}") for name in names}


def thumbnails(page: Page) -> Any:
    """The earlier pictures."""
    return page.locator("#thumbnails button")
