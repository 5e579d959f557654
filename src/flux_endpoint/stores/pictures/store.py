"""The pictures' part of the store: whose they are while they are on their way."""

from collections.abc import Collection, Sequence

from flux_endpoint.core.clock import Clock
from flux_endpoint.stores.jobs.claims import require_taken_before
from flux_endpoint.stores.pictures import statements as sql
from flux_endpoint.stores.sql.database import Database


class SqlPictures:
    """Implements `PictureStore`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def reserve_pictures(
        self, job_id: str, worker_id: str, token: int | None, keys: Sequence[str]
    ) -> Sequence[str] | None:
        """See `PictureStore.reserve_pictures`."""
        reporter = {"job": job_id, "worker": worker_id, "token": token}
        now_ms = self._clock.now_ms()
        rows = [reporter | {"new_key": key, "number": number, "now_ms": now_ms} for number, key in enumerate(keys)]
        reserved = await self._database.write(
            lambda transaction: [transaction.connection.execute(sql.RESERVE, values).first for values in rows],
            is_single=len(rows) == 1,
        )
        if None in reserved:
            await self._database.read(lambda connection: require_taken_before(connection, reporter))
            return None
        return [row.key for row in reserved]

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
