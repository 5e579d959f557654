"""What a dialect is: one wire format that clients may speak."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flux_endpoint.api.operations import Route
from flux_endpoint.api.schemas import JsonObject
from flux_endpoint.core.endpoint import EndpointSpec
from flux_endpoint.core.job import Job


@dataclass(frozen=True, slots=True)
class Dialect:
    """A wire format. The folder of the same name holds all that only its clients and workers say.

    Attributes:
        name: what jobs that came by it remember (`Job.dialect`).
        routes: its part of the table of operations.
        webhook_body: what the webhook of a job is told at its end, given its endpoint (None for one that is no longer
            served), the job and what links start with; None where jobs of this dialect have no webhooks.
    """

    name: str
    routes: Sequence[Route]
    webhook_body: Callable[[EndpointSpec | None, Job, str], JsonObject] | None = None
