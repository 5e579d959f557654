"""The one way in: who may ask for an operation, checked before its handler is called."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Final

from flux_endpoint.api.http import secret_of
from flux_endpoint.api.operations import Call
from flux_endpoint.core.account import Operation
from flux_endpoint.core.errors import Forbidden
from flux_endpoint.service.worker_tokens import worker_name
from flux_endpoint.service.workforce import Workforce

# Whoever sends it may be repeating a request whose answer was lost.
REPEAT_HEADER: Final = "idempotency-key"
# Lists of endpoints in the paths of workers: as many as there are kinds of workers.
_PATHS: Final = 64


@dataclass(frozen=True, slots=True)
class Everybody:
    """No key is asked for. Implements `Access`."""

    needs_key = False

    async def admit(self, call: Call, path: list[str]) -> list[Any]:
        """See `Access.admit`: the handler gets the parts of the path."""
        return path


@dataclass(frozen=True, slots=True)
class KeyHolders:
    """Whoever has an API key that opens an operation. Implements `Access`.

    Attributes:
        operation: what the key must open, and what is counted against its limits.
        has_endpoint: whether the first variable part of the path is the id of an endpoint.
        may_repeat: whether a call with an Idempotency-Key does not count as asking for a job yet: it may repeat one.
        endpoint_named: where else an endpoint may be named that the key must open: tells its id, None for none.
    """

    operation: Operation
    has_endpoint: bool = True
    may_repeat: bool = False
    endpoint_named: Callable[[Call], str | None] | None = None

    needs_key = True

    async def admit(self, call: Call, path: list[str]) -> list[Any]:
        """See `Access.admit`: the handler gets the endpoint as the key may use it, or else the key.

        The call counts as open until its answer is sent, a streamed one included, or its client has left.
        """
        services = call.services
        key = await services.accounts.authenticate(secret_of(call))
        arguments: list[Any] = [key, *path]
        endpoint_id = None
        if self.has_endpoint:
            endpoint_id = path[0]
            arguments = [services.endpoints.opened(endpoint_id, key), *path[1:]]
        elif self.endpoint_named is not None and (endpoint_id := self.endpoint_named(call)) is not None:
            services.endpoints.spec(endpoint_id)
        may_repeat = self.may_repeat and REPEAT_HEADER in call.headers
        if services.accounts.shares_rates:
            await services.accounts.agree(key, endpoint_id, self.operation, may_repeat=may_repeat)
        call.leave = services.accounts.enter(key, endpoint_id, self.operation, may_repeat=may_repeat)
        return arguments


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker that may do what it asks for, as far as its token goes.

    Attributes:
        check_right: raises when its token has been revoked meanwhile.
    """

    workforce: Workforce
    id: str
    endpoint_ids: Sequence[str]
    check_right: Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Workers:
    """Whoever has a worker token that is good for the endpoints in the path. Implements `Access`.

    The first variable part of the path names these, joined by commas, and the second is the worker's own id.
    """

    needs_key = False

    async def admit(self, call: Call, path: list[str]) -> list[Any]:
        """See `Access.admit`: the handler gets the worker, and the rest of the path."""
        check_right = partial(call.services.worker_tokens.authenticate, secret_of(call))
        token = await check_right()
        endpoint_ids, worker_id, *rest = path
        wanted = _endpoints_in(endpoint_ids)
        if token.endpoint_ids is not None and not token.endpoint_ids.issuperset(wanted):
            allowed = ", ".join(sorted(token.endpoint_ids))
            raise Forbidden(f"the worker token '{token.name}' is good for these endpoints only: {allowed}")
        return [Worker(call.services.workforce, worker_name(token.id, worker_id), wanted, check_right), *rest]


def names_in(text: str) -> Sequence[str]:
    """The different ones of a list with commas."""
    return tuple(dict.fromkeys(name for name in text.split(",") if name))


# Every worker asks again and again for the same ones.
_endpoints_in: Final = lru_cache(_PATHS)(names_in)
