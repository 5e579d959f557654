"""The server of the protocol's SDK, made for one message of one client.

Nothing is kept from one message to the next: any gateway of several may answer the next one.
"""

import logging
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import mcp_types
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from flux_endpoint import __version__
from flux_endpoint.api.dialects.mcp import pictures, tools
from flux_endpoint.api.operations import Call
from flux_endpoint.core.account import ApiKey
from flux_endpoint.core.errors import FluxEndpointError, StoreUnavailable

logger = logging.getLogger(__name__)

_NAME: Final = "flux-endpoint"
# What has no session is not told about sessions.
for _chatty in ("mcp.server.streamable_http_manager", "mcp.server.streamable_http"):
    logging.getLogger(_chatty).setLevel(logging.WARNING)


class Exchange(Response):
    """The answer to one message.

    Args:
        call: who sent it.
        key: may what it asks for.
        body: the message.
    """

    def __init__(self, call: Call, key: ApiKey, body: bytes) -> None:
        super().__init__()
        self._call = call
        self._key = key
        self._message = body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        has_sent = False

        async def replay() -> Message:
            """The body, which has been read, and then whether the client has left."""
            nonlocal has_sent
            if has_sent:
                return await receive()
            has_sent = True
            return {"type": "http.request", "body": self._message, "more_body": False}

        server: Server[Any] = Server(
            _NAME,
            version=__version__,
            instructions=tools.INSTRUCTIONS,
            on_list_tools=partial(_list_tools, self._call),
            on_call_tool=partial(_call_tool, self._call, self._key),
        )
        manager = StreamableHTTPSessionManager(server, stateless=True)
        async with manager.run():
            await manager.handle_request(scope, replay, send)


async def _list_tools(
    call: Call, _context: ServerRequestContext[Any], _page: mcp_types.PaginatedRequestParams | None
) -> mcp_types.ListToolsResult:
    return mcp_types.ListToolsResult(tools=tools.tools(call.services.endpoints.specs))


async def _call_tool(
    call: Call, key: ApiKey, context: ServerRequestContext[Any], asked: mcp_types.CallToolRequestParams
) -> mcp_types.CallToolResult:
    try:
        return await _answer(call, key, context, asked.name, asked.arguments or {})
    except FluxEndpointError as error:
        # Others may name a path or a host of the operator's.
        text = "the server cannot reach its storage right now; try again" if _is_outage(error) else str(error)
        return tools.failure(text)


async def _answer(
    call: Call, key: ApiKey, context: ServerRequestContext[Any], tool: str, arguments: Mapping[str, Any]
) -> mcp_types.CallToolResult:
    report = context.session.report_progress
    match tool:
        case "generate":
            endpoint, job = await pictures.generate(call, key, arguments, report)
        case "status":
            endpoint, job = await pictures.status(call, key, tools.job_id_in(arguments), arguments, report)
        case "cancel":
            endpoint, job = await pictures.cancel(call, key, tools.job_id_in(arguments))
        case "estimate":
            return tools.facts(await pictures.estimate(call, key, arguments))
        case _:
            return tools.failure(f"there is no tool '{tool[:80]}'")
    return await tools.result_of(call, endpoint.spec, job, has_links=context.protocol_version >= tools.LINKS_SINCE)


def _is_outage(error: FluxEndpointError) -> bool:
    return isinstance(error, StoreUnavailable)
