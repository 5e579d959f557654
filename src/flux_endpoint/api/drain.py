"""Lets a client finish what it sends before it is told that nobody wanted it.

Most clients read no answer while they send. Refused in the middle, with the connection closed at once, they see a
connection that was reset, and never why: so it is with urllib, and with nginx, whose client then gets a 502.
"""

import asyncio
from typing import Final

from starlette.datastructures import Headers
from starlette.types import Receive, Scope

from flux_endpoint.api.http import BODY_IS_OVER

# Twice what the largest body may have; who sends more is cut off.
_MAX_BYTES: Final = 64 * 2**20
_MAX_S: Final = 10.0


async def drain(scope: Scope, receive: Receive) -> bool:
    """Read the rest of a body, within bounds, before an answer that comes early.

    Returns:
        Whether there is nothing more to read; else the connection must be closed.
    """
    headers = Headers(scope=scope)
    # Who waits to be told to go on has sent nothing, and will not.
    if BODY_IS_OVER not in scope and "expect" in headers:
        return False
    declared = headers.get("content-length", "")
    if declared.isdigit() and int(declared) > _MAX_BYTES:
        return False
    left = _MAX_BYTES
    try:
        async with asyncio.timeout(_MAX_S):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if not message.get("more_body", False):
                    return True
    except TimeoutError:
        pass
    return False
