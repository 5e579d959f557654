"""Runs SQLAlchemy's statements on PostgreSQL's driver: the driver prepares each once for a connection.

Work is written synchronously. It runs in a greenlet, which hands what is to be awaited to the task it runs for.
"""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, TypeVar

from greenlet import getcurrent, greenlet  # type: ignore[import-untyped]
from sqlalchemy import Executable

from flux_endpoint.stores.sql.compiled import Compiled, CompiledTexts, row_type
from flux_endpoint.stores.sql.database import Connection, Parameters, Rows

T = TypeVar("T")

_PLACES: Final = 16


class PostgresConnection(Connection):
    """One connection, for one piece of work at a time.

    Args:
        raw: of the driver.
        texts: shared with other connections.
        is_pooled: a pooler may hand each transaction to another process of the server: a statement must not have a name
            to be known by.

    Attributes:
        raw: of the driver.
        place: see `Connection`; PostgreSQL numbers its processes one after another.
        heard_s: when the server last answered a statement; None before.
    """

    def __init__(self, raw: Any, texts: CompiledTexts, *, is_pooled: bool) -> None:
        self.raw = raw
        self.dialect = texts.dialect
        self.place = raw.get_server_pid() % _PLACES
        self.heard_s: float | None = None
        self._texts = texts
        self._is_pooled = is_pooled
        # By their texts. There are no more of them than of statements, and of lengths of their lists.
        self._prepared: dict[str, Any] = {}

    def execute(
        self, statement: Executable, parameters: Parameters | Sequence[Parameters] = MappingProxyType({}), /
    ) -> Rows:
        """Run a statement: once, or for each of several sets of parameters, which returns no rows.

        Raises:
            ValueError: a value cannot be written as JSON.
            Exception: what the driver says.
        """
        rows: Rows = getcurrent().parent.switch(self._execute(statement, parameters))
        return rows

    async def _execute(self, statement: Executable, parameters: Parameters | Sequence[Parameters]) -> Rows:
        rows = Rows()
        if not isinstance(parameters, Mapping):
            if parameters:
                bound = [self._bind(statement, each) for each in parameters]
                await (await self._prepare(bound[0][0].text)).executemany([cells for _, cells in bound])
                self.heard_s = time.monotonic()
            return rows
        compiled, cells = self._bind(statement, parameters)
        prepared = self._prepared.get(compiled.text) or await self._prepare(compiled.text)
        records = await prepared.fetch(*cells)
        self.heard_s = time.monotonic()
        if records:
            make = compiled.row or row_type(list(records[0].keys()))._make
            for record in records:
                cells = list(record)
                for index, read in compiled.readers:
                    cells[index] = None if cells[index] is None else read(cells[index])
                rows.append(make(cells))
            rows.first, rows.rowcount = rows[0], len(rows)
        else:
            # Such as "UPDATE 3"; some say no number.
            count = prepared.get_statusmsg().rpartition(" ")[2]
            rows.rowcount = int(count) if count.isdigit() else 0
        return rows

    def _bind(self, statement: Executable, values: Parameters) -> tuple[Compiled, list[Any]]:
        """The statement, and its parameters in their order."""
        compiled = self._texts.known.get((statement, tuple(values), ())) or self._texts.compile(statement, values, ())
        if compiled.lists:
            compiled, values = self._texts.expand(compiled, statement, values)
        bound = dict(compiled.constants)
        try:
            for name, write in compiled.parameters:
                value = values[name]
                bound[name] = value if write is None or value is None else write(value)
        except (ValueError, TypeError) as error:
            raise ValueError(f"The database refuses the value: {error}") from error
        return compiled, [bound[name] for name in compiled.places]

    async def _prepare(self, text: str) -> Any:
        if self._is_pooled:
            return await self.raw.prepare(text, name="")
        prepared = self._prepared[text] = await self.raw.prepare(text)
        return prepared


async def run_sync(work: Callable[[PostgresConnection], T], connection: PostgresConnection) -> T:
    """The result of a piece of work, which waits for the server where it runs a statement."""
    here = getcurrent()
    worker = greenlet(work, here)
    worker.gr_context = here.gr_context
    said: Awaitable[Any] = worker.switch(connection)
    while not worker.dead:
        try:
            answer = await said
        except BaseException as error:
            said = worker.throw(error)
        else:
            said = worker.switch(answer)
    result: Any = said
    return result  # type: ignore[no-any-return]
