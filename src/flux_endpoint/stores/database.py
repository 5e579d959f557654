"""One way to run a piece of work against SQLite or PostgreSQL."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final, Protocol, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError, StatementError

from flux_endpoint.core.errors import StoreUnavailable
from flux_endpoint.core.job import Job
from flux_endpoint.stores.signals import Topic

T = TypeVar("T")

# NaN and Infinity are no JSON: PostgreSQL would refuse what SQLite keeps.
dump_json: Final = partial(json.dumps, allow_nan=False, separators=(",", ":"))


class Transaction:
    """What a piece of work gets: the connection, and the way to say who must wake once it is committed."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.news: dict[Topic, Job | None] = {}

    def wake(self, topic: Topic, job: Job | None = None) -> None:
        """Fire the topic after the commit, with the job as it then is; never when the work is rolled back."""
        self.news[topic] = job


class Database(Protocol):
    """Runs work, which is written synchronously: SQLite runs it whole, PostgreSQL between awaits.

    Attributes:
        recheck_s: how long a sleeper may trust the signals of its own process before it must look again.
    """

    recheck_s: float

    async def read(self, work: Callable[[Connection], T], *, is_quick: bool = False) -> T:
        """Run work that changes nothing.

        Args:
            work: called with the connection.
            is_quick: an index answers it within microseconds; SQLite then does it on the spot.

        Raises:
            StoreUnavailable: the database did not answer.
        """
        ...

    async def write(self, work: Callable[[Transaction], T], *, is_quick: bool = False) -> T:
        """Run work in one transaction: all of it is kept when it returns, nothing when it raises.

        Args:
            work: called with the transaction.
            is_quick: it changes a few rows found by an index; SQLite then does it on the spot.

        Raises:
            StoreUnavailable: the database did not answer; nothing changed.
            ValueError: a value is taken already, or is one that no column can hold.
        """
        ...

    async def scrub(self, *, has_deleted: bool) -> None:
        """Leave nothing in the files of what was deleted. What somebody's reading puts off is done at the next call.

        Args:
            has_deleted: whether there is something since the last call. PostgreSQL keeps house by itself.

        Raises:
            StoreUnavailable: the database did not answer.
        """
        ...

    async def close(self) -> None:
        """Let running work end, then let go of the database. A second call does nothing."""
        ...


@contextmanager
def errors_translated(
    driver_errors: tuple[type[Exception], ...] = (), driver_refusals: tuple[type[Exception], ...] = ()
) -> Iterator[None]:
    """Turn the errors of the database and its drivers into ours.

    Args:
        driver_errors: what SQLAlchemy lets through, of one driver.
        driver_refusals: those of them that say that a value is wrong.
    """
    try:
        yield
    except (IntegrityError, DataError) as error:
        raise ValueError(f"The database refuses the value: {error.orig}") from error
    except driver_refusals as error:
        raise ValueError(f"The database refuses the value: {error}") from error
    except StatementError as error:
        # Raised by `dump_json` while SQLAlchemy was binding the value.
        if isinstance(error.orig, ValueError | TypeError):
            raise ValueError(f"The database refuses the value: {error.orig}") from error
        raise StoreUnavailable(f"The database did not answer: {error.orig}") from error
    except (SQLAlchemyError, OSError) as error:
        raise StoreUnavailable(f"The database did not answer: {error}") from error
    except driver_errors as error:
        raise StoreUnavailable(f"The database did not answer: {error}") from error


def storable(text: str) -> str:
    """The text without what PostgreSQL cannot hold (U+0000, lone surrogates): foreign workers send anything."""
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")
