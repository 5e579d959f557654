"""The pictures' part of the store: whose they are while they are on their way."""

from collections.abc import Collection, Sequence

from flux_endpoint.core.clock import Clock
from flux_endpoint.stores.jobs.claims import require_taken_before
from flux_endpoint.stores.jobs.statements import LOCK_HELD_BY_REPORTER
from flux_endpoint.stores.pictures import statements as sql
from flux_endpoint.stores.sql.database import Database, Transaction


class SqlPictures:
    """Implements `PictureStore`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def reserve_picture(self, job_id: str, worker_id: str, token: int | None, key: str) -> str | None:
        """See `PictureStore.reserve_picture`."""
        reporter = {"job": job_id, "worker": worker_id, "token": token}
        now_ms = self._clock.now_ms()

        def reserve_picture(transaction: Transaction) -> str | None:
            connection = transaction.connection
            held = connection.execute(LOCK_HELD_BY_REPORTER, reporter).first
            if held is None:
                require_taken_before(connection, reporter)
                return None
            claim = {"job": reporter["job"], "claim": held.claim_token, "now_ms": now_ms}
            reserved = connection.execute(sql.RESERVE_AGAIN, claim).first
            if reserved is not None:
                return str(reserved.key)
            values = {"key": key, "job_id": reporter["job"], "claim_token": held.claim_token, "reserved_ms": now_ms}
            connection.execute(sql.RESERVE, values)
            return key

        return await self._database.write(reserve_picture)

    async def orphaned_pictures(self, reserved_before_ms: int, limit: int) -> Sequence[str]:
        """See `PictureStore.orphaned_pictures`."""
        values = {"before_ms": reserved_before_ms, "max_pictures": limit}
        return await self._database.read(
            lambda connection: list(connection.scalars(sql.ORPHANS, values)), is_heavy=True
        )

    async def forget_pictures(self, keys: Collection[str]) -> None:
        """See `PictureStore.forget_pictures`."""
        if keys:
            values = {"keys": list(keys)}
            await self._database.write(lambda transaction: transaction.connection.execute(sql.FORGET, values))
