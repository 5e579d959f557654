"""Text of clients and workers where people read it: in a log, on a terminal."""


def printable(text: str) -> str:
    r"""The text on one line, with nothing that steers a terminal: what does not print is escaped, as in `\x1b`."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def listing(names: list[str], shown: int = 3) -> str:
    """The first few of a list of names and how many more there are."""
    rest = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {rest} more" if rest > 0 else "")
