"""Runs SQLAlchemy's statements without its machinery, which costs several times what the database does.

Each statement is compiled once; after that a call is its parameters and the driver. PostgreSQL's part is in
`postgres_connection.py`.
"""

import sqlite3
from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from sqlalchemy import JSON, Dialect, Executable, Float
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
class Compiled:
    """A statement as the driver takes it.

    Attributes:
        text: SQL with named parameters; with numbered ones for PostgreSQL.
        places: the names of numbered parameters, in their order.
        constants: parameters that are part of the statement itself.
        parameters: of the call: their names, and how the driver wants those it does not take as they are.
        lists: parameters that stand for a list, with the names that its values have in the text.
        readers: what a column is to be read with, for those that are not what they are to be.
        row: makes a row of its cells; None for a statement that returns none, or is plain text.
    """

    text: str
    places: Sequence[str]
    constants: dict[str, Any]
    parameters: list[tuple[str, Convert | None]]
    lists: dict[str, list[str]]
    readers: list[tuple[int, Convert]]
    row: Callable[[Iterable[Any]], Any] | None


class CompiledTexts:
    """The statements for one database, each compiled once. For one thread at a time.

    Attributes:
        dialect: of that database.
    """

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        # By the statement itself, the names of its parameters, and the lengths of lists, which the first look leaves
        # out. All statements are constants of their modules, and stay as long as the process.
        self.known: dict[tuple[Executable, tuple[str, ...], tuple[int, ...]], Compiled] = {}

    def expand(self, compiled: Compiled, statement: Executable, values: Parameters) -> tuple[Compiled, Parameters]:
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
        expanded = self.known.get(key) or self.compile(statement, values, lengths)
        for name, names in expanded.lists.items():
            cells = [cell for each in given[name] for cell in (each if isinstance(each, tuple) else (each,))]
            values.update(zip(names, cells, strict=True))
        return expanded, values

    def compile(self, statement: Executable, values: Parameters, lengths: tuple[int, ...]) -> Compiled:
        """The statement for parameters of these names, with lists of these lengths."""
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
        compiled = self.known[statement, tuple(values), lengths] = Compiled(
            text=state.statement,
            places=state.positiontup or (),
            constants={
                name: value if (write := writers.get(name)) is None or value is None else write(value)
                for name, value in constants.items()
            },
            parameters=[(part, writers[name]) for name, names in parts.items() for part in names],
            lists={name: names for name, names in parts.items() if compiler.binds[name].expanding},
            readers=[(index, read) for index, read in enumerate(readers) if read is not None],
            row=row_type([getattr(column, "name", "") for column in columns])._make if columns else None,
        )
        return compiled


class CompiledConnection(CompiledTexts, Connection):
    """One connection to SQLite, for one thread at a time.

    Attributes:
        raw: of the driver, in autocommit mode; transactions are begun and ended there.
    """

    def __init__(self, raw: sqlite3.Connection) -> None:
        super().__init__(sqlite_dialect.dialect(paramstyle="named"))
        self.raw = raw

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
        compiled = self.known.get((statement, tuple(values), ())) or self.compile(statement, values, ())
        if compiled.lists:
            compiled, values = self.expand(compiled, statement, values)
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
        make = compiled.row or row_type([column[0] for column in cursor.description])._make
        for row in cursor:
            cells = list(row)
            for index, read in compiled.readers:
                cells[index] = None if cells[index] is None else read(cells[index])
            rows.append(make(cells))
        rows.first, rows.rowcount = next(iter(rows), None), len(rows)
        return rows


def row_type(names: Sequence[str]) -> Any:
    """A class of rows with these columns."""
    return namedtuple("Row", names, rename=True)


def _writer(kind: TypeEngine[Any], dialect: Dialect) -> Convert | None:
    """How the driver wants a value that is not None; None for as it is."""
    if isinstance(kind, JsonText | JSON):
        return write_json
    if isinstance(kind, Text):
        # SQLite's driver takes nearly all of it as it is.
        return storable if dialect.name == "postgresql" else None
    return kind.bind_processor(dialect)


def _reader(kind: TypeEngine[Any], dialect: Dialect) -> Convert | None:
    """What the driver gives for a value that is not None is read with this; None for as it is."""
    if isinstance(kind, JsonText | JSON):
        return read_json
    if isinstance(kind, Float):
        return float
    return kind.result_processor(dialect, None)
