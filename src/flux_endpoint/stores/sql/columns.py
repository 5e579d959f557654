"""What all tables are made of."""

from typing import Any, Final

from sqlalchemy import JSON, BigInteger, Dialect, Integer, MetaData, Text, TypeDecorator

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


class JsonText(TypeDecorator[Any]):
    """JSON in a column of text: in one declared JSON, SQLite makes of a bare number what it takes it for."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        """As it is kept."""
        return None if value is None else write_json(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        """As it was."""
        return None if value is None else read_json(value)


# JSON and not JSONB: JSONB refuses the character U+0000, which a third-party worker's output may hold.
JSON_VALUE: Final = JSON(none_as_null=True).with_variant(JsonText, "sqlite")
