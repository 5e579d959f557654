"""How much may be asked unless settings say otherwise: how often by one key, and how much may wait."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from flux_endpoint.core.account import Operation

# Waiting jobs of one endpoint. On Runpod 20 workers may have so many before them; counting them takes a millisecond.
MAX_QUEUED: Final = 10_000


@dataclass(frozen=True, slots=True)
class RateRule:
    """Limits of one operation on one endpoint for one key; None for no limit.

    Attributes:
        per_window: requests admitted in any 10 seconds.
        concurrent: requests admitted and not yet answered.
    """

    per_window: int | None = None
    concurrent: int | None = None


# Runpod's numbers; what it does not name has those of its nearest relative.
DEFAULT_RULES: Final[Mapping[Operation, RateRule]] = {
    Operation.RUNSYNC: RateRule(2_000, 400),
    Operation.RUN: RateRule(1_000, 200),
    Operation.RETRY: RateRule(1_000, 200),
    Operation.STATUS: RateRule(2_000, 400),
    Operation.HEALTH: RateRule(2_000, 400),
    Operation.CANCEL: RateRule(100, 20),
    Operation.ESTIMATE: RateRule(1_000, 200),
    Operation.BILLING: RateRule(100, 20),
    Operation.USAGE: RateRule(100, 20),
    Operation.PURGE_QUEUE: RateRule(2, None),
    Operation.GPU_RELEASE: RateRule(2, None),
    Operation.REQUESTS: RateRule(10, 2),
    Operation.BATCH: RateRule(1_000, 200),
}


def parse_rules(text: str) -> Mapping[Operation, RateRule]:
    """Read the setting RATE_LIMITS: `on`, `off`, or changes such as `run=5000/800,cancel=off`.

    A change gives requests per 10 seconds and, after a slash, requests at once; operations not named keep theirs.

    Raises:
        ValueError: an operation is unknown, or a number is not one above 0.
    """
    if text in ("on", "off"):
        return DEFAULT_RULES if text == "on" else {}
    return {**DEFAULT_RULES, **dict(map(_parse_rule, text.split(",")))}


def _parse_rule(text: str) -> tuple[Operation, RateRule]:
    name, _, limits = text.partition("=")
    operation = Operation(name.strip())
    if limits.strip() == "off":
        return operation, RateRule()
    numbers = [int(number) for number in limits.split("/")]
    if len(numbers) > 2 or min(numbers) < 1:
        raise ValueError(f"'{limits}' is neither PER_10_S nor PER_10_S/AT_ONCE")
    return operation, RateRule(*numbers)
