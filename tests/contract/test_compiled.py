"""How statements run on SQLite. That they do what they do on PostgreSQL, the other contract tests show."""

import sqlite3

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, Text, bindparam, delete, func, insert, select, update

from flux_endpoint.stores.sql.columns import JsonText
from flux_endpoint.stores.sql.compiled import CompiledConnection

things = Table(
    "things", MetaData(), Column("seq", Integer, primary_key=True), Column("name", Text), Column("value", JsonText)
)
ADD = insert(things).inline()
ALL = select(things).order_by(things.c.seq)
NAMED = select(things.c.value).where(things.c.name.in_(bindparam("names", expanding=True)))
MARK = update(things).where(things.c.name == bindparam("wanted")).values(value={"marked": True}).returning(things)


@pytest.fixture
def connection():
    raw = sqlite3.connect(":memory:", isolation_level=None)
    raw.execute("CREATE TABLE things (seq INTEGER PRIMARY KEY, name TEXT, value TEXT)")
    connection = CompiledConnection(raw)
    yield connection
    connection.close()


def test_json_is_written_and_read_in_parameters_constants_and_rows(connection):
    connection.execute(ADD, {"name": "a", "value": {"x": [1, None]}})
    assert connection.execute(ALL).first == (1, "a", {"x": [1, None]})
    row = connection.execute(MARK, {"wanted": "a"}).first
    assert (row.seq, row.name, row.value) == (1, "a", {"marked": True})


def test_a_statement_serves_lists_of_every_length(connection):
    for name in "abc":
        connection.execute(ADD, {"name": name, "value": name.upper()})
    assert connection.scalars(NAMED, {"names": ["a", "c"]}) == ["A", "C"]
    assert connection.scalars(NAMED, {"names": ["b"]}) == ["B"]
    assert connection.scalars(NAMED, {"names": []}) == []
    assert connection.scalar(NAMED, {"names": ["z"]}) is None


def test_lists_of_many_lengths_take_no_more_memory_than_a_few(connection):
    for name in map(str, range(40)):
        connection.execute(ADD, {"name": name, "value": list(name)})
    for length in range(40):
        wanted = [str(number) for number in range(length)]
        assert connection.scalars(NAMED, {"names": wanted}) == [list(name) for name in wanted]
    # For 0, 1, 2, 4 ... 64 names and for the first look, and one for the insertions, whose lists are JSON.
    assert len(connection.known) == 10


def test_a_statement_serves_inserts_of_other_columns(connection):
    connection.execute(ADD, {"name": "a"})
    connection.execute(ADD, {"name": "b", "value": 2})
    assert connection.execute(ALL) == [(1, "a", None), (2, "b", 2)]


def test_the_number_of_changed_rows_is_told(connection):
    for name in "ab":
        connection.execute(ADD, {"name": name})
    assert connection.execute(delete(things)).rowcount == 2
    assert connection.scalar(select(func.count()).select_from(things)) == 0


@pytest.mark.parametrize("value", [float("nan"), {1, 2}])
def test_what_is_no_json_is_refused(connection, value):
    with pytest.raises(ValueError, match="refuses the value"):
        connection.execute(ADD, {"name": "a", "value": value})
