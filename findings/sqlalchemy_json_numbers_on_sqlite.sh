#!/usr/bin/env bash
# SQLAlchemy 2.1.9: its type JSON where it meets SQLite (3.40.1 of CPython 3.11).
#
# Expected: a JSON value comes back as it was put in: the library writes text, and reads text.
# Seen: SQLAlchemy declares the column JSON, a name that SQLite gives NUMERIC affinity. A text that is one bare number
# is kept as a number: integers of more than 64 bits lose digits and become floats, 1.0 becomes the integer 1, -0.0
# becomes 0. The same numbers in a list or an object are safe, and so are strings that look like numbers, so tests
# with objects never show it. No error is raised. The migration notes of SQLAlchemy 1.3 name the affinity, the page of
# the type does not.
#
# Outputs of workers may be any JSON: we keep it in a column declared TEXT, and write and read it ourselves.
# Exits non-zero when this changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet sqlalchemy==2.1.9
"$folder/venv/bin/python" - <<'PY'
from sqlalchemy import JSON, Column, Integer, MetaData, Table, create_engine, select

metadata = MetaData()
outputs = Table("outputs", metadata, Column("id", Integer, primary_key=True), Column("output", JSON))
engine = create_engine("sqlite://")
metadata.create_all(engine)


def kept(value: object) -> object:
    with engine.begin() as connection:
        (number,) = connection.execute(outputs.insert().values(output=value)).inserted_primary_key
        return connection.scalar(select(outputs.c.output).where(outputs.c.id == number))


for value, expected in (
    (12345678901234567890, 1.2345678901234567e19),
    (1.0, 1),
    (-0.0, 0),
    ([12345678901234567890, 1.0, -0.0], [12345678901234567890, 1.0, -0.0]),
    ({"seed": 12345678901234567890}, {"seed": 12345678901234567890}),
    ("1.0", "1.0"),
):
    back = kept(value)
    print(f"{value!r} came back as {back!r}")
    # repr, because 1 == 1.0 and 0 == -0.0.
    if repr(back) != repr(expected):
        raise SystemExit(f"changed: expected {expected!r}")
print("as described")
PY
