"""What a job would cost and how long it would take, told from what this server did lately."""

import asyncio
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from flux_endpoint.core.acceleration import Acceleration
from flux_endpoint.core.activity import EndpointLoad, PastRun
from flux_endpoint.core.picture_work import size_and_level
from flux_endpoint.core.prompt_tokens import CountTokens, PromptTokens
from flux_endpoint.core.raw_json import RawJson
from flux_endpoint.stores.activity.protocol import ActivityStore

# Enough to find some of nearly any size, few enough to follow a change of hardware within minutes.
_PAST_RUNS: Final = 100
# Of these, so many nearest in size decide: small pictures spend a larger part of their time outside the steps.
_NEAREST: Final = 10


@dataclass(frozen=True, slots=True)
class Estimate:
    """What to expect of a job submitted now.

    Attributes:
        execution_ms: on a worker; None while no job of the endpoint was completed yet.
        queue_ms: before that; None when it cannot be told: no worker is there, or jobs wait and none was completed yet.
        jobs_ahead: waiting or running on the endpoint.
    """

    execution_ms: int | None
    queue_ms: int | None
    jobs_ahead: int


class Estimates:
    """Estimates; queues and charges nothing."""

    def __init__(self, store: ActivityStore, counters: Mapping[str, CountTokens]) -> None:
        """Make the service.

        Args:
            store: what was done lately.
            counters: what counts the tokens of prompts, by the id of the endpoint; none for endpoints without a text
                encoder, and none at all where the gateway has no tokenizers.
        """
        self._store = store
        self._counters = counters

    async def tokens(self, endpoint_id: str, fields: Mapping[str, Any] | RawJson) -> PromptTokens | None:
        """How many tokens the prompt of a job is; None where nothing here can count them.

        Args:
            endpoint_id: where it would be queued.
            fields: its input.
        """
        count = self._counters.get(endpoint_id)
        if count is None or isinstance(fields, RawJson):
            return None
        # In a thread: the first call reads a vocabulary.
        return await asyncio.to_thread(count, fields.get("prompt", ""))

    async def estimate(self, endpoint_id: str, fields: Mapping[str, Any] | RawJson, workers: int) -> Estimate:
        """What to expect of a job.

        Args:
            endpoint_id: where it would be queued.
            fields: its input.
            workers: how many serve the endpoint.
        """
        runs = await self._store.past_runs(endpoint_id, _PAST_RUNS)
        load = await self._store.load(endpoint_id)
        return Estimate(
            execution_ms=expected_ms(runs, *size_and_level(fields)),
            queue_ms=_queue_ms(runs, load, workers),
            jobs_ahead=load.waiting + load.running,
        )


def expected_ms(runs: Sequence[PastRun], size: float, level: str = Acceleration.NONE) -> int | None:
    """Milliseconds that a job of this size takes, by the median pace of the runs most like it; None without any run.

    Args:
        runs: of the endpoint.
        size: in megapixel steps.
        level: of speed. Only where none was drawn at it do runs at other levels count.
    """
    if not runs:
        return None
    alike = [run for run in runs if run.level == level] or runs
    nearest = sorted(alike, key=lambda run: abs(math.log(run.megapixel_steps / size)))[:_NEAREST]
    return round(statistics.median(run.execution_ms / run.megapixel_steps for run in nearest) * size)


def _queue_ms(runs: Sequence[PastRun], load: EndpointLoad, workers: int) -> int | None:
    if workers == 0:
        return None
    if load.waiting + load.running < workers:
        return 0
    if not runs:
        return None
    # A running job has on average half of its time before it.
    typical_ms = statistics.median(run.execution_ms for run in runs)
    return round((load.waiting + load.running / 2) * typical_ms / workers)
