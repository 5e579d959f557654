"""Reads the file in which an operator declares endpoints of their own."""

import json
import re
import tomllib
from collections.abc import Collection, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, NoReturn

from flux_endpoint.core.errors import SettingsError
from flux_endpoint.core.pricing import usd_to_units
from flux_endpoint.service.custom import CustomEndpoint

_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
_KEYS: Final = ("id", "name", "description", "price_usd", "input_schema")
_MAX_PRICE_USD: Final = Decimal(1_000)


def read_endpoints_file(file: Path, taken_ids: Collection[str]) -> list[CustomEndpoint]:
    """The endpoints a file declares, in its order.

    Args:
        file: TOML with one `[[endpoint]]` table for each.
        taken_ids: ids that are not free any more.

    Raises:
        SettingsError: the file cannot be read or is wrong; says at which line, or in which field of which endpoint.
    """
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"), parse_float=Decimal)
    except OSError as error:
        raise SettingsError(f"ENDPOINTS_FILE {file} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"ENDPOINTS_FILE {file} is not valid TOML: {error}") from None
    tables = content.pop("endpoint", None)
    if content or not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        strange = f", not {', '.join(sorted(content))}" if content else ""
        raise SettingsError(f"ENDPOINTS_FILE {file} must hold [[endpoint]] tables and nothing else{strange}")
    endpoints: list[CustomEndpoint] = []
    for number, table in enumerate(tables, 1):
        taken = {*taken_ids, *(endpoint.endpoint_id for endpoint in endpoints)}
        endpoints.append(_Reader(file, number, table).endpoint(taken))
    return endpoints


class _Reader:
    """One table of the file."""

    def __init__(self, file: Path, number: int, table: Mapping[str, Any]) -> None:
        self._file = file
        self._number = number
        self._table = table

    def endpoint(self, taken_ids: Collection[str]) -> CustomEndpoint:
        for key in self._table:
            if key not in _KEYS:
                self._refuse(key, f"is unknown; known are {', '.join(_KEYS)}")
        endpoint_id = self._text("id", None)
        if not _ID.fullmatch(endpoint_id):
            self._refuse("id", "must be 1 to 100 letters, digits, '-' and '_', a letter or digit first")
        if endpoint_id in taken_ids:
            self._refuse("id", f"is {endpoint_id!r}, which is taken already")
        try:
            return CustomEndpoint(
                endpoint_id=endpoint_id,
                display_name=self._text("name", endpoint_id),
                description=self._text("description", ""),
                usd_per_job=self._price(),
                input_schema=self._schema(),
            )
        except ValueError as error:
            self._refuse("input_schema", f"is no JSON schema that can be used: {error}")

    def _refuse(self, key: str, problem: str) -> NoReturn:
        name = self._table.get("id")
        which = f"[[endpoint]] number {self._number}" + (f" (id {name!r})" if isinstance(name, str) else "")
        raise SettingsError(f"ENDPOINTS_FILE {self._file}, {which}: {key} {problem}")

    def _text(self, key: str, default: str | None) -> str:
        value = self._table.get(key, default)
        if value is None:
            self._refuse(key, "is required")
        if not isinstance(value, str):
            self._refuse(key, "must be a string")
        return value

    def _price(self) -> Decimal:
        value = self._table.get("price_usd", 0)
        if isinstance(value, bool) or not isinstance(value, int | Decimal):
            self._refuse("price_usd", "must be a number")
        price = Decimal(value)
        # NaN, which TOML can write, fails every comparison.
        if not (price.is_finite() and 0 <= price <= _MAX_PRICE_USD):
            self._refuse("price_usd", f"must be between 0 and {_MAX_PRICE_USD}")
        try:
            usd_to_units(price)
        except ValueError:
            self._refuse("price_usd", "must have at most 8 decimals")
        return price

    def _schema(self) -> Mapping[str, Any] | None:
        value = self._table.get("input_schema")
        if isinstance(value, str):
            value = self._schema_file(self._file.parent / value)
        if value is not None and not isinstance(value, Mapping):
            self._refuse("input_schema", "must be a table, or the path of a JSON file that holds an object")
        schema: Mapping[str, Any] | None = _plain(value)
        return schema

    def _schema_file(self, file: Path) -> Any:
        try:
            return json.loads(file.read_text(encoding="utf-8"))
        except OSError as error:
            self._refuse("input_schema", f"names {file}, which cannot be read: {error.strerror}")
        except ValueError as error:
            self._refuse("input_schema", f"names {file}, which is not JSON: {error}")


def _plain(value: Any) -> Any:
    """The value with floats for decimals: what a JSON file would have held."""
    match value:
        case Decimal():
            return float(value)
        case Mapping():
            return {key: _plain(item) for key, item in value.items()}
        case list():
            return [_plain(item) for item in value]
        case str() | int() | float() | None:
            return value
        case _:
            # TOML knows dates and times, JSON does not.
            return str(value)
