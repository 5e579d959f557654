"""The services of a gateway, each with the stores that it uses: the same in `serve` and in the tests."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from flux_endpoint.api.dialects.registry import webhook_body
from flux_endpoint.api.services import Services
from flux_endpoint.core.endpoint import FLUX_ENDPOINTS, EndpointSpec
from flux_endpoint.core.front import Front
from flux_endpoint.core.job import Job
from flux_endpoint.images.client_bucket import sign_object
from flux_endpoint.images.decoding import decode_sent
from flux_endpoint.images.object_store import open_image_store
from flux_endpoint.outbound.protocol import Sender
from flux_endpoint.service.accounts import Accounts
from flux_endpoint.service.activity import ActivityService
from flux_endpoint.service.batches import BatchService
from flux_endpoint.service.billing import Billing
from flux_endpoint.service.bodies import Bodies
from flux_endpoint.service.buckets import Buckets
from flux_endpoint.service.drafts import Drafts
from flux_endpoint.service.endpoint import Endpoints, Retention
from flux_endpoint.service.estimates import Estimates
from flux_endpoint.service.images import MS_PER_DAY, ImageService
from flux_endpoint.service.janitor import Janitor
from flux_endpoint.service.job_views import JobViews
from flux_endpoint.service.metrics import MetricsService
from flux_endpoint.service.pictures import Pictures
from flux_endpoint.service.sources import Sources
from flux_endpoint.service.uploads import Uploads
from flux_endpoint.service.webhooks import Deliverer
from flux_endpoint.service.worker_tokens import WorkerTokens
from flux_endpoint.service.workforce import Workforce
from flux_endpoint.settings import Settings
from flux_endpoint.stores.connect import Stores
from flux_endpoint.wiring.loras import fetched_loras
from flux_endpoint.wiring.token_counters import token_counters


@dataclass(frozen=True, slots=True)
class GatewayServices:
    """What answers requests, and what goes on beside them."""

    routes: Services
    janitor: Janitor
    deliverer: Deliverer
    uploads: Uploads

    @property
    def background(self) -> list[Callable[[], Coroutine[Any, Any, None]]]:
        """What runs for as long as the gateway does."""
        return [self.janitor.run, self.deliverer.run, self.uploads.run, self.routes.images.recheck]


def build_services(
    settings: Settings,
    stores: Stores,
    catalog: Mapping[str, EndpointSpec],
    front: Front,
    sender: Sender,
    node: str,
    worker_token: str,
    *,
    on_leaving: Callable[[str], Awaitable[None]] | None = None,
    on_stuck: Callable[[str, str], Awaitable[None]] | None = None,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> GatewayServices:
    """Make the services; nothing runs yet.

    Args:
        settings: of the gateway.
        stores: opened, and closed by the caller.
        catalog: the endpoints served here, by id.
        front: how clients see the gateway.
        sender: calls the places that clients name.
        node: tells this gateway from the others on its database.
        worker_token: the secret with which the workers of this gateway join.
        on_leaving: see `Workforce`.
        on_stuck: see `Workforce`.
        sleep: waits between two tries of an upload.
    """
    clock, lease_s, retention = stores.clock, settings.lease_s, _retention(settings)
    image_store = open_image_store(settings.resolved_image_store_url)
    images = ImageService(image_store, clock, settings.image_retention_days, settings.image_links == "presigned")
    uploads = Uploads(stores.claims, Buckets(sender, sign_object, sleep), f"{node}-uploads", lease_s)
    pictures = Pictures(stores.claims, stores.pictures, image_store, uploads)
    workforce = Workforce(
        stores.claims, stores.workers, pictures, catalog, clock, lease_s, on_leaving, settings.stop_grace_s, on_stuck
    )
    accounts = Accounts(stores.accounts, clock, settings.rate_rules, stores.rates)
    rules = settings.max_queued, settings.outbound_rules
    sources = _sources(settings, stores, images, sender)
    endpoints = Endpoints(
        stores.jobs, stores.activity, catalog, clock, sources, accounts.ask_for_job, retention, *rules
    )
    billing = Billing(stores.accounts, clock)
    deliverer = Deliverer(stores.webhooks, sender, lambda job: _webhook_body(job, catalog, front), clock, node)
    routes = Services(
        bodies=Bodies(),
        endpoints=endpoints,
        workforce=workforce,
        accounts=accounts,
        images=images,
        job_views=JobViews(stores.jobs, workforce, clock),
        batches=BatchService(stores.batches, clock, retention),
        billing=billing,
        estimates=Estimates(stores.activity, token_counters(settings)),
        activity=ActivityService(stores.activity, stores.webhooks, endpoints, workforce, billing, clock),
        metrics=_metrics(settings, stores, catalog, workforce, pictures, deliverer),
        sources=sources,
        drafts=Drafts(images, workforce),
        worker_tokens=WorkerTokens(stores.workers, clock, worker_token),
    )
    return GatewayServices(routes, _janitor(settings, stores, workforce, images, routes.metrics), deliverer, uploads)


def _janitor(
    settings: Settings, stores: Stores, workforce: Workforce, images: ImageService, metrics: MetricsService
) -> Janitor:
    kept, time = (stores.retention, stores.pictures), (stores.clock, stores.timekeeper)
    days = settings.job_history_days
    return Janitor(*kept, workforce, images, *time, days, on_clock_moved=metrics.clock_moved)


def _sources(settings: Settings, stores: Stores, images: ImageService, sender: Sender) -> Sources:
    loras = fetched_loras(settings, sender, stores.claims)
    return Sources(images, sender, settings.outbound_rules, decode_sent, stores.claims, loras)


def _metrics(
    settings: Settings,
    stores: Stores,
    catalog: Mapping[str, EndpointSpec],
    workforce: Workforce,
    pictures: Pictures,
    deliverer: Deliverer,
) -> MetricsService:
    sources = stores.activity, stores.accounts, workforce, pictures, deliverer
    return MetricsService(*sources, list(catalog), stores.clock, settings.metrics)


def _webhook_body(job: Job, catalog: Mapping[str, EndpointSpec], front: Front) -> dict[str, Any]:
    # A webhook may outlive its endpoint.
    spec = catalog.get(job.endpoint_id) or FLUX_ENDPOINTS.get(job.endpoint_id)
    return webhook_body(spec, job, front.base_url_of(job.origin))


def _retention(settings: Settings) -> Retention:
    def milliseconds(seconds: int) -> int | None:
        return seconds * 1_000 or None

    draft_ms = round(settings.image_retention_days * MS_PER_DAY)
    return Retention(milliseconds(settings.run_retention_s), milliseconds(settings.runsync_retention_s), draft_ms)
