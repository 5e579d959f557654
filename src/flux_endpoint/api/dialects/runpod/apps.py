"""What `runpod.Queue` of Runpod's Python client 2 asks: jobs of one fixed id, with the endpoint in a header."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from flux_endpoint.api.operations import Access, Call, Route

_ID: Final = "flash"
_ENDPOINT: Final = "{endpoint_id}"
_HEADER: Final = "x-flash-endpoint"
_OPERATIONS: Final = frozenset(("run", "runsync", "status", "stream", "cancel", "retry"))


@dataclass(frozen=True, slots=True)
class HeaderAccess:
    """Lets in whom the operation itself would, to the endpoint that a header names. Implements `Access`."""

    inner: Access

    @property
    def needs_key(self) -> bool:
        """See `Access.needs_key`."""
        return self.inner.needs_key

    async def admit(self, call: Call, path: list[str]) -> Any:
        """See `Access.admit`."""
        return await self.inner.admit(call, [call.headers.get(_HEADER, _ID), *path])


def app_routes(routes: Iterable[Route]) -> Iterator[Route]:
    """The operations on jobs among some, as this client asks for them; names of app and environment do not count."""
    for route in routes:
        _, _, endpoint, operation, *_ = [*route.path.split("/"), "", ""]
        if endpoint == _ENDPOINT and operation in _OPERATIONS:
            path = route.path.replace(_ENDPOINT, _ID)
            yield replace(
                route, name=f"app_{route.name}", path=path, access=HeaderAccess(route.access), is_described=False
            )
