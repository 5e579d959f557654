"""Runs SQLAlchemy's statements on PostgreSQL's driver, which prepares each once for a connection.

Work is written synchronously. It runs in a greenlet of SQLAlchemy's, which hands what is to be awaited to its task.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Any, Final

import asyncpg
from sqlalchemy import Executable
from sqlalchemy.util import await_only

from flux_endpoint.stores.sql.compiled import Compiled, CompiledTexts, row_type
from flux_endpoint.stores.sql.database import Connection, Parameters, Rows

_PLACES: Final = 16


class PostgresConnection(Connection):
    """One connection, lent to one piece of work.

    Args:
        raw: of the driver.
        texts: shared with other connections.

    Attributes:
        raw: of the driver.
        place: see `Connection`; PostgreSQL numbers its processes one after another.
        heard_s: when the server last answered a statement; None before.
    """

    def __init__(self, raw: Any, texts: CompiledTexts) -> None:
        self.raw = raw
        self.dialect = texts.dialect
        self.place = raw.get_server_pid() % _PLACES
        self.heard_s: float | None = None
        self._texts = texts

    @property
    def is_closed(self) -> bool:
        """Whether it is of no use any more."""
        try:
            return bool(self.raw.is_closed())
        except asyncpg.InterfaceError:
            # The pool has taken it back, which it does at once with one that was ended.
            return True

    def end(self) -> None:
        """Leave the server without a word. Who waits for an answer gets an error."""
        with suppress(asyncpg.InterfaceError):
            self.raw.terminate()

    def execute(
        self, statement: Executable, parameters: Parameters | Sequence[Parameters] = MappingProxyType({}), /
    ) -> Rows:
        """Run a statement: once, or for each of several sets of parameters, which returns no rows.

        Raises:
            ValueError: a value cannot be written as JSON.
            Exception: what the driver says.
        """
        return await_only(self._execute(statement, parameters))

    async def _execute(self, statement: Executable, parameters: Parameters | Sequence[Parameters]) -> Rows:
        rows = Rows()
        if not isinstance(parameters, Mapping):
            if parameters:
                bound = [self._bind(statement, each) for each in parameters]
                await self.raw.executemany(bound[0][0].text, [cells for _, cells in bound])
                self.heard_s = time.monotonic()
            return rows
        compiled, cells = self._bind(statement, parameters)
        if statement.is_dml and compiled.row is None:
            # Such as "UPDATE 3".
            status = await self.raw.execute(compiled.text, *cells)
            self.heard_s = time.monotonic()
            rows.rowcount = int(status.rpartition(" ")[2])
            return rows
        records = await self.raw.fetch(compiled.text, *cells)
        self.heard_s = time.monotonic()
        if records:
            make = compiled.row or row_type(list(records[0].keys()))._make
            for record in records:
                cells = list(record)
                for index, read in compiled.readers:
                    cells[index] = None if cells[index] is None else read(cells[index])
                rows.append(make(cells))
            rows.first = rows[0]
        rows.rowcount = len(rows)
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
