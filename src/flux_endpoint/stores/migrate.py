"""Brings a database's tables up to date with `schema.py`; the steps are packaged beside this file."""

from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text

# Any number no other program uses on the same database.
_ADVISORY_LOCK: Final = 7_305_931_142_566


def upgrade(connection: Connection) -> None:
    """Run the missing migrations inside the caller's transaction; does nothing when there are none.

    Two processes that start together on one database wait for each other: SQLite through BEGIN IMMEDIATE, PostgreSQL
    through an advisory lock, both held until the transaction ends. Alembic keeps its state in a module, so one process
    upgrades one database at a time.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
    config = Config()
    config.set_main_option("script_location", (Path(__file__).parent / "migrations").as_posix().replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
