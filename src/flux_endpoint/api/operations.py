"""The table of operations: how each is asked for, by whom and with what, what answers it and with which words.

Dispatch, admission, 405 with `Allow`, limits of bodies and the OpenAPI document all follow from it.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress
from typing import Any, Final, Protocol

from starlette.requests import Request
from starlette.responses import Response

from flux_endpoint.api.http import BODY_IS_OVER, ClientLeft, Gunzip, error_object, is_strict
from flux_endpoint.api.schemas import JsonObject
from flux_endpoint.api.services import Services
from flux_endpoint.core.endpoint import EndpointSpec
from flux_endpoint.core.errors import InvalidRequest, UnsupportedEncoding

# Takes the call, what admission found out, and the parts of the path that are left.
Handler = Callable[..., Awaitable[Response]]
# Of one path by method: what is asked for most is found with two look-ups.
Methods = Mapping[str, "Route"]

_NOTHING_FOUND: Final[tuple[Methods, list[str]]] = ({}, [])


class Access(Protocol):
    """Who may ask for an operation."""

    @property
    def needs_key(self) -> bool:
        """Whether a client needs an API key."""
        ...

    async def admit(self, call: "Call", path: list[str]) -> Sequence[Any]:
        """Let a call in.

        Args:
            call: what is asked.
            path: the variable parts of its path.

        Returns:
            The arguments of the handler after the call.

        Raises:
            Unauthenticated, Forbidden, TooManyRequests, UnknownEndpoint, InvalidRequest: it stays out.
        """
        ...


class WordsOfErrors(Protocol):
    """How the errors of an operation are told."""

    def __call__(
        self, status_code: int, text: str, *, made_id: str | None, problems: Sequence[str], field: str | None
    ) -> tuple[object, str]:
        """The JSON value of an error, and its media type.

        Args:
            status_code: of the answer.
            text: a sentence a person can act on.
            made_id: the job or batch that the call has made all the same; None for none.
            problems: the sentences that `text` is made of, where there are several.
            field: the one that is wrong; None where that is not known.
        """
        ...


@dataclass(frozen=True, slots=True)
class Body:
    """What comes in the body of an operation.

    Attributes:
        limit_bytes: packed or unpacked, whichever is more.
        schema: JSON schema; a function where each endpoint has its own.
        example: a body that is right; None for what the schema says.
        media_type: of the body.
    """

    limit_bytes: int
    schema: JsonObject | Callable[[EndpointSpec], JsonObject]
    example: JsonObject | None = None
    media_type: str = "application/json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One row of the table. The docstring of the handler is its description.

    Attributes:
        name: of the function in generated clients: never changes.
        methods: separated by spaces; the first is the one to use, the others are for clients that cannot.
        path: with the variable parts in braces.
        access: who may ask for it.
        handler: what answers it.
        summary: a few words, for lists.
        tag: what it belongs to, in lists.
        parameters: of the query and the headers, as OpenAPI tells them.
        body: what is sent; None for nothing.
        answers: by status, as OpenAPI tells them.
        follow_ups: names of the operations that take the id of the job that this one answers.
        is_described: whether clients are told of it.
        words_of_errors: how its errors are told.
        made_header: where an answer has the id of what the call has made.
        is_polled: whether clients that are refused ask again at once: they are answered after a pause.
        statuses: of errors, by those that other operations answer with: `{503: 429}`.
    """

    name: str
    methods: str
    path: str
    access: Access
    handler: Handler
    summary: str = ""
    tag: str = ""
    parameters: Sequence[JsonObject] = ()
    body: Body | None = None
    answers: Mapping[int | str, JsonObject] = field(default_factory=dict)
    follow_ups: Sequence[str] = ()
    is_described: bool = True
    words_of_errors: WordsOfErrors = error_object
    made_header: str = "X-Job-Id"
    is_polled: bool = False
    statuses: Mapping[int, int] = field(default_factory=dict)


class Call(Request):
    """A request for an operation.

    Attributes:
        services: what answers are made of.
        document: the OpenAPI document.
        origin: what links in the answer start with: scheme, host, port and prefix, without a slash at the end.
        route: what is asked for; None when there is no such thing.
        made_id: the job or batch that it has made: from then on every answer carries the id, errors too.
        leave: called when the answer is sent or its client has left.
        warnings: what of it is not heeded: told in headers of the answer.
        traceparent: names the span that it is; None where nobody traces.
    """

    services: Services
    document: Callable[[], Awaitable[JsonObject]]
    origin = ""
    route: Route | None = None
    made_id: str | None = None
    leave: Callable[[], None] | None = None
    warnings: Sequence[str] = ()
    traceparent: str | None = None

    def tell(self, warnings: Iterable[str]) -> None:
        """Tell the client what of its request is not heeded: with the answer, or instead of one.

        Raises:
            InvalidRequest: there is something, and the client says `Prefer: handling=strict`.
        """
        self.warnings = tuple(warnings)
        if self.warnings and is_strict(self):
            raise InvalidRequest(f"Invalid request: {'; '.join(self.warnings)}")

    async def read_body(self, limit_bytes: int | None = None) -> bytes:
        """The body, unpacked where it came as gzip.

        Args:
            limit_bytes: how much may be sent; None for what the table says.

        Raises:
            InvalidRequest: it is longer, packed or unpacked, or is no gzip though it says so.
            UnsupportedEncoding: it is packed in another way.
            ClientLeft: it was not sent to the end.
        """
        if limit_bytes is None:
            assert self.route is not None
            assert self.route.body is not None
            limit_bytes = self.route.body.limit_bytes
        limit = f"{limit_bytes // 2**20}MiB" if limit_bytes >= 2**20 else f"{limit_bytes // 2**10}KiB"
        too_long = InvalidRequest(f"Invalid request: the body exceeded max body size of {limit}")
        encoding = self.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("identity", "gzip", "x-gzip"):
            raise UnsupportedEncoding(f"the Content-Encoding '{encoding[:40]}' is not understood; send gzip, or none")
        declared = self.headers.get("content-length", "")
        if declared.isdigit() and int(declared) > limit_bytes:
            raise too_long
        unpack = None if encoding == "identity" else Gunzip()
        pieces, is_over = bytearray(), False
        while not is_over:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientLeft
            is_over = self.scope[BODY_IS_OVER] = not message.get("more_body", False)
            piece = message.get("body", b"")
            if unpack is None:
                pieces += piece
            else:
                await unpack.add(piece, pieces, limit_bytes)
            if len(pieces) > limit_bytes:
                raise too_long
        if unpack is not None and not unpack.is_complete:
            raise InvalidRequest(Gunzip.PROBLEM)
        return bytes(pieces)


class Table:
    """Finds routes by the path that is asked for.

    Args:
        routes: where the paths of two match, the one with the longer fixed beginning counts.
    """

    def __init__(self, routes: Iterable[Route]) -> None:
        # A form says which parts of a path are fixed and which are not, by the number of parts.
        forms: dict[int, set[tuple[bool, ...]]] = {}
        self._found: dict[tuple[object, ...], dict[str, Route]] = {}
        for route in routes:
            parts = route.path.split("/")
            fixed = tuple(not part.startswith("{") for part in parts)
            forms.setdefault(len(parts), set()).add(fixed)
            methods = self._found.setdefault((fixed, *compress(parts, fixed)), {})
            for method in route.methods.split():
                if method in methods:
                    raise ValueError(f"{method} {route.path} is in the table twice")
                methods[method] = route
        self._forms = {
            length: [(fixed, tuple(not one for one in fixed)) for fixed in sorted(found, reverse=True)]
            for length, found in forms.items()
        }

    def find(self, path: str) -> tuple[Methods, list[str]]:
        """What may be done with a path, by method, and the variable parts of it; nothing for an unknown one."""
        parts = path.split("/")
        for fixed, variable in self._forms.get(len(parts), ()):
            methods = self._found.get((fixed, *compress(parts, fixed)))
            if methods is not None:
                return methods, [*compress(parts, variable)]
        return _NOTHING_FOUND
