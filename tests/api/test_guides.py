"""The guides, served to whoever has nothing but the address of a gateway."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from flux_endpoint.api.pages import CONTENT_SECURITY_POLICY
from tests.api.conftest import Gateway

pytestmark = pytest.mark.anyio
GUIDES = Path(__file__).parents[2] / "docs" / "guides"


class Page(HTMLParser):
    """What a page links to, and the places in it that can be linked to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.places: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.places.add(values.get("id") or "")
        if tag in ("a", "link", "script", "img"):
            self.links.append(values.get("href") or values.get("src") or "")


async def test_every_guide_is_listed_and_every_link_leads_somewhere(gateway: Gateway) -> None:
    names = {file.stem for file in GUIDES.glob("*.md")}
    listed = Page((await gateway.get("/guides/index")).text)
    assert names <= set(listed.links)
    pages = {}
    for name in names:
        reply = await gateway.get(f"/guides/{name}", headers={"Authorization": ""})
        assert reply.status_code == 200, name
        assert reply.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
        pages[name] = Page(reply.text)
    for name, page in pages.items():
        for link in page.links:
            target, _, place = link.partition("#")
            if link.startswith("../"):
                assert (await gateway.get(link[2:])).status_code == 200, f"{name}: {link}"
            elif not re.match("https?:", link) and link != "index":
                assert not place or place in pages[target or name].places, f"{name}: {link}"


async def test_a_guide_is_html_and_has_nothing_of_its_source_left(gateway: Gateway) -> None:
    text = (await gateway.get("/guides/real-weights")).text
    assert '<h1 id="real-weights-and-gpus">Real weights and GPUs</h1>' in text
    assert "<table>" in text and "<blockquote>" in text
    assert not re.search(r"!!! |\.md\)|!\[", text)


async def test_there_are_no_other_guides(gateway: Gateway) -> None:
    for name in ("nothing", "..%2fquickstart", "workers.md"):
        reply = await gateway.get(f"/guides/{name}")
        assert (reply.status_code, "GET /guides/index lists them" in reply.text) in ((404, True), (404, False))


@pytest.mark.parametrize("page", ["", "usage", "docs"])
async def test_the_pages_lead_to_the_guides(gateway: Gateway, page: str) -> None:
    assert '<a href="guides/index">Guides</a>' in (await gateway.get(f"/{page}")).text
