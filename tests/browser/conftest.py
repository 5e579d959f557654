"""One server with the embedded model and one browser for all tests of the playground; an empty profile for each."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Request, expect, sync_playwright

from tests.browser.actions import BY_HAND
from tests.servers import Server, Servers

HERE = Path(__file__).parent
# A loaded machine draws ten times slower than a quiet one; only a test that fails waits so long.
DEADLINE_MS = 90_000
DESKTOP = {"width": 1440, "height": 900}
PERMISSIONS = ["clipboard-read", "clipboard-write"]
DEFAULTS: dict[str, Any] = {"viewport": DESKTOP, "reduced_motion": "reduce", "permissions": PERMISSIONS}
# Reported by the browser itself, also for what no console shows.
_WATCH_POLICY = "document.addEventListener('securitypolicyviolation', (event) => console.error(event.blockedURI))"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # All on one of the parallel processes, so that they share the server and the browser.
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("browser"))


# Nobody serves the first: its jobs wait. The other is served by the tests themselves.
_ENDPOINTS = f"""
[[endpoint]]
id = "echo"
name = "Echo"
price_usd = 0.01
[endpoint.input_schema]
type = "object"
required = ["text"]
properties = {{text = {{type = "string", minLength = 1}}, times = {{type = "integer", default = 2, maximum = 9}}}}

[[endpoint]]
id = "{BY_HAND}"
name = "By hand"
price_usd = 0.01
"""


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("playground")
    (folder / "endpoints.toml").write_text(_ENDPOINTS)
    servers = Servers(folder)
    try:
        # Nobody listens on that port.
        yield servers.start(
            model="demo",
            endpoints_file=folder / "endpoints.toml",
            outbound_allow="127.0.0.1:9",
            lease_s=DEADLINE_MS // 1_000,
        )
    finally:
        servers.close()


@pytest.fixture(scope="package")
def api_key(server: Server) -> str:
    return (server.data_dir / "api-key").read_text().strip()


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=DEADLINE_MS)
    # The package, not the session: while it runs, this thread's event loop is Playwright's.
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium") or shutil.which("google-chrome"))
        yield browser
        browser.close()


@dataclass
class Visitor:
    """A person with a browser of their own, signed in by the link that the server printed."""

    context: BrowserContext
    server: Server
    api_key: str
    complaints: list[str]

    def visit(self, fragment: str = "", *, signed_in: bool = True) -> Page:
        """A new tab with the playground, ready to use."""
        page = self.context.new_page()
        page.add_init_script(_WATCH_POLICY)
        page.on("console", lambda message: self._heard(message.type, message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", self._asked)
        page.set_default_timeout(DEADLINE_MS)
        parts = [f"key={self.api_key}"] * signed_in + [fragment] * bool(fragment)
        page.goto(f"{self.server.url}/#{'&'.join(parts)}")
        expect(page.locator("#endpoints input").first).to_be_attached()
        return page

    def _heard(self, kind: str, text: str) -> None:
        # Answers other than 200, or none at all, are reported as errors too; the tests provoke them on purpose.
        if kind == "error" and not text.startswith("Failed to load resource"):
            self.complaints.append(text)

    def _asked(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in ("data", "blob") and f"{parts.scheme}://{parts.netloc}" != self.server.url:
            self.complaints.append(f"asked {request.url}")
        if self.api_key in request.url:
            self.complaints.append("the key stands in a URL")


@pytest.fixture
def visitor_options() -> dict[str, Any]:
    """Overridden by tests that come with a phone, or in the dark."""
    return {}


class Profiles:
    """Profiles of the browser: a new one takes most of a second, one that is emptied a tenth."""

    def __init__(self, browser: Browser, server: Server) -> None:
        self._browser = browser
        self._origins = [f"http://{host}:{server.port}" for host in ("127.0.0.1", "localhost")]
        self._kept: dict[str, BrowserContext] = {}

    def new(self, **options: Any) -> BrowserContext:
        """One that nobody else ever has."""
        return self._browser.new_context(**DEFAULTS | options)

    def empty(self, **options: Any) -> BrowserContext:
        """One in which there is nothing, on a device with these options."""
        device = repr(sorted(options.items()))
        if device not in self._kept:
            self._kept[device] = self.new(**options)
        self._kept[device].grant_permissions(PERMISSIONS)
        return self._kept[device]

    def clear(self, context: BrowserContext) -> None:
        """Leave nothing of what was done with it: no tab, nothing stored, no route, no permission."""
        blank, *tabs = context.new_page(), *context.pages
        for tab in tabs:
            if tab is not blank:
                tab.close()
        context.unroute_all(behavior="ignoreErrors")
        context.clear_cookies()
        context.clear_permissions()
        cleaner = context.new_cdp_session(blank)
        for origin in self._origins:
            cleaner.send("Storage.clearDataForOrigin", {"origin": origin, "storageTypes": "all"})
        blank.close()


@pytest.fixture(scope="package")
def profiles(browser: Browser, server: Server) -> Profiles:
    return Profiles(browser, server)


@pytest.fixture
def own_profile() -> None:
    """For tests that change a profile for good: its clock, or the scripts that all its pages begin with."""


@pytest.fixture
def visitor(
    request: pytest.FixtureRequest,
    profiles: Profiles,
    server: Server,
    api_key: str,
    visitor_options: dict[str, Any],
) -> Iterator[Visitor]:
    has_own = "own_profile" in request.fixturenames
    context = profiles.new(**visitor_options) if has_own else profiles.empty(**visitor_options)
    visitor = Visitor(context, server, api_key, [])
    yield visitor
    context.close() if has_own else profiles.clear(context)
    # In every test: the policy holds, no other host is asked, no script fails.
    assert visitor.complaints == []


@pytest.fixture
def page(visitor: Visitor) -> Page:
    return visitor.visit()
