"""One way to run a piece of work against SQLite or PostgreSQL."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Protocol, TypeVar

from sqlalchemy import Dialect, Executable
from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError, StatementError

from flux_endpoint.core.errors import StoreUnavailable
from flux_endpoint.core.job import Job
from flux_endpoint.stores.fleets.protocol import Leadership
from flux_endpoint.stores.sql.signals import Channel, Signals

T = TypeVar("T")
Parameters = Mapping[str, Any]
# What a statement returns of a row: its cells, as attributes that are called like their columns.
Row = Any
_NONE: Final[Parameters] = MappingProxyType({})

# Whoever asks gets an answer or a refusal within 5 s: a database that has been silent for so long is taken for gone.
ANSWER_S: Final = 3.5


class Patience:
    """How long to wait for the database: `ANSWER_S`, or less when the process is about to end."""

    def __init__(self) -> None:
        self._ends_s = math.inf

    def hurry(self, seconds: float) -> None:
        """Wait for nothing beyond so many seconds from now."""
        self._ends_s = min(self._ends_s, time.monotonic() + seconds)

    def until_s(self, limit_s: float = ANSWER_S) -> float:
        """When to give up what begins now, by `time.monotonic`."""
        return min(time.monotonic() + limit_s, self._ends_s)


class Rows(list[Row]):
    """What a statement has returned: all its rows, whose cells are called by the names of their columns.

    Attributes:
        first: the first of them; None for none.
        rowcount: how many rows the statement has changed.
    """

    first: Row = None
    rowcount: int = 0


class Connection(Protocol):
    """What work asks of a connection to either database.

    Attributes:
        dialect: tells which one it is.
        place: a small number, as a rule another one for another connection that writes at the same time.
    """

    dialect: Dialect
    place: int = 0

    def execute(self, statement: Executable, parameters: Parameters | Sequence[Parameters] = _NONE, /) -> Rows:
        """Run a statement: once, or for each of several sets of parameters, which returns no rows."""
        ...

    def scalar(self, statement: Executable, parameters: Parameters = _NONE, /) -> Any:
        """The first cell of the first row; None when there is no row."""
        first = self.execute(statement, parameters).first
        return None if first is None else first[0]

    def scalars(self, statement: Executable, parameters: Parameters = _NONE, /) -> list[Any]:
        """The first cell of every row."""
        return [row[0] for row in self.execute(statement, parameters)]


@dataclass(slots=True)
class Transaction:
    """What a piece of work gets.

    Attributes:
        connection: runs its statements.
        news: channels to be fired after the commit, and never when the work is rolled back; with the job as it then
            is, where that is known.
    """

    connection: Connection
    news: dict[Channel, Job | None] = field(default_factory=dict)


class Database(Protocol):
    """Runs work, which is written synchronously: SQLite runs it whole, PostgreSQL between awaits.

    Attributes:
        signals: fired after each commit.
        has_big_rows: whether a job with a big input was seen. To change its row SQLite writes all of it again, so what
            changes jobs is heavy work from then on.
        sorts_queues: whether it reads several queues to their ends when it is asked for the oldest of them all.
    """

    signals: Signals
    has_big_rows: bool
    sorts_queues: bool

    async def open(self) -> None:
        """Connect and bring the tables up to date; called once, before anything else."""
        ...

    async def read(self, work: Callable[[Connection], T], *, is_heavy: bool = False) -> T:
        """Run work that changes nothing.

        Args:
            work: called with the connection.
            is_heavy: it may look at more than a few rows found by an index; SQLite then does it in a thread.

        Raises:
            StoreUnavailable: the database did not answer.
        """
        ...

    async def write(
        self,
        work: Callable[[Transaction], T],
        *,
        is_heavy: bool = False,
        is_long: bool = False,
        is_single: bool = False,
    ) -> T:
        """Run work in one transaction: all of it is kept when it returns, nothing when it raises.

        Args:
            work: called with the transaction.
            is_single: it runs one statement, which needs no transaction around it: two trips less to PostgreSQL, two
                statements less of SQLite.
            is_heavy: it may change more than a few rows found by an index, or big ones; SQLite then uses a thread.
            is_long: it is so heavy that a healthy server may be silent for more than `ANSWER_S`.

        Raises:
            StoreUnavailable: the database did not answer. Nothing changed; or all did, when the answer to the commit
                was lost: so work is written such that it can be repeated.
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

    def leadership(self) -> Leadership:
        """A share in the question who decides for all servers on this database; to be called after `open`."""
        ...

    def hurry(self, seconds: float) -> None:
        """The process is about to end: in so many seconds all answers must be given, or refused."""
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
        # Raised by `write_json` while SQLAlchemy was binding the value.
        if isinstance(error.orig, ValueError | TypeError):
            raise ValueError(f"The database refuses the value: {error.orig}") from error
        raise StoreUnavailable(f"The database did not answer: {error.orig}") from error
    except (SQLAlchemyError, OSError) as error:
        # Errors about time have no words of their own.
        raise StoreUnavailable(f"The database did not answer: {str(error) or 'it is silent'}") from error
    except driver_errors as error:
        raise StoreUnavailable(f"The database did not answer: {error}") from error


def of_key(key_id: str | None) -> dict[str, str]:
    """The parameter of a statement about the jobs of one key; none for a statement about those of all."""
    return {} if key_id is None else {"key": key_id}
