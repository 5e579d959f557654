"""What the store tells of how busy endpoints are, and how fast."""

from collections.abc import Sequence
from typing import Protocol

from flux_endpoint.core.activity import EndpointLoad, PastRun


class LoadStore(Protocol):
    """How busy endpoints are, and how fast."""

    async def load(self, endpoint_id: str) -> EndpointLoad:
        """The unfinished jobs of an endpoint; takes time in proportion to their number, not to that of all jobs."""
        ...

    async def past_runs(self, endpoint_id: str, limit: int) -> Sequence[PastRun]:
        """The latest completed jobs of an endpoint, at most `limit`, the latest first."""
        ...
