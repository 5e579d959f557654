"""What people do on the playground."""

from typing import Any

import httpx
from playwright.sync_api import Page, Route, expect

from tests.servers import DEADLINE_S, Server, wait_until

SMALL = {"prompt": "a calm sea at night", "width": 256, "height": 256, "num_inference_steps": 4}
# Long enough for several previews on a quiet machine.
LONG = {"prompt": "mountains behind a lake at dawn", "width": 704, "height": 704, "num_inference_steps": 50}
# For a run that is cancelled: it is still drawn, however late this process looks.
ENDLESS = {"prompt": "mountains behind a lake at dawn", "width": 1536, "height": 1536, "num_inference_steps": 50}
# An endpoint that only `HandWorker` serves.
BY_HAND = "by-hand"
_RECORD = """(element) => {
  element.said = [];
  const options = { subtree: true, childList: true, characterData: true };
  new MutationObserver(() => element.said.push(element.textContent)).observe(element, options);
}"""
_HAS_SAID = "([selector, word]) => document.querySelector(selector).said.some((text) => new RegExp(word).test(text))"


def fill(page: Page, **fields: Any) -> None:
    """Type values into fields, by their wire names."""
    for name, value in fields.items():
        page.fill(f"#{name}", str(value))


def record(page: Page, selector: str) -> None:
    """Keep whatever an element says from now on: who looks now and then misses what stands for a moment."""
    page.locator(selector).evaluate(_RECORD)


def has_said(page: Page, selector: str, word: str) -> None:
    """Wait until an element that is recorded has said something, even if it says something else by now."""
    page.wait_for_function(_HAS_SAID, arg=[selector, word])


class Held(list[Route]):
    """Requests that wait until they are let through by hand."""

    def first(self, page: Page) -> Route:
        """The first of them, waited for: a page tells of a request before it is held."""
        while not self:
            page.wait_for_timeout(10)
        return self[0]


def hold(page: Page, address: str) -> Held:
    """Let requests to an address wait."""
    held = Held()
    page.route(address, lambda route: held.append(route))
    return held


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


class HandWorker:
    """The only worker of `by-hand`: a job stays in each of its states for as long as the test wants."""

    def __init__(self, server: Server) -> None:
        self._url = f"{server.url}/v2/{BY_HAND}"
        self._headers = {"Authorization": server.worker_token}

    def take(self) -> dict[str, Any]:
        """The next job, waited for."""
        url = f"{self._url}/job-take/hand?gpu=cpu&claim=1"

        def taken() -> Any:
            reply = httpx.get(url, headers=self._headers, timeout=DEADLINE_S)
            return reply.status_code == httpx.codes.OK and reply.json()

        return wait_until(taken, "there is a job for the hand")

    def tell(self, job: dict[str, Any], **progress: Any) -> None:
        """Say how far a job is."""
        self._send("job-stream", job, progress)

    def finish(self, job: dict[str, Any], **output: Any) -> None:
        """End a job well."""
        self._send("job-done", job, output)

    def _send(self, operation: str, job: dict[str, Any], output: dict[str, Any]) -> None:
        url = f"{self._url}/{operation}/hand/{job['id']}?claimToken={job['claimToken']}&isStream=false"
        reply = httpx.post(url, json={"output": output}, headers=self._headers, timeout=DEADLINE_S)
        assert reply.status_code == httpx.codes.OK, reply.text
