"""Where log lines go and how they look."""

import logging

# Libraries that tell of each request or connection; their warnings stay.
_CHATTY = ("httpx", "httpcore", "uvicorn", "uvicorn.error", "alembic", "sqlalchemy", "filelock", "urllib3")


def set_up_logging(level: str, process: str) -> None:
    """Log to standard error, one line an event.

    Args:
        level: of our own lines, as in the setting LOG_LEVEL.
        process: stands in each line: gateway or worker.
    """
    logging.basicConfig(format=f"%(asctime)s %(levelname)-7s {process}: %(message)s", datefmt="%H:%M:%S", force=True)
    logging.getLogger("flux_endpoint").setLevel(level.upper())
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
