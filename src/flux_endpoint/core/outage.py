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

    Attributes:
        is_on: something was asked for in vain, and has not been answered since.
    """

    def __init__(self, place: str) -> None:
        self.is_on = False
        self._place = place
        # What was asked for in vain: a standby of a database still reads, but does not write.
        self._failing: set[str] = set()
        self._began_s = 0.0

    @contextlib.contextmanager
    def observe(self, what: str) -> Iterator[None]:
        """Around one question; `what` is its kind: while one kind fails, answers of another do not end the outage."""
        try:
            yield
        except StoreUnavailable as error:
            self.failed(what, error)
            raise
        except Exception:
            # An answer that is no good for the one who asked.
            self.answered(what)
            raise
        if self.is_on:
            self.answered(what)

    def failed(self, what: str, error: StoreUnavailable) -> None:
        """A question of this kind was not answered."""
        if not self.is_on:
            self.is_on, self._began_s = True, time.monotonic()
            logger.error("%s; until it does, requests that need it get 503", error)
        self._failing.add(what)

    def answered(self, what: str) -> None:
        """A question of this kind was answered; nothing need be told while `is_on` is False."""
        self._failing.discard(what)
        if self.is_on and not self._failing:
            self.is_on = False
            logger.warning("%s answers again after %.0f s", self._place, time.monotonic() - self._began_s)
