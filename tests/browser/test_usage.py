"""The page of figures at `/usage`, and a picture of it in build/screenshots."""

import json

import httpx
import pytest
from playwright.sync_api import Page, expect

from flux_endpoint.core.webhook import FAILURES_TO_PAUSE
from tests.browser.actions import SMALL, badge, draw, values
from tests.browser.conftest import Visitor
from tests.browser.test_access import check_access, has_horizontal_scroll
from tests.browser.test_screenshots import FOLDER

# After so long the page asks again.
PERIOD_MS = 5_000
PHONE = {"width": 390, "height": 844}


def figure(page: Page, place: str, name: str) -> int:
    return int(page.locator(f"#{place} [data-figure='{name}']").inner_text().replace(",", ""))


@pytest.mark.usefixtures("own_profile")
def test_the_figures_appear_follow_and_change_with_the_range(visitor: Visitor) -> None:
    page = visitor.visit()
    page.clock.install()
    draw(page, seed=7)
    page.get_by_role("link", name="Usage").click()
    completed = page.locator("#requests [data-figure=Completed]")
    expect(completed).to_be_visible()
    before = figure(page, "requests", "Completed")
    assert before >= 1
    expect(page.locator("#times tr").first.locator("td").first).to_contain_text("s")
    # The worker of this server has started.
    expect(page.locator("#times tr", has_text="Cold start").locator("td").first).to_contain_text(" s")
    assert figure(page, "workers", "Idle") + figure(page, "workers", "Running") >= 1
    expect(page.get_by_role("img", name="Requests over 24 hours")).to_be_visible()
    # Something that happens elsewhere shows without a click.
    headers = {"Authorization": visitor.api_key}
    waiting = httpx.post(
        f"{visitor.server.url}/v2/echo/run", content=json.dumps({"input": {"text": "x"}}), headers=headers
    ).json()["id"]
    row = page.locator("#jobs tr", has_text=waiting)
    page.clock.fast_forward(PERIOD_MS)
    expect(row).to_contain_text("In queue")
    httpx.post(f"{visitor.server.url}/v2/echo/cancel/{waiting}", headers=headers)
    page.clock.fast_forward(PERIOD_MS)
    expect(row).to_contain_text("Cancelled")

    page.get_by_role("radio", name="1 hour").check(force=True)
    expect(page.locator("#requests-chart g")).to_have_count(60)
    assert "range=1h" in page.url
    page.reload()
    expect(page.locator("#requests-chart g")).to_have_count(60)
    page.locator("#endpoint").select_option("echo")
    expect(completed).to_have_text("0")
    page.locator("#endpoint").select_option("")
    page.get_by_role("radio", name="7 days").check(force=True)
    expect(page.locator("#requests-chart g")).to_have_count(56)
    expect(completed).to_have_text(str(before))


def test_a_job_leads_to_its_picture_and_says_who_drew_it(visitor: Visitor) -> None:
    job = visitor.server.client.post("/runsync", json={"input": SMALL | {"prompt": "a lake at dawn", "seed": 5}}).json()
    page = visitor.visit()
    page.get_by_role("link", name="Usage").click()
    row = page.locator("#jobs tr", has_text=job["id"])
    expect(row).to_contain_text(job["workerId"])
    page.locator("#state").select_option("Failed or timed out")
    expect(page.locator("#jobs")).not_to_contain_text("Completed")
    page.locator("#state").select_option("Completed")
    page.reload()
    expect(page.locator("#state")).to_have_value("COMPLETED")
    # A press is not lost when the figures are others meanwhile.
    row.get_by_role("link").hover()
    page.mouse.down()
    page.evaluate("window.figure = document.querySelector('[data-figure]')")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    page.wait_for_function("!figure.isConnected")
    page.mouse.up()
    # Of whoever's it is: the file tells how it was drawn.
    expect(page.locator(".frame img[data-kind=picture]")).to_be_visible()
    assert values(page, "prompt", "seed") == {"prompt": "a lake at dawn", "seed": "5"}
    badge(page, "done")


def test_paused_receivers_of_webhooks_are_told(visitor: Visitor) -> None:
    page = visitor.visit()
    page.get_by_role("link", name="Usage").click()
    expect(page.locator("#jobs")).to_be_visible()
    expect(page.locator("#webhooks-section")).to_be_hidden()
    headers = {"Authorization": visitor.api_key}
    body = {"input": {"text": "x"}, "webhook": "http://127.0.0.1:9/hook?token=geheim"}
    for _ in range(FAILURES_TO_PAUSE):
        job_id = httpx.post(f"{visitor.server.url}/v2/echo/run", json=body, headers=headers).json()["id"]
        httpx.post(f"{visitor.server.url}/v2/echo/cancel/{job_id}", headers=headers)
    row = page.locator("#webhooks tr", has_text="http://127.0.0.1:9")
    expect(row).to_contain_text("cannot be reached")
    assert "geheim" not in page.content()
    check_access(page)


def test_the_page_of_figures_is_for_everybody(visitor: Visitor) -> None:
    page = visitor.visit()
    draw(page, seed=8)
    page.get_by_role("link", name="Usage").click()
    page.get_by_role("radio", name="1 hour").check(force=True)
    expect(page.locator("#requests-chart g")).to_have_count(60)
    check_access(page)
    FOLDER.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=FOLDER / "usage.png", full_page=True)
    page.click("#theme")
    check_access(page)
    page.screenshot(path=FOLDER / "usage-dark.png", full_page=True)
    page.set_viewport_size(PHONE)
    assert not has_horizontal_scroll(page)
    page.evaluate("localStorage.clear()")
    page.reload()
    expect(page.locator("#welcome")).to_contain_text("Sign in with an API key")
    expect(page.locator("#jobs")).to_be_hidden()
    check_access(page)
    page.click("#welcome-button")
    page.fill("#key-input", visitor.api_key)
    page.keyboard.press("Enter")
    expect(page.locator("#requests-chart g")).to_have_count(60)
    expect(page.locator("#welcome")).to_be_hidden()
