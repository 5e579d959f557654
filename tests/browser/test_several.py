"""Several pictures of one job: each is looked at, kept, drawn again and finished by itself."""

import re

from playwright.sync_api import Page, expect

from tests.browser.actions import SMALL, fill, hold, thumbnails, values
from tests.browser.test_access import check_access

_WAIT_FOR = """(id) => fetch(`/v2/black-forest-labs-flux-1-dev/status-sync/${id}`, {
  headers: {Authorization: `Bearer ${localStorage.getItem("flux-endpoint.key")}`},
})"""


def test_each_picture_of_a_job_is_one_of_its_own(page: Page) -> None:
    fill(page, **SMALL | {"seed": 4_294_967_295, "num_images": 3, "stop_after": 2})
    # Three times half of 0.0013.
    expect(page.locator("#cost")).to_have_text("$0.0020")
    expect(page.locator("#cost-rule")).to_have_text(re.compile("3 pictures . 2 of 4 steps"))
    with page.expect_request("**/run") as sent:
        page.click("#run")
    assert sent.value.post_data_json["input"]["num_images"] == 3
    expect(page.locator(".frame img[data-kind=picture]")).to_have_count(3)
    expect(page.locator("#badge-text")).to_have_text("Completed, 3 pictures")
    expect(thumbnails(page)).to_have_count(3)
    check_access(page)
    page.click(".frame >> nth=1")
    expect(page.locator("#facts")).to_contain_text(re.compile(r"Cost\s*\$0.0007\s*Seed\s*0\s*Size"))
    picture = page.locator(".frame img").get_attribute("src")
    page.click("#actions >> text=All three")
    expect(page.locator(".frame")).to_have_count(3)
    page.click(".frame >> nth=1")
    # The draft that is looked at is the one that is finished.
    held = hold(page, "**/finish/*")
    page.click("text=Finish")
    finishing = held.first(page)
    assert finishing.request.post_data_json == {"picture": 2}
    # The server has it, and has drawn it, and the page is left before it knows.
    page.evaluate(_WAIT_FOR, finishing.fetch().json()["id"])
    page.unroute("**/finish/*")
    # As it was kept, it is a picture with a seed and settings of its own.
    page.reload()
    expect(thumbnails(page).locator("img")).to_have_count(4)
    thumbnails(page).first.click()
    expect(page.locator("#facts")).to_contain_text(re.compile(r"Seed\s*0\s*Size"))
    thumbnails(page).nth(2).click()
    expect(page.locator(".frame img")).to_have_attribute("src", picture or "")
    assert values(page, "seed", "num_images", "stop_after") == {"seed": "0", "num_images": "1", "stop_after": "2"}
