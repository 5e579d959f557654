"""The docs site builds without a warning, and what it shows needs no other host."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

ROOT = Path(__file__).parents[2]


class _Fetched(HTMLParser):
    """What a browser fetches by itself to show a page."""

    def __init__(self) -> None:
        super().__init__()
        self.urls: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag in ("script", "img", "iframe", "source"):
            self.urls.append(values.get("src") or "")
        elif tag == "link" and values.get("rel") in ("stylesheet", "icon", "preconnect", "preload", "dns-prefetch"):
            self.urls.append(values.get("href") or "")


def test_the_site_builds_strictly_and_asks_no_other_host(tmp_path: Path) -> None:
    site = tmp_path / "site"
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(site)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    pages = sorted(site.rglob("*.html"))
    sources = [path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")]
    for source in sources:
        built = source.with_name("index.html") if source.name == "index.md" else source.with_suffix("") / "index.html"
        assert site / built in pages, f"{source} is no page"
    for page in pages:
        fetched = _Fetched()
        fetched.feed(page.read_text())
        assert fetched.urls
        assert not [url for url in fetched.urls if re.match(r"(https?:)?//", url)], page.name
    assert not list(site.rglob("*.py"))
