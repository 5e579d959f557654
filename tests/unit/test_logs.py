"""What a log line looks like, whatever it tells of."""

import json
import logging
import sys

from flux_endpoint.wiring.logs import EventFormatter, JsonFormatter

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


def as_json(text: str, *args: object, **fields: object) -> dict[str, object]:
    record = logging.makeLogRecord(
        {"msg": text, "args": args, "levelname": "ERROR", "name": "x", "created": 0} | fields
    )
    line = JsonFormatter("gateway").format(record)
    assert "\n" not in line
    return json.loads(line)


def test_a_line_for_programs_has_the_ids_of_what_it_tells_of() -> None:
    assert as_json("webhook %s of job %s to %s: %d%%", "w-1", "j-2", FORGED, 7) == {
        "time": "1970-01-01T00:00:00.000+00:00",
        "level": "error",
        "process": "gateway",
        "logger": "x",
        "message": f"webhook w-1 of job j-2 to {FORGED}: 7%",
        "webhook_id": "w-1",
        "job_id": "j-2",
    }
    assert as_json("%d jobs of worker %s", 3, "a job %s")["worker_id"] == "a job %s"
    assert "job_id" not in as_json("no job %s here")


def test_what_stands_below_a_line_is_a_field_for_programs() -> None:
    assert as_json("it raised", details="Traceback:\n  File x")["details"] == "Traceback:\n  File x"
