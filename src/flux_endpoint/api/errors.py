"""The one table from errors to HTTP codes, and how an error is told."""

import logging
from collections.abc import Sequence
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from flux_endpoint.api.http import ClientLeft, json_reply
from flux_endpoint.api.operations import Call, WordsOfErrors
from flux_endpoint.core.errors import (
    Conflict,
    FluxEndpointError,
    Forbidden,
    ImagesRefused,
    InvalidParameter,
    InvalidQuery,
    InvalidRequest,
    LeaseLost,
    NotFound,
    OverBudget,
    ResultErased,
    StoreUnavailable,
    TooManyRequests,
    Unauthenticated,
    UnsupportedEncoding,
)

logger = logging.getLogger(__name__)

# A subclass answers with the code of its nearest base in this table.
HTTP_STATUS: Final[dict[type[FluxEndpointError], int]] = {
    InvalidRequest: 400,
    UnsupportedEncoding: 415,
    InvalidQuery: 422,
    Unauthenticated: 401,
    OverBudget: 402,
    Forbidden: 403,
    TooManyRequests: 429,
    NotFound: 404,
    Conflict: 409,
    LeaseLost: 409,
    ResultErased: 410,
    StoreUnavailable: 503,
    FluxEndpointError: 500,
}
# nginx's code for a client that closed the connection; nobody reads it.
_CLIENT_LEFT_STATUS: Final = 499
# After an answer of 503, which may be over as soon as another process lets go of the database.
_RETRY_S: Final = "1"


def http_status_of(error: FluxEndpointError) -> int:
    """The HTTP code of an error: that of its nearest base in the table."""
    return next(HTTP_STATUS[kind] for kind in type(error).__mro__ if kind in HTTP_STATUS)


def refusal(call: Call, error: Exception, words: WordsOfErrors) -> Response:
    """The answer to a call that met an error."""
    match error:
        case ClientLeft() | ClientDisconnect():
            return Response(status_code=_CLIENT_LEFT_STATUS)
        case HTTPException():
            text = f"{error.detail}: {call.method} {call.url.path[:200]}"
            return _reply(call, words, error.status_code, text, dict(error.headers or {}))
        case StoreUnavailable():
            # The outage has been logged, once for all requests.
            logger.debug("%s %s: %s", call.method, call.url.path[:200], error)
            # Other texts may name a path or a host of the operator's.
            text = str(error) if isinstance(error, ImagesRefused) else _without_storage(call, error)
            return _reply(call, words, http_status_of(error), text, {"Retry-After": _RETRY_S})
        case ResultErased():
            call.made_id = error.job_id
            body = {"id": error.job_id, "status": error.status, "error": str(error)}
            return json_reply({name: value for name, value in body.items() if value is not None}, http_status_of(error))
        case FluxEndpointError():
            problems = error.problems if isinstance(error, InvalidQuery) else ()
            field = error.field if isinstance(error, InvalidParameter) else None
            return _reply(call, words, http_status_of(error), str(error), _headers_of(error), problems, field)
    logger.error("%s %s: a bug", call.method, call.url.path[:200], exc_info=error)
    # The client learns that it is not at fault.
    return _reply(call, words, 500, "internal error: the server's log has the details", {})


def _reply(
    call: Call,
    words: WordsOfErrors,
    status_code: int,
    text: str,
    headers: dict[str, str],
    problems: Sequence[str] = (),
    field: str | None = None,
) -> Response:
    if call.route is not None:
        status_code = call.route.statuses.get(status_code, status_code)
    body, media_type = words(status_code, text, made_id=call.made_id, problems=problems, field=field)
    return json_reply(body, status_code, headers, media_type)


def _headers_of(error: FluxEndpointError) -> dict[str, str]:
    if isinstance(error, TooManyRequests):
        return {"Retry-After": str(error.retry_after_s)}
    return {"Accept-Encoding": "gzip"} if isinstance(error, UnsupportedEncoding) else {}


def _without_storage(call: Call, error: StoreUnavailable) -> str:
    words = "the server cannot reach its storage right now"
    if call.made_id is not None:
        return f"{words}; {call.made_id} was accepted: ask for it later instead of sending it again"
    if error.made_id is not None:
        call.made_id = error.made_id
        return f"{words}, and may have accepted {error.made_id}: ask for it later, before you send it again"
    return f"{words}; try again"
