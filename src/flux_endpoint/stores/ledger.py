"""Keys and charges in the SQL database."""

from collections.abc import Sequence

from flux_endpoint.core.account import ApiKey
from flux_endpoint.stores import statements as sql
from flux_endpoint.stores.database import Database, Transaction, storable
from flux_endpoint.stores.protocol import LedgerEntry
from flux_endpoint.stores.records import to_entry


class SqlLedger:
    """Implements `Ledger`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add_key(self, key: ApiKey, secret_hash: str) -> None:
        """See `Ledger.add_key`."""
        values = {
            "id": key.id,
            "name": storable(key.name),
            "secret_hash": secret_hash,
            "created_ms": key.created_ms,
            "revoked_ms": key.revoked_ms,
        }

        def work(transaction: Transaction) -> None:
            transaction.connection.execute(sql.ADD_KEY, values)

        await self._database.write(work)

    async def find_key(self, secret_hash: str) -> ApiKey | None:
        """See `Ledger.find_key`."""
        values = {"hash": storable(secret_hash)}
        row = await self._database.read(lambda connection: connection.execute(sql.FIND_KEY, values).one_or_none())
        return None if row is None else ApiKey(*row)

    async def list_keys(self) -> Sequence[ApiKey]:
        """See `Ledger.list_keys`."""
        rows = await self._database.read(lambda connection: connection.execute(sql.LIST_KEYS).all())
        return [ApiKey(*row) for row in rows]

    async def revoke_key(self, key_id: str, now_ms: int) -> bool:
        """See `Ledger.revoke_key`."""
        values = {"key": storable(key_id), "now_ms": now_ms}
        return await self._database.write(
            lambda transaction: transaction.connection.execute(sql.REVOKE_KEY, values).rowcount > 0
        )

    async def entries(self, key_id: str | None = None) -> Sequence[LedgerEntry]:
        """See `Ledger.entries`."""
        query = sql.LIST_ENTRIES if key_id is None else sql.LIST_ENTRIES_OF_KEY
        values = {} if key_id is None else {"key": storable(key_id)}
        rows = await self._database.read(lambda connection: connection.execute(query, values).all())
        return [to_entry(row) for row in rows]
