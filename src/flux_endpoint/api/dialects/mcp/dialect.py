"""The Model Context Protocol by its official SDK, over streamable HTTP at one address."""

import asyncio
import importlib
from collections.abc import Sequence
from typing import Any, Final

from starlette.responses import Response

from flux_endpoint.api.admission import KeyHolders
from flux_endpoint.api.dialects.mcp.pictures import DIALECT
from flux_endpoint.api.dialects.protocol import Dialect
from flux_endpoint.api.operations import Body, Call, Route
from flux_endpoint.core.account import ApiKey, Operation
from flux_endpoint.core.errors import InvalidRequest

# A prompt and some numbers.
_LIMIT_BYTES: Final = 2**16
# JSON-RPC leaves these to servers.
_REFUSED: Final = -32000


async def exchange(call: Call, key: ApiKey) -> Response:
    """One message of a client, and the answer to it, with notices of progress before."""
    if call.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise InvalidRequest("Invalid request: a message is sent as application/json")
    body = await call.read_body()
    # Loaded with the first message, because few servers get any; in a thread, because that takes seconds.
    server: Any = await asyncio.to_thread(importlib.import_module, "flux_endpoint.api.dialects.mcp.server")
    response: Response = server.Exchange(call, key, body)
    return response


def words_of_errors(
    status_code: int, text: str, *, made_id: str | None, problems: Sequence[str], field: str | None
) -> tuple[object, str]:
    """An error as JSON-RPC has it. Implements `WordsOfErrors`."""
    return {"jsonrpc": "2.0", "id": None, "error": {"code": _REFUSED, "message": text}}, "application/json"


MCP: Final = Dialect(
    DIALECT,
    (
        Route(
            name="mcp_exchange",
            methods="POST",
            path="/mcp",
            access=KeyHolders(Operation.STATUS, has_endpoint=False),
            handler=exchange,
            body=Body(_LIMIT_BYTES, {}),
            is_described=False,
            words_of_errors=words_of_errors,
        ),
    ),
)
