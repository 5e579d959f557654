"""The reference at `/docs`: Swagger UI in the frame of the site."""

from playwright.sync_api import expect

from tests.browser.conftest import Visitor


def test_the_reference_stands_in_the_frame_of_the_site_and_can_be_tried(visitor: Visitor) -> None:
    page = visitor.visit()
    page.get_by_role("link", name="API docs").click()
    expect(page.locator(".opblock").first).to_be_visible()
    expect(page.get_by_role("link", name="Usage", exact=True)).to_be_visible()
    page.get_by_role("button", name="Light or dark").click()
    expect(page.locator("html")).to_have_class("dark-mode" if page.locator("html[data-theme=dark]").count() else "")
    page.locator("#operations-catalogue-catalogue_endpoints .opblock-summary-control").click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()
    expect(page.locator(".live-responses-table").first).to_contain_text("black-forest-labs-flux-1-dev")
    page.get_by_role("link", name="Playground").click()
    expect(page.get_by_role("link", name="API docs")).to_be_visible()


def test_the_reference_has_the_key_of_the_other_pages(visitor: Visitor) -> None:
    page = visitor.visit()
    page.get_by_role("link", name="API docs").click()
    page.locator("#operations-usage-usage_usage .opblock-summary-control").click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()
    expect(page.locator(".live-responses-table tbody .response-col_status").first).to_contain_text("200")
    page.click("#key-button")
    page.click("#key-forget")
    page.get_by_role("button", name="Execute").click()
    expect(page.locator(".live-responses-table tbody .response-col_status").first).to_contain_text("401")
