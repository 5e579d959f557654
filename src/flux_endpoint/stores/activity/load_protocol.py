"""What the store tells of how busy endpoints are, and how fast."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class EndpointLoad:
    """How many unfinished jobs an endpoint has."""

    waiting: int
    running: int


@dataclass(frozen=True, slots=True)
class PastRun:
    """A job that was completed: how long its last attempt took, and its size (`core/megapixel_steps.py`)."""

    execution_ms: int
    megapixel_steps: float


class LoadStore(Protocol):
    """How busy endpoints are, and how fast."""

    async def load(self, endpoint_id: str) -> EndpointLoad:
        """The unfinished jobs of an endpoint; takes time in proportion to their number, not to that of all jobs."""
        ...

    async def past_runs(self, endpoint_id: str, limit: int) -> Sequence[PastRun]:
        """The latest completed jobs of an endpoint, at most `limit`, the latest first."""
        ...
