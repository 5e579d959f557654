"""One line in the log when something stops answering, and one when it answers again."""

import contextlib
import logging
import time
from collections.abc import Iterator

from flux_endpoint.core.errors import StoreUnavailable

logger = logging.getLogger(__name__)


class Outage:
    """Told of every answer and every failure of one place; whoever raises or catches those logs nothing.

    Args:
        place: what it is called in the log: the database.
    """

    def __init__(self, place: str) -> None:
        self._place = place
        # What was asked for in vain: a standby of a database still reads, but does not write.
        self._failing: set[str] = set()
        self._began_s = 0.0

    @contextlib.contextmanager
    def watch(self, what: str) -> Iterator[None]:
        """Around one question; `what` is its kind: while one kind fails, answers of another do not end the outage."""
        try:
            yield
        except StoreUnavailable as error:
            if not self._failing:
                self._began_s = time.monotonic()
                logger.error("%s; until it does, requests that need it get 503", error)
            self._failing.add(what)
            raise
        except Exception:
            # An answer that is no good for the one who asked.
            self._answered(what)
            raise
        if self._failing:
            self._answered(what)

    def _answered(self, what: str) -> None:
        if what in self._failing:
            self._failing.remove(what)
            if not self._failing:
                logger.warning("%s answers again after %.0f s", self._place, time.monotonic() - self._began_s)
