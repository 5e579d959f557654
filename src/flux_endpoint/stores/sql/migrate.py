"""Brings a database's tables up to date with `schema.py`; the steps are packaged beside this file."""

from pathlib import Path
from typing import Final

from sqlalchemy import Connection, inspect, text

from flux_endpoint.core.errors import SettingsError

# Any number no other program uses on the same database.
_ADVISORY_LOCK: Final = 7_305_931_142_566
_FOLDER: Final = Path(__file__).parent / "migrations"
_IS_UP_TO_DATE: Final = text("SELECT version_num = :newest FROM alembic_version")


def upgrade(connection: Connection) -> None:
    """Run the missing migrations inside the caller's transaction; does nothing when there are none.

    Two processes that start together on one database wait for each other: SQLite through BEGIN IMMEDIATE, PostgreSQL
    through an advisory lock, both held until the transaction ends. Alembic keeps its state in a module, so one process
    upgrades one database at a time.

    Raises:
        SettingsError: a newer version of this program has changed the tables.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
    # Files are called by their revision.
    newest = max(file.name for file in (_FOLDER / "versions").glob("*.py")).partition("_")[0]
    if inspect(connection).has_table("alembic_version") and connection.scalar(_IS_UP_TO_DATE, {"newest": newest}):
        return
    # Here and not above: it takes a tenth of a second to import, and most starts need none of it.
    from alembic import command
    from alembic.config import Config
    from alembic.script.revision import ResolutionError
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", _FOLDER.as_posix().replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        if not isinstance(error.__cause__, ResolutionError):
            raise
        raise SettingsError(
            "the database was last used by a newer version of flux-endpoint; install that one, or restore a copy made "
            "before the upgrade"
        ) from error
