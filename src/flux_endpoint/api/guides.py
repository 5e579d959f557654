"""The guides at `/guides/index`: the pages of docs/guides, for whoever has nothing but the server's address."""

import html
import itertools
import re
import sysconfig
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Final

from starlette.responses import Response

from flux_endpoint.api.admission import Everybody
from flux_endpoint.api.operations import Call, Route
from flux_endpoint.api.pages import PAGE_HEADERS
from flux_endpoint.core.errors import NotFound

# Of a clone, then of an installed package.
_FOLDERS: Final = (
    Path(__file__).parents[3] / "docs" / "guides",
    Path(sysconfig.get_path("data")) / "share" / "flux-endpoint" / "guides",
)
_IMAGE: Final = re.compile(r"^!\[[^\]]*\]\([^)]*\)\n", re.MULTILINE)
_LINK: Final = re.compile(r"\[([^\]]*)\]\(([^)#]*\.(?:md|py)|(?:\.\./)+[^)#]*)(#[^)]*)?\)")
_NOTE: Final = re.compile(r'^!!! \w+ "([^"]*)"\n((?:    .*\n?)+)', re.MULTILINE)
_TITLE: Final = re.compile(r"^# (.+)$", re.MULTILINE)
_LIST: Final = "index"
_MAX_NAME_CHARS: Final = 80


async def guide(call: Call, name: str) -> Response:
    """A guide, or the list of them."""
    page = _read_guides().get(name)
    if page is None:
        raise NotFound(f"there is no guide '{name[:_MAX_NAME_CHARS]}'; GET /guides/index lists them")
    return Response(page, headers=PAGE_HEADERS | {"Content-Type": "text/html; charset=utf-8"})


@cache
def _read_guides() -> Mapping[str, str]:
    """The pages by name; made when the first is asked for."""
    folder = next((folder for folder in _FOLDERS if folder.is_dir()), None)
    texts = {file.stem: file.read_text(encoding="utf-8") for file in sorted(folder.glob("*.md"))} if folder else {}
    titles = {name: found[1] for name, text in texts.items() if (found := _TITLE.search(text))}
    entries = sorted(titles.items(), key=lambda entry: entry[1].lower())
    texts[_LIST] = "# Guides\n\n" + "\n".join(f"- [{title}]({name}.md)" for name, title in entries)
    return {name: _page(titles.get(name, "Guides"), _plain(text, titles)) for name, text in texts.items()}


def _plain(text: str, guides: Mapping[str, str]) -> str:
    """Markdown without pictures, with links among the guides only, and notes as quotations."""

    def link(found: re.Match[str]) -> str:
        name = found[2].removesuffix(".md")
        return f"[{found[1]}]({name}{found[3] or ''})" if name in guides else found[1]

    def note(found: re.Match[str]) -> str:
        lines = [f"**{found[1]}**", "", *(line.strip() for line in found[2].splitlines())]
        return "".join(f"> {line}\n" for line in lines)

    return _LINK.sub(link, _NOTE.sub(note, _IMAGE.sub("", text)))


def _page(title: str, text: str) -> str:
    # Here and not above: a twentieth of a second that no start needs.
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = parser.parse(text)
    for opening, inline in itertools.pairwise(tokens):
        if opening.type == "heading_open":
            opening.attrSet("id", _anchor(inline.content))
    content = parser.renderer.render(tokens, parser.options, {})
    template = files(__package__).joinpath("guide.html").read_text(encoding="utf-8")
    return template.replace("{title}", html.escape(title)).replace("{content}", content)


def _anchor(heading: str) -> str:
    """As the docs site makes them, so that links with a fragment lead to the same place."""
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower())


ROUTES: Final = (
    Route(
        name="guides_guide",
        methods="GET HEAD",
        path="/guides/{name}",
        access=Everybody(),
        handler=guide,
        is_described=False,
    ),
)
