"""Where log lines go and how they look."""

import json
import logging
import re
from datetime import UTC, datetime
from typing import Any, Final

from flux_endpoint.core.text import printable
from flux_endpoint.settings.engine import LogFormat, LogLevel

# Libraries that tell of each request or connection; their warnings stay.
_CHATTY = ("httpx", "httpcore", "uvicorn", "uvicorn.error", "alembic", "sqlalchemy", "filelock", "urllib3")
_INDENT: Final = "    "
# Of a message before its values are filled in: what stands before a value says what it is.
_VALUE: Final = re.compile(r"(?:\b(job|worker|webhook) )?%(?:\.?\d+)?[sdr]")


class EventFormatter(logging.Formatter):
    """One line an event. What belongs to it, a traceback for one, stands below, each line indented.

    So no text of a client, a worker or a handler looks like a line of ours, or steers the terminal it is read on. A
    caller hands over such a text of several lines as `extra={"details": text}`.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line and those below it."""
        record.message = record.getMessage()
        record.asctime = self.formatTime(record, self.datefmt)
        below = [_INDENT + printable(line) for line in _details_of(self, record)]
        return "\n".join([printable(self.formatMessage(record).rstrip("\n")), *below])


class JsonFormatter(logging.Formatter):
    """One JSON object an event, in a line of its own.

    Args:
        process: stands in each: gateway or worker.
    """

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """The line; what a text log has below it is in `details`."""
        fields: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "process": self._process,
            "logger": record.name,
            "message": record.getMessage().rstrip("\n"),
        } | _ids_in(record)
        if details := _details_of(self, record):
            fields["details"] = "\n".join(details)
        return json.dumps(fields)


def _details_of(formatter: logging.Formatter, record: logging.LogRecord) -> list[str]:
    details = [getattr(record, "details", ""), record.stack_info or ""]
    if record.exc_info:
        details.insert(0, formatter.formatException(record.exc_info))
    return [line for text in details for line in text.splitlines()]


def _ids_in(record: logging.LogRecord) -> dict[str, str]:
    values = record.args if isinstance(record.args, tuple) else ()
    names = [match[1] for match in _VALUE.finditer(str(record.msg))]
    return {f"{name}_id": str(value) for name, value in zip(names, values, strict=False) if name}


def set_up_logging(level: LogLevel, log_format: LogFormat, process: str) -> None:
    """Log to standard error.

    Args:
        level: of our own lines, as in the setting LOG_LEVEL.
        log_format: as in the setting LOG_FORMAT.
        process: stands in each line: gateway or worker.
    """
    handler = logging.StreamHandler()
    text = EventFormatter(f"%(asctime)s %(levelname)-7s {process}: %(message)s", "%H:%M:%S")
    handler.setFormatter(JsonFormatter(process) if log_format == "json" else text)
    logging.basicConfig(handlers=[handler], force=True)
    logging.getLogger("flux_endpoint").setLevel(level.upper())
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    # A traceback for each connection that breaks; whoever uses one is told anyway, and the outage is logged once.
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)
