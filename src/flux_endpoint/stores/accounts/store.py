"""Keys and charges in the SQL database."""

from collections.abc import Collection, Sequence
from typing import Any

from flux_endpoint.core.account import ApiKey, ChargeSum, KeyLimits, LedgerEntry, UsageSum
from flux_endpoint.core.pricing import units_to_usd, usd_to_units
from flux_endpoint.stores.accounts import statements as sql
from flux_endpoint.stores.sql.database import Database, Row, Transaction
from flux_endpoint.stores.webhooks.store import add_secret


class SqlAccounts:
    """Implements `AccountStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add_key(self, key: ApiKey, secret_hash: str) -> None:
        """See `AccountStore.add_key`."""
        await self.replace_keys(key, secret_hash, ())

    async def replace_keys(self, key: ApiKey, secret_hash: str, places: Collection[str]) -> Sequence[ApiKey]:
        """See `AccountStore.replace_keys`."""
        values = {
            "id": key.id,
            "name": key.name,
            "secret_hash": secret_hash,
            "created_ms": key.created_ms,
            "revoked_ms": key.revoked_ms,
            "made_for": key.made_for,
        } | _limit_values(key.limits)

        replaced = {"places": list(places), "key": key.id, "now_ms": key.created_ms}

        def replace_keys(transaction: Transaction) -> list[ApiKey]:
            transaction.connection.execute(sql.ADD_KEY, values)
            add_secret(transaction.connection, key.id)
            return [_to_key(row) for row in transaction.connection.execute(sql.REVOKE_MADE_FOR, replaced)]

        return await self._database.write(replace_keys)

    async def adopt_key(self, key_id: str, place: str) -> None:
        """See `AccountStore.adopt_key`."""
        values = {"key": key_id, "place": place}
        await self._database.write(lambda transaction: transaction.connection.execute(sql.ADOPT_KEY, values) and None)

    async def find_key(self, secret_hash: str) -> ApiKey | None:
        """See `AccountStore.find_key`."""
        values = {"hash": secret_hash}
        row = await self._database.read(lambda connection: connection.execute(sql.FIND_KEY, values).first)
        return None if row is None else _to_key(row)

    async def list_keys(self) -> Sequence[ApiKey]:
        """See `AccountStore.list_keys`."""
        rows = await self._database.read(lambda connection: connection.execute(sql.LIST_KEYS))
        return [_to_key(row) for row in rows]

    async def limit_key(self, key_id: str, limits: KeyLimits) -> bool:
        """See `AccountStore.limit_key`."""
        columns = _limit_values(limits)
        values = {
            "key": key_id,
            "read_only": columns["is_read_only"],
            "opened": columns["endpoint_ids"],
            "units": columns["units_per_month"],
            "requests": columns["requests_per_minute"],
        }
        return await self._database.write(
            lambda transaction: transaction.connection.execute(sql.LIMIT_KEY, values).rowcount > 0
        )

    async def choose_model(self, key_id: str, endpoint_id: str) -> None:
        """See `AccountStore.choose_model`."""
        values = {"key": key_id, "model": endpoint_id}
        await self._database.write(
            lambda transaction: transaction.connection.execute(sql.CHOOSE_MODEL, values) and None
        )

    async def revoke_key(self, key_id: str, now_ms: int) -> bool:
        """See `AccountStore.revoke_key`."""
        values = {"key": key_id, "now_ms": now_ms}
        return await self._database.write(
            lambda transaction: transaction.connection.execute(sql.REVOKE_KEY, values).rowcount > 0
        )

    async def entries(self, key_id: str | None = None) -> Sequence[LedgerEntry]:
        """See `AccountStore.entries`."""
        query = sql.LIST_ENTRIES if key_id is None else sql.LIST_ENTRIES_OF_KEY
        values = {} if key_id is None else {"key": key_id}
        rows = await self._database.read(lambda connection: connection.execute(query, values), is_heavy=True)
        return [_to_entry(row) for row in rows]

    async def charges(
        self, since_ms: int, until_ms: int, unit_ms: int, key_id: str | None = None
    ) -> Sequence[ChargeSum]:
        """See `AccountStore.charges`."""
        values: dict[str, object] = {"since_ms": since_ms, "until_ms": until_ms, "unit_ms": unit_ms}
        query = sql.SUM_CHARGES if key_id is None else sql.SUM_CHARGES_OF_KEY
        if key_id is not None:
            values["key"] = key_id
        rows = await self._database.read(lambda connection: connection.execute(query, values), is_heavy=True)
        return [ChargeSum(row.start_ms, int(row.charges), units_to_usd(int(row.units))) for row in rows]

    async def usage(self, since_ms: int, until_ms: int, unit_ms: int, key_id: str | None = None) -> Sequence[UsageSum]:
        """See `AccountStore.usage`."""
        values: dict[str, object] = {"since_ms": since_ms, "until_ms": until_ms, "unit_ms": unit_ms}
        query = sql.SUM_USAGE if key_id is None else sql.SUM_USAGE_OF_KEY
        if key_id is not None:
            values["key"] = key_id
        rows = await self._database.read(lambda connection: connection.execute(query, values), is_heavy=True)
        return [
            UsageSum(row.start_ms, row.key_id, row.endpoint_id, int(row.charges), units_to_usd(int(row.units)))
            for row in rows
        ]


def _to_entry(row: Row) -> LedgerEntry:
    return LedgerEntry(
        job_id=row.job_id,
        endpoint_id=row.endpoint_id,
        key_id=row.key_id,
        amount_usd=units_to_usd(row.amount_units),
        created_ms=row.created_ms,
    )


def _limit_values(limits: KeyLimits) -> dict[str, Any]:
    return {
        "is_read_only": int(limits.is_read_only),
        "endpoint_ids": None if limits.endpoint_ids is None else sorted(limits.endpoint_ids),
        "units_per_month": None if limits.usd_per_month is None else usd_to_units(limits.usd_per_month),
        "requests_per_minute": limits.requests_per_minute,
    }


def _to_key(row: Row) -> ApiKey:
    limits = KeyLimits(
        is_read_only=bool(row.is_read_only),
        endpoint_ids=None if row.endpoint_ids is None else frozenset(row.endpoint_ids),
        usd_per_month=None if row.units_per_month is None else units_to_usd(row.units_per_month),
        requests_per_minute=row.requests_per_minute,
    )
    return ApiKey(row.id, row.name, row.created_ms, row.revoked_ms, limits, row.made_for, row.chosen_model)
