"""A hook of the docs site: what a page links to outside docs/ is no page of the site, so its path is shown instead."""

import re
from typing import Any

_OUTSIDE = re.compile(
    r"\[([^\]]*)\]\((?:\.\./)+(?!concepts/|decisions/|guides/|images/|reference/)([\w./-]+)(?:#[\w-]*)?\)"
)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by MkDocs with each page; links that leave docs/ become text that names the file in the repository."""
    return _OUTSIDE.sub(_named, markdown)


def _named(link: "re.Match[str]") -> str:
    text, path = link.group(1), link.group(2)
    return f"`{path}`" if text.strip("`") in path else f"{text} (`{path}` in the repository)"
