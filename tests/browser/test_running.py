"""Making pictures: previews, the end, cancelling, errors, four at once."""

import base64
import json
import re

import httpx
import pytest
from playwright.sync_api import Page, expect

from flux_endpoint.core.acceleration import Acceleration
from flux_endpoint.core.image_formats import IMAGE_FORMATS, ImageFormat
from tests.browser.actions import (
    BY_HAND,
    ENDLESS,
    LONG,
    SMALL,
    HandWorker,
    badge,
    draw,
    fill,
    has_said,
    hold,
    record,
    thumbnails,
)
from tests.browser.conftest import Visitor
from tests.browser.test_access import check_access

# Each preview, and where the frame was.
_WATCH_PREVIEWS = """() => {
  window.seen = {};
  new MutationObserver(() => {
    const source = document.querySelector(".frame img[data-kind=preview]")?.getAttribute("src");
    if (!source) return;
    const { x, y, width, height } = document.querySelector(".frame").getBoundingClientRect();
    window.seen[source] ??= { x, y, width, height };
  }).observe(document.getElementById("frames"), { subtree: true, attributes: true, childList: true });
}"""


# Another tab takes a note back after its name was read.
_DROPPED_MEANWHILE = """
  localStorage.setItem("flux-endpoint.jotted.gone", "{}");
  const read = Storage.prototype.getItem;
  Storage.prototype.getItem = function (name) { return name.endsWith(".gone") ? null : read.call(this, name); };
"""


def test_the_picture_appears_while_it_is_made_and_nothing_jumps(page: Page) -> None:
    fill(page, **LONG)
    page.evaluate(_WATCH_PREVIEWS)
    record(page, "#badge-text")
    page.click("#run")
    badge(page, "done")
    has_said(page, "#badge-text", r"^Step \d+ of 50 · .* left$")
    picture = page.locator(".frame img[data-kind=picture]")
    expect(picture).to_be_visible()
    assert picture.evaluate("async (image) => { await image.decode(); return image.naturalWidth }") == 704
    previews = page.evaluate("window.seen")
    assert len(previews) > 1
    assert all(source.startswith("data:image/jpeg;base64,") for source in previews)
    assert all(box == page.locator(".frame").bounding_box() for box in previews.values())


def test_after_the_last_step_the_bar_has_some_way_to_go_still(visitor: Visitor) -> None:
    drawn = visitor.server.client.post("/runsync", json={"input": SMALL}).json()["output"]["image_url"]
    worker = HandWorker(visitor.server)
    page = visitor.visit(f"endpoint={BY_HAND}&input=%7B%7D")
    page.click("#run")
    job = worker.take()
    preview = "data:image/jpeg;base64," + base64.b64encode(httpx.get(drawn).content).decode()
    worker.tell(job, step=50, total=50, percent=60, eta_ms=600_000, preview=preview)
    expect(page.locator("#badge-text")).to_have_text("Decoding · 10 min left")
    part = float(page.locator(".frame .done").evaluate("(bar) => bar.style.getPropertyValue('--part')"))
    assert 0.6 <= part < 1
    expect(page.locator(".frame img[data-kind=preview]")).to_be_visible()
    before = page.locator(".frame").bounding_box()
    worker.finish(job, image_url=drawn)
    badge(page, "done")
    expect(page.locator(".frame img[data-kind=picture]")).to_be_visible()
    expect(page.locator(".frame .track")).to_be_hidden()
    assert page.locator(".frame").bounding_box() == before


def test_time_cost_and_seed_are_told(page: Page) -> None:
    draw(page, seed=7)
    facts = page.locator("#facts").inner_text()
    assert "$0.0013" in facts
    assert "Seed\n7" in facts or "Seed 7" in facts
    assert re.search(r"Time\s+[\d.]+ s", facts)


def test_a_draft_is_finished_by_a_button(page: Page) -> None:
    draw(page, num_inference_steps=6, stop_after=2, seed=9)
    # 0.0013 for the whole picture.
    expect(page.locator("#cost")).to_have_text("$0.0004")
    expect(page.locator("#cost-rule")).to_have_text(re.compile("2 of 6 steps"))
    draft = page.locator(".frame img[data-kind=picture]").get_attribute("src")
    page.dblclick("text=Finish")
    expect(thumbnails(page)).to_have_count(2)
    badge(page, "done")
    expect(page.locator(".frame img[data-kind=picture]")).not_to_have_attribute("src", draft or "")
    expect(page.locator("#actions")).not_to_contain_text("Finish")
    facts = page.locator("#facts").inner_text()
    assert "$0.0009" in facts
    # What is asked next is still a draft; the finished one is asked for as it is.
    expect(page.locator("#stop_after")).to_have_value("2")
    thumbnails(page).first.click()
    expect(page.locator("#stop_after")).to_have_value("0")


def test_escape_cancels(page: Page) -> None:
    fill(page, **ENDLESS)
    page.click("#run")
    expect(page.locator("#cancel")).to_be_visible()
    badge(page, "busy")
    expect(page.locator("#badge-text")).to_have_text(re.compile("queue|Running|Step"))
    page.route("**/cancel/*", lambda route: route.abort(), times=1)
    page.keyboard.press("Escape")
    expect(page.locator("#form-error")).to_have_text("The server does not answer. Is it running?")
    page.keyboard.press("Escape")
    expect(page.locator("#badge-text")).to_have_text("Cancelled")
    expect(page.locator("#form-error")).to_be_empty()
    expect(page.locator(".frame .words")).to_have_text("Cancelled. Nothing was charged.")
    expect(page.locator("#cancel")).to_be_hidden()


def test_what_is_cancelled_while_it_is_sent_is_not_drawn(visitor: Visitor) -> None:
    page = visitor.visit()
    fill(page, **ENDLESS, seed=5)
    held = hold(page, "**/run")
    with page.expect_request("**/run"):
        page.click("#variations")
    page.keyboard.press("Escape")
    expect(page.locator("#cancel")).to_be_hidden()
    expect(page.locator(".frame .words")).to_have_text(["Cancelled. Nothing was charged."] * 4)
    with page.expect_response("**/cancel/*") as cancelled:
        held.first(page).continue_()
    assert cancelled.value.json()["status"] == "CANCELLED"
    # The other three are not sent.
    expect(thumbnails(page)).to_have_count(1)
    assert len(held) == 1


def test_what_is_cancelled_in_the_queue_is_not_sent_anew(visitor: Visitor) -> None:
    page = visitor.visit()
    # Nobody serves it, so that all of them wait.
    page.click("#endpoints >> text=Echo")
    for name in ("first", "second"):
        page.fill("#json", json.dumps({"text": name, "prompt": name}))
        page.click("#run")
        expect(thumbnails(page)).to_have_count(("first", "second").index(name) + 1)
    page.evaluate("void (IDBObjectStore.prototype.delete = () => ({}))")  # not yet, and nothing waits for it
    held = hold(page, "**/run")
    with page.expect_request("**/run"):
        page.get_by_role("button", name="Draw earlier second").click()
    page.get_by_role("button", name="Cancel first").click()
    held.first(page).continue_()
    expect(page.locator("#queue")).not_to_have_attribute("aria-busy", "true")
    expect(page.locator("#queue .title")).to_have_text(["second"])
    headers = {"Authorization": f"Bearer {visitor.api_key}"}
    waiting = httpx.get(f"{visitor.server.url}/v2/echo/requests?status=IN_QUEUE", headers=headers).json()
    assert len(waiting["requests"]) == 1
    page.unroute("**/run")
    page.fill("#json", json.dumps({"text": "third", "prompt": "third"}))
    page.click("#run")
    expect(page.locator("#queue .title")).to_have_text(["second", "third"])
    # What cannot be taken out where it stood is seen, since it waits still.
    page.route("**/cancel/*", lambda route: route.abort(), times=1)
    page.get_by_role("button", name="Draw earlier third").click()
    expect(page.locator("#queue .title")).to_have_text(["third", "second", "second"])
    expect(page.locator("#form-error")).to_have_text("The server does not answer. Is it running?")
    for left in (2, 1, 0):
        page.locator("#queue").get_by_role("button", name="Cancel").first.click()
        expect(page.locator("#queue .title")).to_have_count(left)
    waiting = httpx.get(f"{visitor.server.url}/v2/echo/requests?status=IN_QUEUE", headers=headers).json()
    assert waiting["requests"] == []


def test_wrong_input_is_marked_at_its_field_in_the_servers_words(page: Page) -> None:
    draw(page)
    state = page.locator("#badge-text").inner_text()
    fill(page, **SMALL | {"width": 1000})
    page.click("#run")
    expect(page.locator("#width-error")).to_have_text("Invalid parameter: width must be divisible by 64")
    expect(page.locator("#width")).to_have_attribute("aria-invalid", "true")
    expect(page.locator("#width")).to_be_focused()
    # The picture of before is still there, and so is what was said of it; nothing came into the history.
    expect(page.locator("#badge-text")).to_have_text(state)
    expect(page.locator(".frame img[data-kind=picture]")).to_be_visible()
    expect(thumbnails(page)).to_have_count(1)
    # What is looked at when the refusal comes is looked at still.
    page.click("#reset")
    fill(page, **SMALL | {"width": 1000})
    held = hold(page, "**/run")
    page.click("#run")
    thumbnails(page).click()
    with page.expect_response("**/run"):
        held.first(page).continue_()
    expect(page.locator("#width-error")).not_to_be_empty()
    page.unroute("**/run")
    expect(thumbnails(page)).to_have_attribute("aria-current", "true")
    page.fill("#width", "256")
    expect(page.locator("#width-error")).to_be_empty()
    page.fill("#prompt", "")
    page.click("#run")
    expect(page.locator("#prompt-error")).to_have_text("Invalid parameter: prompt must not be empty")


def test_a_server_that_does_not_answer_is_told_as_such(page: Page) -> None:
    page.route("**/run", lambda route: route.abort())
    fill(page, **SMALL)
    page.click("#run")
    expect(page.locator("#form-error")).to_have_text("The server does not answer. Is it running?")
    expect(page.locator("#form-error")).to_be_in_viewport()
    expect(page.locator("#badge-text")).to_have_text("Ready")
    expect(page.locator(".frame.welcome")).to_be_visible()


def test_the_answer_can_be_read_as_json(page: Page) -> None:
    draw(page)
    page.click("#tab-json")
    answer = json.loads(page.locator("#json-output").inner_text())
    assert answer["status"] == "COMPLETED"
    assert answer["output"]["image_url"].endswith(".jpg")


@pytest.mark.parametrize("image_format", IMAGE_FORMATS.values(), ids=IMAGE_FORMATS)
def test_a_picture_of_each_format_is_seen_and_can_be_downloaded(page: Page, image_format: ImageFormat) -> None:
    page.select_option("#image_format", image_format.name)
    draw(page, prompt="A calm sea, at night!", seed=5)
    picture = page.locator(".frame img[data-kind=picture]")
    assert picture.evaluate("async (image) => { await image.decode(); return image.naturalWidth }") == 256
    with page.expect_download() as download:
        page.click("#actions >> text=Download")
    assert download.value.suggested_filename == f"a-calm-sea-at-night-5.{image_format.extension}"
    assert image_format.is_in(download.value.path().read_bytes())


def test_a_faster_picture_says_what_ran(page: Page) -> None:
    offered = page.locator("#acceleration option").evaluate_all("(options) => options.map(({ value }) => value)")
    assert offered == list(Acceleration)
    page.select_option("#acceleration", "high")
    draw(page, negative_prompt="boats")
    # In place of `high`, which takes no negative prompt.
    expect(page.locator("#facts")).to_contain_text(re.compile(r"Acceleration\s*regular"))


def test_four_seeds_at_once(page: Page) -> None:
    fill(page, **SMALL | {"seed": 4_294_967_294})
    page.click("#variations")
    expect(page.locator(".frame")).to_have_count(4)
    badge(page, "done")
    expect(page.locator(".frame img[data-kind=picture]")).to_have_count(4)
    page.click(".frame >> nth=2")
    expect(page.locator(".frame")).to_have_count(1)
    # A kept seed counts up, and begins anew at the end of its range.
    expect(page.locator("#facts")).to_contain_text(re.compile(r"Seed\s*0\s*Size"))
    page.click("#actions >> text=All four")
    expect(page.locator(".frame")).to_have_count(4)
    expect(thumbnails(page)).to_have_count(4)


def test_a_run_goes_on_when_the_page_is_left(visitor: Visitor) -> None:
    page = visitor.visit()
    fill(page, **SMALL | {"num_inference_steps": 20})
    page.click("#run")
    expect(thumbnails(page)).to_have_count(1)
    page.reload()
    # It is shown again, with nothing to be done.
    expect(page.locator(".frame")).to_have_count(1)
    expect(page.locator(".frame.welcome")).to_have_count(0)
    badge(page, "done")
    expect(page.locator(".frame img[data-kind=picture]")).to_be_visible()
    page.reload()
    expect(page.locator(".frame img[data-kind=picture]")).to_be_visible()
    expect(thumbnails(page).locator("img")).to_be_visible()


def test_a_run_goes_on_when_the_page_is_left_before_the_browser_has_kept_it(page: Page) -> None:
    page.evaluate("IDBObjectStore.prototype.put = () => ({})")  # not yet, and a reload ends what is under way
    page.add_init_script(_DROPPED_MEANWHILE)
    page.evaluate("addEventListener('beforeunload', () => history.replaceState(history.state, '', '#late'))")
    fill(page, **SMALL)
    page.click("#run")
    expect(thumbnails(page)).to_have_count(1)
    page.reload()
    badge(page, "done")
    expect(page.locator("#prompt")).to_have_value(SMALL["prompt"])
    expect(page.locator(".frame img[data-kind=picture]")).to_be_visible()
    expect(thumbnails(page).locator("img")).to_be_visible()
    page.once("dialog", lambda dialog: dialog.accept())
    page.click("#clear")
    page.reload()
    expect(page.locator(".frame.welcome")).to_be_visible()
    expect(thumbnails(page)).to_have_count(0)


def test_what_is_run_meanwhile_waits_in_a_queue_that_is_seen(page: Page) -> None:
    # Nobody serves it, so that it stays as long as it is wanted.
    page.click("#endpoints >> text=Echo")
    page.fill("#json", '{"text": "hello"}')
    page.click("#run")
    expect(page.locator("#run")).to_contain_text("Add to queue")
    expect(page.locator("#queue-box")).to_be_hidden()
    page.keyboard.press("Control+Enter")
    entries = page.locator("#queue li")
    expect(entries).to_have_count(2)
    expect(entries.nth(1)).to_contain_text("no worker")
    check_access(page)
    # More than a browser has connections for.
    for count in range(3, 9):
        page.keyboard.press("Control+Enter")
        expect(entries).to_have_count(count)
    for count in range(7, 1, -1):
        entries.nth(count).get_by_role("button", name="Cancel Echo").click()
        expect(entries).to_have_count(count)
    # What is looked at stays, until something else is chosen.
    expect(entries.nth(0).locator(".open")).to_have_attribute("aria-current", "true")
    entries.nth(1).locator(".open").click()
    expect(entries.nth(1).locator(".open")).to_have_attribute("aria-current", "true")
    entries.nth(0).get_by_role("button", name="Cancel Echo").click()
    expect(page.locator("#queue-box")).to_be_hidden()
    page.click("text=Flux Dev")
    fill(page, **ENDLESS, seed=5)
    page.click("#variations")
    expect(entries.nth(1)).to_contain_text("4 pictures")
    entries.nth(1).get_by_role("button", name="Cancel").click()
    page.click("#run")
    expect(entries.nth(1)).not_to_contain_text("4 pictures")
    page.click("#cancel")
    # The next follows by itself, as soon as nothing is looked at that is not over.
    expect(page.locator(".frame img[data-kind=preview]")).to_be_visible()
    page.click("#cancel")
    expect(page.locator("#badge-text")).to_have_text("Cancelled")
    expect(page.locator("#queue-box")).to_be_hidden()


def test_what_waits_is_put_in_another_order(visitor: Visitor) -> None:
    page = visitor.visit()
    # Nobody serves it, so that all of them wait.
    page.click("#endpoints >> text=Echo")
    for name in ("first", "second", "third"):
        page.fill("#json", json.dumps({"text": name, "prompt": name}))
        page.click("#run")
        expect(thumbnails(page)).to_have_count(("first", "second", "third").index(name) + 1)
    titles = page.locator("#queue .title")
    expect(titles).to_have_text(["first", "second", "third"])
    check_access(page)
    page.get_by_role("button", name="Draw earlier third").press("Enter")
    expect(titles).to_have_text(["first", "third", "second"])
    expect(page.get_by_role("button", name="Draw earlier third")).to_be_focused()
    expect(page.locator("#announcer")).to_have_text("Place 2 of 3 that wait")
    # What is looked at is looked at still, though it was sent anew.
    page.get_by_role("button", name="Draw later first").press("Enter")
    expect(titles).to_have_text(["third", "first", "second"])
    expect(page.locator("#queue [aria-current=true] .title")).to_have_text("first")
    page.locator("#queue li").nth(2).drag_to(page.locator("#queue li").nth(0))
    expect(titles).to_have_text(["second", "third", "first"])
    # The server knows no other order, and nothing waits twice.
    shown = page.locator("#queue li").evaluate_all("(entries) => entries.map(({ dataset }) => dataset.set)")
    headers = {"Authorization": f"Bearer {visitor.api_key}"}
    newest_first = httpx.get(f"{visitor.server.url}/v2/echo/requests?status=IN_QUEUE", headers=headers).json()
    assert [one["id"] for one in newest_first["requests"]] == shown[::-1]
    expect(thumbnails(page)).to_have_count(3)
    page.reload()
    expect(titles).to_have_text(["second", "third", "first"])
    page.get_by_role("button", name="Cancel third").click()
    expect(titles).to_have_text(["second", "first"])
    page.get_by_role("button", name="Cancel second").click()
    expect(page.locator("#queue-box")).to_be_hidden()
    page.click("#cancel")
    expect(page.locator("#badge-text")).to_have_text("Cancelled")


def test_what_people_write_is_only_ever_text(page: Page) -> None:
    prompt = '<img src=x onerror="document.title=1"> & <script>document.title=2</script>'
    draw(page, prompt=prompt)
    page.reload()
    thumbnails(page).click()
    for tab in ("#tab-json", "#tab-code"):
        page.click(tab)
    assert page.input_value("#prompt") == prompt
    assert page.locator("img[src=x]").count() == 0
    assert page.title() == "Playground · flux-endpoint"
