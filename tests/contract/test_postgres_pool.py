"""How work runs on PostgreSQL's own driver. That it does what SQLite does, the other contract tests show."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, Text, bindparam, delete, insert, select, text, update

from flux_endpoint.core.errors import StoreUnavailable
from flux_endpoint.stores.connect import Stores, open_stores
from flux_endpoint.stores.sql.columns import JSON_VALUE
from flux_endpoint.stores.sql.database import Connection, Transaction

pytestmark = pytest.mark.anyio

things = Table(
    "things", MetaData(), Column("seq", Integer, primary_key=True), Column("name", Text), Column("value", JSON_VALUE)
)
ADD = insert(things).inline()
ALL = select(things).order_by(things.c.seq)
NAMED = select(things.c.value).where(things.c.name.in_(bindparam("names", expanding=True))).order_by(things.c.seq)
MARK = update(things).where(things.c.name == bindparam("wanted")).values(value={"marked": True})
MARKED = update(things).where(things.c.name == bindparam("wanted")).values(value={"marked": True}).returning(things)


@pytest.fixture
async def stores(postgres_url: str, clock: Any) -> AsyncIterator[Stores]:
    """With one connection to work on."""
    stores = await open_stores(postgres_url, clock, connections=2)
    await change(stores, "CREATE TABLE things (seq SERIAL PRIMARY KEY, name TEXT, value JSON)")
    yield stores
    await change(stores, "DROP TABLE things")
    await stores.close()


async def change(stores: Stores, statement: str) -> None:
    await stores.database.write(lambda transaction: transaction.connection.execute(text(statement)))


async def add(stores: Stores, *rows: dict[str, Any]) -> None:
    await stores.database.write(lambda transaction: transaction.connection.execute(ADD, rows))


async def names(stores: Stores) -> list[str]:
    return [row.name for row in await stores.database.read(lambda connection: connection.execute(ALL))]


async def test_rows_and_their_number_are_told(stores: Stores) -> None:
    await add(stores, {"name": "a", "value": {"x": [1, None]}}, {"name": "b", "value": "y"}, {"name": "b", "value": 2})

    def work(transaction: Transaction) -> None:
        connection = transaction.connection
        row = connection.execute(ALL).first
        assert (row.seq, row.name, row.value) == (1, "a", {"x": [1, None]})
        assert connection.execute(MARK, {"wanted": "b"}).rowcount == 2
        marked = connection.execute(MARKED, {"wanted": "b"})
        assert ([row.value for row in marked], marked.rowcount) == ([{"marked": True}] * 2, 2)
        assert connection.scalars(text("SELECT seq AS number FROM things ORDER BY seq")) == [1, 2, 3]
        assert connection.execute(delete(things).where(things.c.name == "c")).rowcount == 0
        assert connection.scalar(NAMED, {"names": []}) is None
        assert connection.scalars(NAMED, {"names": ["a", "z", "b"]})[0] == {"x": [1, None]}
        connection.execute(ADD, [])

    await stores.database.write(work)


async def test_what_fails_leaves_nothing_and_a_connection_that_works(stores: Stores) -> None:
    await add(stores, {"name": "a"})
    for error, fails in (
        (ValueError, lambda transaction: transaction.connection.execute(ADD, {"seq": 1})),
        (StoreUnavailable, lambda transaction: transaction.connection.execute(text("SELECT 1 FROM nowhere"))),
        (KeyError, lambda transaction: {}["not of the database"]),
    ):

        def work(transaction: Transaction, fails: Any = fails) -> None:
            transaction.connection.execute(ADD, {"name": "b"})
            fails(transaction)

        with pytest.raises(error):
            await stores.database.write(work)
        assert await names(stores) == ["a"]


async def test_a_question_may_be_left_and_the_next_one_is_answered(stores: Stores) -> None:
    sleep = text("SELECT pg_sleep(0.5)")
    for _ in range(3):
        asking = asyncio.create_task(stores.database.read(lambda connection: connection.execute(sleep)))
        await asyncio.sleep(0.05)
        asking.cancel()
    assert await names(stores) == []


async def test_a_table_that_changes_under_a_prepared_question_costs_no_answer(stores: Stores) -> None:
    def first(connection: Connection) -> Any:
        return connection.scalar(text("SELECT name FROM things"))

    await add(stores, {"name": "1"})
    assert await stores.database.read(first) == "1"
    await change(stores, "ALTER TABLE things ALTER name TYPE integer USING name::integer")
    assert await stores.database.read(first) == 1


async def test_a_connection_that_dies_within_a_transaction_takes_the_transaction_with_it(
    stores: Stores,
) -> None:

    def work(transaction: Transaction) -> None:
        transaction.connection.execute(ADD, {"name": "a"})
        transaction.connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    with pytest.raises(StoreUnavailable):
        await stores.database.write(work)
    assert await names(stores) == []
