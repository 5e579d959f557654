"""What all tables are made of."""

from typing import Any, Final

import sqlalchemy
from sqlalchemy import JSON, BigInteger, Dialect, Integer, MetaData, TypeDecorator

from flux_endpoint.core.raw_json import read_json, write_json

# Named constraints: Alembic can only change what has a name.
metadata: Final = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)

# SQLite numbers rows by itself only when the column is declared INTEGER (64 bits there).
SEQUENCE: Final = BigInteger().with_variant(Integer, "sqlite")


def storable(text: str) -> str:
    """The text without what databases cannot hold (U+0000, lone surrogates): third-party workers send anything."""
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")


class Text(TypeDecorator[str]):
    """Text that may come from anybody. SQLite refuses less: see `CompiledConnection.execute`."""

    impl = sqlalchemy.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """The value as the database keeps it."""
        return None if value is None else storable(value)


class JsonText(TypeDecorator[Any]):
    """JSON in a column of text: in one declared JSON, SQLite makes of a bare number what it takes it for."""

    impl = sqlalchemy.Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        """The value as the database keeps it."""
        return None if value is None else write_json(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        """The value as it was before it was kept."""
        return None if value is None else read_json(value)


# JSON and not JSONB: JSONB refuses the character U+0000, which a third-party worker's output may hold.
JSON_VALUE: Final = JSON(none_as_null=True).with_variant(JsonText, "sqlite")
