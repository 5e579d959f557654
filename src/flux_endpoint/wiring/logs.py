"""Where log lines go and how they look."""

import logging
from typing import Final

from flux_endpoint.core.text import printable

# Libraries that tell of each request or connection; their warnings stay.
_CHATTY = ("httpx", "httpcore", "uvicorn", "uvicorn.error", "alembic", "sqlalchemy", "filelock", "urllib3")
_INDENT: Final = "    "


class EventFormatter(logging.Formatter):
    """One line an event. What belongs to it, a traceback for one, stands below, each line indented.

    So no text of a client, a worker or a handler looks like a line of ours, or steers the terminal it is read on. A
    caller hands over such a text of several lines as `extra={"details": text}`.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line and those below it."""
        record.message = record.getMessage()
        record.asctime = self.formatTime(record, self.datefmt)
        details = [getattr(record, "details", ""), record.stack_info or ""]
        if record.exc_info:
            details.insert(0, self.formatException(record.exc_info))
        below = [_INDENT + printable(line) for text in details for line in text.splitlines()]
        return "\n".join([printable(self.formatMessage(record).rstrip("\n")), *below])


def set_up_logging(level: str, process: str) -> None:
    """Log to standard error.

    Args:
        level: of our own lines, as in the setting LOG_LEVEL.
        process: stands in each line: gateway or worker.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(EventFormatter(f"%(asctime)s %(levelname)-7s {process}: %(message)s", "%H:%M:%S"))
    logging.basicConfig(handlers=[handler], force=True)
    logging.getLogger("flux_endpoint").setLevel(level.upper())
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    # A traceback for each connection that breaks; whoever uses one is told anyway, and the outage is logged once.
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)
