"""What a full or slow browser, a lost connection, a late answer or another tab must not lose."""

import re

import httpx
import pytest
from playwright.sync_api import Error, Page, Route, expect

from tests.browser.actions import BY_HAND, SMALL, HandWorker, badge, draw, fill, hold, thumbnails
from tests.browser.conftest import Visitor

BY_HAND_FORM = f"endpoint={BY_HAND}&input=%7B%7D"
FULL = "void (IDBObjectStore.prototype.put = () => { throw new DOMException('full', 'QuotaExceededError') })"
NEVER_AGAIN = """() => {
  const { put } = IDBObjectStore.prototype;
  let isFirst = true;
  IDBObjectStore.prototype.put = function (record) {
    if (!isFirst) return {};
    isFirst = false;
    return put.call(this, record);
  };
}"""
# Another tab's news that come when this one knows better: that it is over, or that it is removed.
TOLD_LATE = """async () => {
  const { History } = await import("./playground/history.js");
  const [here, there] = [await History.open(), await History.open()];
  const changed = () => new Promise((resolve) => here.addEventListener("change", resolve, { once: true }));
  const told = changed();
  there.save({ id: "told-late", status: "IN_QUEUE", createdMs: 1, input: {} });
  await told;
  here.get("told-late").status = "COMPLETED";
  const again = changed();
  there.save({ id: "told-late", status: "IN_QUEUE", createdMs: 1, input: {} });
  await again;
  const { status } = here.get("told-late");
  const { get } = IDBObjectStore.prototype;
  let last;
  let asked = 0;
  IDBObjectStore.prototype.get = function (id) {
    const read = get.call(this, id);
    if (++asked < 2) return read; // the page's own
    IDBObjectStore.prototype.get = get;
    here.remove([id]);
    last = changed();
    return read;
  };
  there.save({ id: "told-late", status: "IN_QUEUE", createdMs: 1, input: {} });
  while (!last) await new Promise((resolve) => setTimeout(resolve));
  await last;
  return [status, here.get("told-late")?.status ?? "gone"];
}"""
NEVER = "void (IDBObjectStore.prototype.put = () => ({}))"


def test_a_browser_that_keeps_nothing_more_shows_what_is_drawn(visitor: Visitor) -> None:
    page, worker = visitor.visit(BY_HAND_FORM), HandWorker(visitor.server)
    page.evaluate(FULL)
    page.click("#run")
    worker.finish(worker.take(), text="done")
    badge(page, "done")
    expect(thumbnails(page)).to_have_count(1)
    expect(page.locator("#earlier-note")).to_contain_text("This browser keeps nothing")


def test_what_waits_in_the_queue_is_kept_before_the_browser_has_kept_it(visitor: Visitor) -> None:
    page, worker = visitor.visit(BY_HAND_FORM), HandWorker(visitor.server)
    page.evaluate(NEVER)
    for count in (1, 2):
        page.click("#run")
        expect(thumbnails(page)).to_have_count(count)
    page.reload()
    expect(thumbnails(page)).to_have_count(2)
    for _ in range(2):
        worker.finish(worker.take(), text="done")
    expect(thumbnails(page).locator(".mark")).to_have_count(0)
    page.reload()
    expect(thumbnails(page)).to_have_count(2)


def test_all_pictures_of_a_job_are_kept_at_once(page: Page) -> None:
    page.evaluate(NEVER_AGAIN)
    fill(page, **SMALL)
    page.fill("#num_images", "2")
    page.click("#run")
    expect(thumbnails(page)).to_have_count(2)
    page.reload()
    expect(thumbnails(page)).to_have_count(2)


def test_a_run_waits_until_somebody_is_signed_in_again(visitor: Visitor) -> None:
    page, worker = visitor.visit(BY_HAND_FORM), HandWorker(visitor.server)
    page.click("#run")
    expect(thumbnails(page)).to_have_count(1)
    page.evaluate("localStorage.removeItem('flux-endpoint.key')")
    page.reload()
    expect(page.locator("#badge-text")).to_have_text("Sign in to see it")
    page.click("#cancel")
    expect(page.locator("#key-error")).to_have_text("You are not signed in.")
    page.click("#key-close")
    worker.finish(worker.take(), text="done")
    page.click("#key-button")
    page.fill("#key-input", visitor.api_key)
    page.click("#key-save")
    badge(page, "done")


def test_a_picture_that_does_not_arrive_has_not_expired(page: Page) -> None:
    draw(page)
    lost = re.compile(r"/(images|embedded)/")
    page.route(lost, lambda route: route.abort())
    page.reload()
    expect(page.locator(".frame .words")).to_have_text("The picture does not arrive. Trying again.")
    page.unroute(lost)
    expect(page.locator(".frame img[data-kind=picture]")).to_be_visible()
    expect(page.locator(".frame .words")).to_be_hidden()
    expect(thumbnails(page).locator(".mark")).to_have_count(0)
    # Nor are the words lost that the model knows.
    page.click("text=Flux Schnell")
    fill(page, prompt="a robot")
    expect(page.locator("#unknown")).to_contain_text("Does not know: robot")


def test_a_run_of_another_tab_is_followed(visitor: Visitor) -> None:
    here, there, worker = visitor.visit(BY_HAND_FORM), visitor.visit(), HandWorker(visitor.server)
    here.click("#run")
    expect(thumbnails(there)).to_have_count(1)
    here.close()
    thumbnails(there).click()
    worker.finish(worker.take(), text="done")
    badge(there, "done")


def test_what_two_tabs_follow_is_taken_apart_once(visitor: Visitor) -> None:
    here, worker = visitor.visit(BY_HAND_FORM), HandWorker(visitor.server)
    here.click("#run")
    expect(thumbnails(here)).to_have_count(1)
    there = visitor.context.new_page()
    held = hold(there, "**/events/*")
    there.goto(visitor.server.url)
    thumbnails(there).click()
    url = f"{visitor.server.url}/images/gone.jpg"
    worker.finish(worker.take(), image_url=url, images=[url, url], seeds=[7, 8], seed=7, cost=0.03)
    # Told by the other tab, and only then by the server.
    expect(thumbnails(there)).to_have_count(2)
    held.first(there).continue_()
    expect(there.locator(".frame")).to_have_count(2)
    thumbnails(there).nth(1).click()
    expect(there.locator("#facts")).to_contain_text(re.compile(r"Cost\s*\$0\.015\d*\s*Seed\s*7"))
    assert here.evaluate(TOLD_LATE) == ["COMPLETED", "gone"]


def test_a_sheet_goes_on_when_the_page_is_left(page: Page) -> None:
    fill(page, **SMALL)
    page.click("#sheet-open")
    page.fill("#sheet-across-values", "1, 2")
    page.select_option("#sheet-down", "none")
    hold(page, "**/requests?limit=*")
    with page.expect_request("**/requests?limit=*"):
        page.click("text=Draw 2 pictures")
    page.reload()
    expect(thumbnails(page).locator("img")).to_have_count(2)


def test_a_run_whose_answer_was_lost_is_drawn_once(visitor: Visitor) -> None:
    page, worker = visitor.visit(BY_HAND_FORM), HandWorker(visitor.server)

    def lose(route: Route) -> None:
        route.fetch()
        route.abort()

    page.route("**/run", lose, times=1)
    page.click("#run")
    expect(page.locator("#json-error")).to_have_text("The server does not answer. Is it running?")
    page.click("#run")
    expect(thumbnails(page)).to_have_count(1)
    worker.finish(worker.take(), text="done")
    badge(page, "done")
    # The next one is another.
    held = hold(page, "**/run")
    page.click("#run")
    page.wait_for_function("() => document.querySelector('#badge-text').textContent === 'Sending'")
    held.first(page).fetch()
    page.unroute("**/run")
    page.reload()
    job = worker.take()
    worker.finish(job, text="done")
    badge(page, "done")
    expect(thumbnails(page)).to_have_count(2)
    headers = {"Authorization": f"Bearer {visitor.api_key}"}
    assert (
        httpx.get(f"{visitor.server.url}/v2/{BY_HAND}/requests?status=IN_QUEUE", headers=headers).json()["requests"]
        == []
    )


def test_a_late_answer_takes_nothing_away(visitor: Visitor) -> None:
    page, worker = visitor.visit(BY_HAND_FORM), HandWorker(visitor.server)
    url, headers = f"{visitor.server.url}/v2/{BY_HAND}", {"Authorization": f"Bearer {visitor.api_key}"}
    other = httpx.post(f"{url}/run", json={"input": {}}, headers=headers).json()["id"]
    worker.finish(worker.take(), text="of somebody else")
    held = hold(page, "**/status/*")
    with page.expect_request("**/status/*"):
        page.evaluate("(fragment) => (location.hash = fragment)", f"endpoint={BY_HAND}&job={other}")
    page.click("#run")
    worker.finish(worker.take(), text="mine")
    badge(page, "done")
    with page.expect_response("**/status/*"):
        held.first(page).continue_()
    page.evaluate("new Promise((resolve) => setTimeout(resolve, 50))")
    expect(page.locator("#json-output")).to_contain_text("mine")


def test_a_connection_that_has_fallen_silent_is_left(page: Page) -> None:
    program = """async () => {
      const { readEvents } = await import("./playground/sse.js");
      for await (const _ of readEvents(new ReadableStream({}), 50));
    }"""
    with pytest.raises(Error, match="the server is silent"):
        page.evaluate(program)


def test_a_tab_that_is_not_looked_at_holds_no_connection(visitor: Visitor) -> None:
    behind, worker = visitor.visit(BY_HAND_FORM), HandWorker(visitor.server)
    with behind.expect_response("**/events/*"):
        behind.click("#run")
    behind.evaluate("() => Object.defineProperty(document, 'hidden', { get: () => true })")
    with behind.expect_event("requestfailed", lambda request: "/events/" in request.url):
        visitor.visit()
    worker.finish(worker.take(), text="done")
    badge(behind, "done")
