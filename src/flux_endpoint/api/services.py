"""What the routes need, in one typed value; `wiring/services.py` fills it."""

import asyncio
from dataclasses import dataclass, field

from flux_endpoint.core.tracing import Tracer
from flux_endpoint.service.accounts import Accounts
from flux_endpoint.service.activity import ActivityService
from flux_endpoint.service.batches import BatchService
from flux_endpoint.service.billing import Billing
from flux_endpoint.service.bodies import Bodies
from flux_endpoint.service.drafts import Drafts
from flux_endpoint.service.endpoint import Endpoints
from flux_endpoint.service.estimates import Estimates
from flux_endpoint.service.images import ImageService
from flux_endpoint.service.job_views import JobViews
from flux_endpoint.service.metrics import MetricsService
from flux_endpoint.service.sources import Sources
from flux_endpoint.service.worker_tokens import WorkerTokens
from flux_endpoint.service.workforce import Workforce


@dataclass(frozen=True, slots=True)
class Services:
    """The floor below, as the HTTP edge sees it.

    Attributes:
        worker_tokens: the secrets of the workers; API keys do not open their routes, nor the other way round.
        tracer: who is told of requests; None where nobody traces.
        hold_s: how long `job-take` and `job-stop` are held when there is nothing to tell. Official workers give up
            after 90 s.
        leaving: set once the process has been told to end.
        hot_loop_s: how long a worker waits for a refusal after which Runpod's SDK asks again without a pause.
    """

    bodies: Bodies
    endpoints: Endpoints
    workforce: Workforce
    accounts: Accounts
    images: ImageService
    job_views: JobViews
    batches: BatchService
    worker_tokens: WorkerTokens
    billing: Billing
    estimates: Estimates
    activity: ActivityService
    metrics: MetricsService
    sources: Sources
    drafts: Drafts
    tracer: Tracer | None = None
    hold_s: float = 20
    leaving: asyncio.Event = field(default_factory=asyncio.Event)
    hot_loop_s: float = 2
