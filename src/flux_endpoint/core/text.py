"""Text of clients and workers where people read it: in a log, on a terminal."""


def printable(text: str) -> str:
    r"""The text on one line, with nothing that steers a terminal: what does not print is escaped, as in `\x1b`."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
