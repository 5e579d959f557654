import pytest

from flux_endpoint.core.text import printable


@pytest.mark.parametrize("text", ["", "out of memory: 猫, ø and \U0001f98a", r"C:\new"])
def test_what_prints_stays(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb\r\nc\td", r"a\nb\r\nc\td"),
        ("\x1b[2J", r"\x1b[2J"),
        # One byte that some terminals take for ESC [, and what else breaks a line or turns its direction.
        ("\x9b2J\x00\x7f", r"\x9b2J\x00\x7f"),
        ("a\u2028b\u2029c\x85d", r"a\u2028b\u2029c\x85d"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("\ud800", r"\ud800"),
    ],
)
def test_what_does_not_print_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert shown.isprintable()
