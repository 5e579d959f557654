"""How it looks: pictures in build/screenshots, for people to judge, and for the docs."""

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Route, expect

from tests.browser.actions import badge, draw, fill
from tests.browser.conftest import DEADLINE_MS, Visitor
from tests.browser.past import write_past
from tests.servers import DEV, SCHNELL, Servers

FOLDER = Path(__file__).parents[2] / "build" / "screenshots"
SUNSET = {
    "prompt": "A serene mountain landscape at sunset, golden light filtering through clouds, photorealistic",
    "seed": 42,
    "num_inference_steps": 28,
}
PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "is_mobile": True, "has_touch": True}


def _of_flux(route: Route) -> None:
    """As on a server without endpoints of one's own."""
    reply = route.fetch()
    route.fulfill(response=reply, json=[endpoint for endpoint in reply.json() if endpoint["id"] in (DEV, SCHNELL)])


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
    visitor.context.route("**/v2/endpoints", _of_flux)
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
        else:
            for prompt in (
                "snowy mountains at dawn",
                "a green meadow on a bright day",
                "a calm sea at night, full moon",
            ):
                draw(page, prompt=prompt, num_inference_steps=8, seed=7)
        draw(page, **SUNSET, width=768, height=512)
        expect(page.locator("#thumbnails img").first).to_be_visible()
    page.screenshot(path=FOLDER / f"{name}.png")
    assert (FOLDER / f"{name}.png").stat().st_size > 10_000


def test_the_usage_page_of_a_busy_server(browser: Browser, tmp_path: Path) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    write_past(tmp_path / "data" / "flux-endpoint.db")
    servers = Servers(tmp_path)
    try:
        server = servers.start(model="fake:3", run_retention_s=0)
        key = (server.data_dir / "api-key").read_text().strip()
        running, _ = server.submit(prompt="a calm sea at night"), server.submit(prompt="a green meadow")
        server.wait_status(running, "IN_PROGRESS")
        context = browser.new_context(viewport={"width": 1440, "height": 900}, color_scheme="light")
        page = context.new_page()
        page.set_default_timeout(DEADLINE_MS)
        page.goto(f"{server.url}/usage#key={key}")
        expect(page.locator("#requests-chart g")).to_have_count(48)
        page.screenshot(path=FOLDER / "usage-busy.png", full_page=True)
        page.get_by_role("radio", name="7 days").check(force=True)
        expect(page.locator("#requests-chart g")).to_have_count(56)
        expect(page.locator("#spend-chart")).to_be_visible()
        expect(page.locator("#queue [data-figure=Running]")).to_have_text("1")
        expect(page.locator("#workers [data-figure=Running]")).to_have_text("1")
        page.screenshot(path=FOLDER / "usage-busy-week.png", full_page=True)
        context.close()
    finally:
        servers.close()
