"""Runs SQLAlchemy's statements on SQLite without its machinery, which costs several times what SQLite does.

Each statement is compiled once; after that a call is a dictionary of parameters and the driver.
"""

import sqlite3
from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from sqlalchemy import Dialect, Executable
from sqlalchemy.dialects import sqlite as sqlite_dialect
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.selectable import ReturnsRows
from sqlalchemy.types import TypeEngine

from flux_endpoint.core.raw_json import read_json, write_json
from flux_endpoint.stores.sql.columns import JsonText, Text, storable
from flux_endpoint.stores.sql.database import Connection, Parameters, Rows

Convert = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class _Compiled:
    """A statement as SQLite takes it.

    Attributes:
        text: SQL with named parameters.
        constants: parameters that are part of the statement itself.
        parameters: of the call: their names, and how the driver wants those it does not take as they are.
        lists: parameters that stand for a list, with the names that its values have in the text.
        readers: what a column is to be read with, for those that are not what they are to be.
        row: makes a row of its cells; None for a statement that returns none, or is plain text.
    """

    text: str
    constants: dict[str, Any]
    parameters: list[tuple[str, Convert | None]]
    lists: dict[str, list[str]]
    readers: list[tuple[int, Convert]]
    row: Callable[[Iterable[Any]], Any] | None


class CompiledConnection(Connection):
    """One connection, for one thread at a time.

    Attributes:
        raw: of the driver, in autocommit mode; transactions are begun and ended there.
    """

    def __init__(self, raw: sqlite3.Connection) -> None:
        self.dialect: Dialect = sqlite_dialect.dialect(paramstyle="named")
        self.raw = raw
        # By the statement itself, the names of its parameters, and the lengths of lists, which the first look leaves
        # out. All statements are constants of their modules, and stay as long as the process.
        self._compiled: dict[tuple[Executable, tuple[str, ...], tuple[int, ...]], _Compiled] = {}

    def close(self) -> None:
        """Let go of the file."""
        self.raw.close()

    def execute(
        self, statement: Executable, parameters: Parameters | Sequence[Parameters] = MappingProxyType({}), /
    ) -> Rows:
        """Run a statement: once, or for each of several sets of parameters, which returns no rows.

        Raises:
            ValueError: a value cannot be written as JSON.
            sqlite3.Error: what the driver says.
        """
        rows = Rows()
        if not isinstance(parameters, Mapping):
            for each in parameters:
                self.execute(statement, each)
            return rows
        values = parameters
        compiled = self._compiled.get((statement, tuple(values), ())) or self._compile(statement, values, ())
        if compiled.lists:
            compiled, values = self._expand(compiled, statement, values)
        bound = dict(compiled.constants)
        try:
            for name, write in compiled.parameters:
                value = values[name]
                bound[name] = value if write is None or value is None else write(value)
        except (ValueError, TypeError) as error:
            raise ValueError(f"The database refuses the value: {error}") from error
        try:
            cursor = self.raw.execute(compiled.text, bound)
        except UnicodeEncodeError:
            # A lone surrogate. JSON is ASCII.
            bound = {name: storable(value) if isinstance(value, str) else value for name, value in bound.items()}
            cursor = self.raw.execute(compiled.text, bound)
        if cursor.description is None:
            rows.rowcount = cursor.rowcount
            return rows
        make = compiled.row or _row_type([column[0] for column in cursor.description])._make
        for row in cursor:
            cells = list(row)
            for index, read in compiled.readers:
                cells[index] = None if cells[index] is None else read(cells[index])
            rows.append(make(cells))
        rows.first, rows.rowcount = next(iter(rows), None), len(rows)
        return rows

    def _expand(self, compiled: _Compiled, statement: Executable, values: Parameters) -> tuple[_Compiled, Parameters]:
        """The statement for lists as long as these, and the values with a name for each that is in a list.

        The last value of a list is repeated until its length is a power of two: what is IN it stays the same. Each
        length is compiled and kept, which takes long and memory: so there are ten for lists of up to a thousand.
        """
        given = {name: values[name] for name in compiled.lists}
        for name, listed in given.items():
            length = 1 << (len(listed) - 1).bit_length() if listed else 0
            given[name] = listed + listed[-1:] * (length - len(listed))
        values = {**values, **given}
        lengths = tuple(map(len, given.values()))
        key = (statement, tuple(values), lengths)
        expanded = self._compiled.get(key) or self._compile(statement, values, lengths)
        for name, names in expanded.lists.items():
            cells = [cell for each in given[name] for cell in (each if isinstance(each, tuple) else (each,))]
            values.update(zip(names, cells, strict=True))
        return expanded, values

    def _compile(self, statement: Executable, values: Parameters, lengths: tuple[int, ...]) -> _Compiled:
        assert isinstance(statement, ClauseElement)
        compiler = statement.compile(dialect=self.dialect, column_keys=list(values))
        assert isinstance(compiler, SQLCompiler)
        state = compiler.construct_expanded_state(dict(values))
        parts = {name: state.parameter_expansion.get(name, [name]) for name in values if name in compiler.binds}
        writers = {
            name: _writer(bind.type.dialect_impl(self.dialect), self.dialect) for name, bind in compiler.binds.items()
        }
        of_call = {part for names in parts.values() for part in names}
        constants = {name: value for name, value in state.parameters.items() if name not in of_call}
        columns: list[Any] = list(statement.exported_columns) if isinstance(statement, ReturnsRows) else []
        readers = [_reader(column.type.dialect_impl(self.dialect), self.dialect) for column in columns]
        compiled = self._compiled[statement, tuple(values), lengths] = _Compiled(
            text=state.statement,
            constants={
                name: value if (write := writers.get(name)) is None or value is None else write(value)
                for name, value in constants.items()
            },
            parameters=[(part, writers[name]) for name, names in parts.items() for part in names],
            lists={name: names for name, names in parts.items() if compiler.binds[name].expanding},
            readers=[(index, read) for index, read in enumerate(readers) if read is not None],
            row=_row_type([getattr(column, "name", "") for column in columns])._make if columns else None,
        )
        return compiled


def _row_type(names: Sequence[str]) -> Any:
    return namedtuple("Row", names, rename=True)


def _writer(kind: TypeEngine[Any], dialect: Dialect) -> Convert | None:
    """How the driver wants a value that is not None; None for as it is."""
    if isinstance(kind, JsonText):
        return write_json
    # The driver takes nearly all of it as it is.
    return None if isinstance(kind, Text) else kind.bind_processor(dialect)


def _reader(kind: TypeEngine[Any], dialect: Dialect) -> Convert | None:
    """What the driver gives for a value that is not None is read with this; None for as it is."""
    return read_json if isinstance(kind, JsonText) else kind.result_processor(dialect, None)
