"""What a log line looks like, whatever it tells of."""

import logging
import sys

from flux_endpoint.wiring.logs import EventFormatter

FORGED = "bad \x1b[2J\n12:00:00 INFO    gateway: all is well"
ESCAPED = r"bad \x1b[2J\n12:00:00 INFO    gateway: all is well"


def formatted(text: str, *args: object, **fields: object) -> list[str]:
    record = logging.makeLogRecord({"msg": text, "args": args, "levelname": "ERROR"} | fields)
    return EventFormatter("%(levelname)-7s gateway: %(message)s").format(record).split("\n")


def test_text_of_others_makes_no_line_of_its_own() -> None:
    assert formatted("worker %s is unhealthy: %s", "w", FORGED) == [
        f"ERROR   gateway: worker w is unhealthy: {ESCAPED}"
    ]


def test_a_traceback_is_read_below_its_line() -> None:
    try:
        raise ValueError(FORGED)
    except ValueError:
        line, first, *rest = formatted("job %s failed", "x", exc_info=sys.exc_info())
    assert line == "ERROR   gateway: job x failed"
    assert first == "    Traceback (most recent call last):"
    assert rest[-2:] == [r"    ValueError: bad \x1b[2J", "    12:00:00 INFO    gateway: all is well"]


def test_details_of_several_lines_are_read_below_their_line() -> None:
    assert formatted("it raised", details="Traceback:\n  File x\r\n\x1b[31mred") == [
        "ERROR   gateway: it raised",
        "    Traceback:",
        "      File x",
        r"    \x1b[31mred",
    ]


def test_a_line_feed_at_the_end_is_no_text() -> None:
    assert formatted("Exception in ASGI application\n") == ["ERROR   gateway: Exception in ASGI application"]
