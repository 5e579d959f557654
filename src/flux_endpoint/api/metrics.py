"""`GET /metrics`: the figures of `service/metrics.py` as Prometheus reads them."""

from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import Response

from flux_endpoint import __version__
from flux_endpoint.api.admission import KeyHolders
from flux_endpoint.api.operations import Call, Route
from flux_endpoint.api.schemas import ERRORS, JsonObject
from flux_endpoint.core.account import Operation
from flux_endpoint.core.activity import DURATION_BOUNDS_MS
from flux_endpoint.core.errors import Forbidden
from flux_endpoint.service.metrics import Histogram, Metrics

if TYPE_CHECKING:
    from prometheus_client.core import Metric

_BOUNDS: Final = (*(f"{bound_ms / 1_000:g}" for bound_ms in DURATION_BOUNDS_MS), "+Inf")
_ENDPOINT: Final = ("endpoint",)
_KEYS: Final = KeyHolders(Operation.USAGE, has_endpoint=False)
_ANSWERS: Final[dict[int | str, JsonObject]] = ERRORS | {
    200: {"description": "The figures.", "content": {"text/plain": {"schema": {"type": "string"}}}},
}


class MetricsReaders:
    """Whoever has a key for all endpoints; everybody, where the setting METRICS says so. Implements `Access`."""

    needs_key = True

    async def admit(self, call: Call, path: list[str]) -> list[Any]:
        """See `Access.admit`: the handler gets nothing."""
        if not call.services.metrics.is_open:
            (key,) = await _KEYS.admit(call, path)
            if key.sees_only is not None:
                raise Forbidden("the metrics are of all endpoints, and this key is for some; use one for all")
        return path


async def metrics(call: Call) -> Response:
    """Figures of the server in Prometheus' text format.

    Queues, ended jobs, times and spend are read from the database and are the same at all gateways that share it: take
    one of them, or the maximum, and not the sum. What the help calls "this gateway's" is its own.
    """
    # Here and not above: few ask, and it takes a twentieth of a second to import.
    from prometheus_client import CollectorRegistry
    from prometheus_client.exposition import choose_encoder

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Figures(await call.services.metrics.read()))
    encode, media_type = choose_encoder(call.headers.get("accept", ""))
    return Response(encode(registry), media_type=None, headers={"content-type": media_type})


class _Figures:
    """Implements Prometheus' collector."""

    def __init__(self, figures: Metrics) -> None:
        self._figures = figures

    def collect(self) -> "Iterator[Metric]":
        """All families of metrics."""
        from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily

        yield InfoMetricFamily("flux_endpoint_build", "This gateway's version.", {"version": __version__})
        yield from self._jobs()
        yield from self._workers()
        yield from self._counters()
        workers = GaugeMetricFamily("flux_endpoint_workers", "Workers by state, at all gateways.", labels=["state"])
        for state, number in self._figures.worker_counts.items():
            workers.add_metric([state], number)
        yield workers

    def _jobs(self) -> "Iterator[Metric]":
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        figures = self._figures
        queue = GaugeMetricFamily("flux_endpoint_jobs", "Unfinished jobs.", labels=["endpoint", "status"])
        age = GaugeMetricFamily(
            "flux_endpoint_queue_oldest_age_seconds", "For how long the oldest waiting job waits.", labels=_ENDPOINT
        )
        pressing = GaugeMetricFamily(
            "flux_endpoint_pressing_jobs", "Unfinished jobs without waiting ones of low priority.", labels=_ENDPOINT
        )
        for one in figures.queues:
            pressing.add_metric([one.endpoint_id], one.pressing + one.running)
            queue.add_metric([one.endpoint_id, "IN_QUEUE"], one.waiting)
            queue.add_metric([one.endpoint_id, "IN_PROGRESS"], one.running)
            age_ms = 0 if one.oldest_ms is None else max(0, figures.now_ms - one.oldest_ms)
            age.add_metric([one.endpoint_id], age_ms / 1_000)
        ended = CounterMetricFamily(
            "flux_endpoint_jobs_ended", "Jobs that ended since the start.", labels=["endpoint", "status"]
        )
        for (endpoint_id, status), jobs in sorted(figures.ended.items()):
            ended.add_metric([endpoint_id, status.value], jobs)
        retries = CounterMetricFamily(
            "flux_endpoint_job_retries", "How often lost workers sent these back to the queue.", labels=_ENDPOINT
        )
        for endpoint_id, number in figures.retried.items():
            retries.add_metric([endpoint_id], number)
        spend = CounterMetricFamily(
            "flux_endpoint_spend_dollars", "What keys were charged since this was first asked for.", labels=_ENDPOINT
        )
        for endpoint_id, spent_usd in figures.spent_usd.items():
            spend.add_metric([endpoint_id], float(spent_usd))
        yield from (queue, pressing, age, ended, retries, spend)
        yield _histogram("delay", "How long completed jobs waited.", figures.delays.items())
        yield _histogram("execution", "How long their last attempts took.", figures.executions.items())

    def _workers(self) -> "Iterator[Metric]":
        from prometheus_client.core import CounterMetricFamily

        steps = CounterMetricFamily(
            "flux_endpoint_worker_steps", "Steps of pictures handed in to this gateway.", labels=["worker"]
        )
        for worker in self._figures.workers:
            if worker.steps:
                steps.add_metric([worker.id], worker.steps)
        yield steps

    def _counters(self) -> "Iterator[Metric]":
        from prometheus_client.core import CounterMetricFamily

        figures = self._figures
        lost = CounterMetricFamily(
            "flux_endpoint_lost_leases", "Jobs that lost worker or lease, as this gateway found.", labels=["outcome"]
        )
        for outcome, jobs in figures.lost_jobs.items():
            lost.add_metric([outcome], jobs)
        webhooks = CounterMetricFamily(
            "flux_endpoint_webhook_attempts",
            "This gateway's attempts to deliver a webhook; one that is waiting will be tried again.",
            labels=["outcome"],
        )
        for state, attempts in figures.webhooks.items():
            webhooks.add_metric([state.value], attempts)
        taken = CounterMetricFamily("flux_endpoint_picture_bytes", "Of files handed in to this gateway.")
        taken.add_metric([], figures.picture_bytes)
        yield from (lost, webhooks, taken)


def _histogram(name: str, help_text: str, times: Iterable[tuple[str, Histogram]]) -> "Metric":
    from prometheus_client.core import HistogramMetricFamily

    family = HistogramMetricFamily(f"flux_endpoint_{name}_seconds", help_text, labels=_ENDPOINT)
    for endpoint_id, histogram in times:
        pieces = list(zip(_BOUNDS, accumulate(histogram.counts), strict=True))
        family.add_metric([endpoint_id], buckets=pieces, sum_value=histogram.total_ms / 1_000)
    return family


ROUTES: Final = (
    Route(
        name="metrics_metrics",
        methods="GET",
        path="/metrics",
        access=MetricsReaders(),
        handler=metrics,
        summary="Figures for Prometheus",
        tag="operation",
        answers=_ANSWERS,
    ),
)
