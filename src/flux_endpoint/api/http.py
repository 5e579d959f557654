"""What the routes share: reading keys, queries and packed bodies, answering JSON, noticing that a client has left."""

import asyncio
import base64
import zlib
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar, overload

from starlette.requests import Request
from starlette.responses import Response

from flux_endpoint.api.schemas import JsonObject, query_parameter
from flux_endpoint.core.errors import InvalidRequest
from flux_endpoint.core.raw_json import write_json

Result = TypeVar("Result")

# Where a request keeps whether its body has been read to the end; missing while nobody has read from it.
BODY_IS_OVER: Final = "flux_endpoint.body_is_over"
# Of a number in a query; the limits themselves are far below.
_MAX_DIGITS: Final = 12


class ClientLeft(Exception):
    """The client closed the connection before the answer was ready."""


def json_reply(
    body: object, status_code: int = 200, headers: dict[str, str] | None = None, media_type: str = "application/json"
) -> Response:
    """A JSON answer; success is always exactly 200, because two official clients accept no other 2xx."""
    # Escaped to ASCII: a third-party worker's text may hold lone surrogates, which UTF-8 cannot.
    return Response(write_json(body).encode(), status_code, headers, media_type)


def error_object(
    status_code: int, text: str, *, made_id: str | None, problems: Sequence[str], field: str | None
) -> tuple[object, str]:
    """An error as `{"error": text}`, with the id of what was made all the same. Implements `WordsOfErrors`."""
    return {"error": text} | ({} if made_id is None else {"id": made_id}), "application/json"


def secret_of(request: Request) -> str:
    """The key of a request, as the clients of any dialect send it.

    Returns:
        What stands in `Authorization: Bearer KEY`, `Key KEY`, `Basic user:KEY` (in base64) or the raw `KEY`, else in
        `x-key: KEY`; empty for none.
    """
    value = (request.headers.get("authorization") or request.headers.get("x-key", "")).strip()
    scheme, _, rest = value.partition(" ")
    match scheme.lower():
        case "bearer" | "key":
            return rest.strip()
        case "basic":
            return _password_in(rest)
    return value


def is_strict(request: Request) -> bool:
    """Whether a client prefers an error over an answer that does not heed all it has sent (RFC 7240)."""
    preferences = ",".join(request.headers.getlist("prefer")).lower().replace('"', "").replace(";", ",")
    return any("".join(one.split()) == "handling=strict" for one in preferences.split(","))


def _password_in(credentials: str) -> str:
    """The password of HTTP Basic (RFC 7617); empty where it cannot be read. Whose name stands before it is all one."""
    try:
        text = base64.b64decode(credentials.strip(), validate=True).decode()
    except ValueError:
        return ""
    return text.partition(":")[2]


@dataclass(frozen=True, slots=True)
class WholeNumber:
    """A query parameter that is a whole number; both limits included."""

    name: str
    minimum: int
    maximum: int
    description: str

    @overload
    def read(self, request: Request, default: int) -> int: ...
    @overload
    def read(self, request: Request) -> int | None: ...
    def read(self, request: Request, default: int | None = None) -> int | None:
        """The value a request has; `default` when it has none.

        Raises:
            InvalidRequest: it is no such number; the text names the parameter and its limits.
        """
        text = request.query_params.get(self.name)
        if text is None:
            return default
        is_number = text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS
        if not is_number or not self.minimum <= int(text) <= self.maximum:
            # The real service's words for `wait`.
            raise InvalidRequest(f"{self.name} is invalid; must be between {self.minimum} and {self.maximum}")
        return int(text)

    def parameter(self, default: int | None = None) -> JsonObject:
        """Its entry in the OpenAPI document."""
        schema: JsonObject = {"type": "integer", "minimum": self.minimum, "maximum": self.maximum}
        if default is not None:
            schema["default"] = default
        return query_parameter(self.name, schema, self.description)


@dataclass(frozen=True, slots=True)
class Flag:
    """A query parameter that is `true` or `false`; absent is false."""

    name: str
    description: str

    def read(self, request: Request) -> bool:
        """The value a request has.

        Raises:
            InvalidRequest: it is neither.
        """
        text = request.query_params.get(self.name, "false")
        if text not in ("true", "false"):
            raise InvalidRequest(f"{self.name} is invalid; must be true or false")
        return text == "true"

    def parameter(self) -> JsonObject:
        """Its entry in the OpenAPI document."""
        return query_parameter(self.name, {"type": "boolean", "default": False}, self.description)


class Gunzip:
    """Unpacks gzip piece by piece, never more at once than can be thrown away."""

    PROBLEM: Final = "Invalid request: the body is not what its Content-Encoding gzip says"
    _PART_BYTES: Final = 2**18
    _GZIP: Final = 16 + zlib.MAX_WBITS

    def __init__(self) -> None:
        self._unpacker = zlib.decompressobj(wbits=self._GZIP)

    @property
    def is_complete(self) -> bool:
        """Whether the last member has ended."""
        return self._unpacker.eof

    async def add(self, packed: bytes, pieces: bytearray, limit_bytes: int) -> None:
        """Unpack the next bytes to the end of others, or until these are more than may be.

        Raises:
            InvalidRequest: it is no gzip.
        """
        for part in self.feed(packed):
            pieces += part
            if len(pieces) > limit_bytes:
                break
            # Much can come out of little: others have their turn between.
            await asyncio.sleep(0)

    def feed(self, packed: bytes) -> Iterator[bytes]:
        """What the next bytes unpack to, in parts of at most 256 KiB.

        Raises:
            InvalidRequest: it is no gzip.
        """
        part = b""
        # What filled its part may have left more behind, even where all input is used.
        while packed or (len(part) == self._PART_BYTES and not self._unpacker.eof):
            if self._unpacker.eof:
                # One file of gzip may be several, one after another.
                self._unpacker = zlib.decompressobj(wbits=self._GZIP)
            try:
                part = self._unpacker.decompress(packed, self._PART_BYTES)
            except zlib.error:
                raise InvalidRequest(self.PROBLEM) from None
            packed = self._unpacker.unconsumed_tail or self._unpacker.unused_data
            yield part


async def unless_client_leaves(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """Await something long; cancel it when the client closes the connection.

    Without this a worker that died while its `job-take` was held would still be handed a job.

    Raises:
        ClientLeft: the client went first.
    """
    task = asyncio.current_task()
    assert task is not None
    has_left = False

    def leave(watcher: "asyncio.Task[None]") -> None:
        nonlocal has_left
        if not watcher.cancelled():
            has_left = True
            task.cancel()

    watcher = asyncio.create_task(_until_disconnected(request))
    watcher.add_done_callback(leave)
    try:
        return await work
    except asyncio.CancelledError:
        # Somebody else may want this task gone as well: then `uncancel` leaves a count.
        if has_left and not task.uncancel():
            raise ClientLeft from None
        raise
    finally:
        watcher.remove_done_callback(leave)
        watcher.cancel()


async def _until_disconnected(request: Request) -> None:
    while (message := await request.receive())["type"] != "http.disconnect":
        request.scope[BODY_IS_OVER] = not message.get("more_body", False)
