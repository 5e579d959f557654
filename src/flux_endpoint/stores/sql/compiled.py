"""Runs SQLAlchemy's statements on SQLite without its machinery, which costs several times what SQLite does.

Each statement is compiled once; after that a call is a dictionary of parameters and the driver. Only what the quick
work of the store needs is here. Whatever runs in threads goes through SQLAlchemy as ever.
"""

import sqlite3
from collections import namedtuple
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Dialect
from sqlalchemy.dialects import sqlite as sqlite_dialect
from sqlalchemy.exc import MultipleResultsFound, NoResultFound
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.selectable import ReturnsRows

Convert = Callable[[Any], Any]
# A statement and the names of its parameters.
_Call = tuple[ClauseElement, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class _Compiled:
    """A statement as SQLite takes it.

    Attributes:
        text: SQL with named parameters.
        constants: parameters that are part of the statement itself.
        names: parameters of the call; those of a list have one name for each of its values.
        writers: how the driver wants a parameter, by its name in the call; missing for what it takes as it is.
        readers: what a column is to be read with; None for what it is already.
        row: what a row is called with; None for a statement that returns none.
    """

    text: str
    constants: dict[str, Any]
    names: dict[str, str | list[str]]
    writers: dict[str, Convert]
    readers: list[tuple[int, Convert]]
    row: Callable[..., Any] | None


class QuickResult:
    """The rows of one statement, all of them read, with the verbs of SQLAlchemy's result that the store uses."""

    def __init__(self, rows: list[Any], rowcount: int) -> None:
        self._rows = rows
        self.rowcount = rowcount

    def __iter__(self) -> Iterator[Any]:
        return iter(self._rows)

    def all(self) -> list[Any]:
        """Every row."""
        return self._rows

    def one_or_none(self) -> Any:
        """The only row, or None.

        Raises:
            MultipleResultsFound: there are several.
        """
        if len(self._rows) > 1:
            raise MultipleResultsFound("Multiple rows were found when one or none was required")
        return self._rows[0] if self._rows else None

    def one(self) -> Any:
        """The only row.

        Raises:
            NoResultFound: there is none.
            MultipleResultsFound: there are several.
        """
        row = self.one_or_none()
        if row is None:
            raise NoResultFound("No row was found when one was required")
        return row


class QuickConnection:
    """One connection for one thread, outside a transaction unless `begin` was called.

    Args:
        raw: in autocommit mode.
    """

    def __init__(self, raw: sqlite3.Connection) -> None:
        self._raw = raw
        self._dialect: Final[Dialect] = sqlite_dialect.dialect(paramstyle="named")
        # By the statement itself: all of them are constants of their modules, and stay as long as the process.
        self._compiled: dict[tuple[_Call, tuple[int, ...]], _Compiled] = {}
        # Which parameters belong to an IN; a list in any other is JSON.
        self._lists: dict[_Call, tuple[str, ...]] = {}

    def begin(self) -> None:
        """Begin a transaction that may write, at once or not at all.

        Raises:
            sqlite3.OperationalError: another connection is writing.
        """
        # A plain BEGIN would take the lock at the first change, and fail if another process changed something between.
        self._raw.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Keep what the transaction did."""
        self._raw.execute("COMMIT")

    def rollback(self) -> None:
        """Undo what the transaction did; nothing when SQLite has done so by itself."""
        if self._raw.in_transaction:
            self._raw.execute("ROLLBACK")

    def close(self) -> None:
        """Let go of the file."""
        self._raw.close()

    def execute(self, statement: ClauseElement, values: Mapping[str, Any] | None = None) -> QuickResult:
        """Run a statement.

        Raises:
            ValueError: a value cannot be written as JSON.
            sqlite3.Error: what the driver says.
        """
        compiled, values = self._find(statement, values or {})
        cursor = self._raw.execute(compiled.text, _parameters(compiled, values))
        if compiled.row is None:
            return QuickResult([], cursor.rowcount)
        make = compiled.row
        if not compiled.readers:
            return QuickResult([make(*row) for row in cursor], cursor.rowcount)
        rows = []
        for row in cursor:
            cells = list(row)
            for index, read in compiled.readers:
                cells[index] = read(cells[index])
            rows.append(make(*cells))
        return QuickResult(rows, len(rows))

    def scalar(self, statement: ClauseElement, values: Mapping[str, Any] | None = None) -> Any:
        """The first column of the first row; None when there is no row."""
        rows = self.execute(statement, values).all()
        return rows[0][0] if rows else None

    def scalars(self, statement: ClauseElement, values: Mapping[str, Any] | None = None) -> list[Any]:
        """The first column of every row."""
        return [row[0] for row in self.execute(statement, values)]

    def _find(self, statement: ClauseElement, values: Mapping[str, Any]) -> tuple[_Compiled, Mapping[str, Any]]:
        """The statement as it is kept for such a call, and the values as it takes them."""
        call = (statement, tuple(values))
        lists = self._lists.get(call)
        if lists is None:
            lists = self._lists[call] = self._lists_of(statement, values)
        if lists:
            values = {**values, **{name: _padded(values[name]) for name in lists}}
        key = (call, tuple(len(values[name]) for name in lists))
        compiled = self._compiled.get(key)
        if compiled is None:
            compiled = self._compiled[key] = self._compile(statement, values)
        return compiled, values

    def _lists_of(self, statement: ClauseElement, values: Mapping[str, Any]) -> tuple[str, ...]:
        compiler = statement.compile(dialect=self._dialect, column_keys=list(values))
        assert isinstance(compiler, SQLCompiler)
        return tuple(name for name in values if name in compiler.binds and compiler.binds[name].expanding)

    def _compile(self, statement: ClauseElement, values: Mapping[str, Any]) -> _Compiled:
        compiler = statement.compile(dialect=self._dialect, column_keys=list(values))
        assert isinstance(compiler, SQLCompiler)
        state = compiler.construct_expanded_state(dict(values))
        names: dict[str, str | list[str]] = {
            name: state.parameter_expansion.get(name, name) for name in values if name in compiler.binds
        }
        of_call = {part for name in names.values() for part in (name if isinstance(name, list) else [name])}
        writers: dict[str, Convert] = {}
        for name, bind in compiler.binds.items():
            if (write := bind.type.dialect_impl(self._dialect).bind_processor(self._dialect)) is not None:
                writers[name] = write
        constants = {name: value for name, value in state.parameters.items() if name not in of_call}
        columns = list(statement.exported_columns) if isinstance(statement, ReturnsRows) else []
        types = [column.type.dialect_impl(self._dialect) for column in columns]
        readers = [(index, kind.result_processor(self._dialect, None)) for index, kind in enumerate(types)]
        return _Compiled(
            text=state.statement,
            constants={name: writers[name](value) if name in writers else value for name, value in constants.items()},
            names=names,
            writers=writers,
            readers=[(index, read) for index, read in readers if read is not None],
            row=_row_type([getattr(column, "name", "") for column in columns]) if columns else None,
        )


def _padded(values: list[Any]) -> list[Any]:
    """The list, its last value repeated until its length is a power of two: what is IN it stays the same.

    Each length is compiled and kept, which takes long and memory: so there are ten for lists of up to a thousand.
    """
    length = 1 << (len(values) - 1).bit_length() if values else 0
    return values + values[-1:] * (length - len(values))


def _row_type(names: Sequence[str]) -> Callable[..., Any]:
    return namedtuple("Row", names, rename=True)


def _parameters(compiled: _Compiled, values: Mapping[str, Any]) -> dict[str, Any]:
    parameters = dict(compiled.constants)
    try:
        for name, target in compiled.names.items():
            value = values[name]
            if isinstance(target, list):
                parameters.update(zip(target, value, strict=True))
            else:
                write = compiled.writers.get(name)
                parameters[target] = value if write is None else write(value)
    except (ValueError, TypeError) as error:
        raise ValueError(f"The database refuses the value: {error}") from error
    return parameters
