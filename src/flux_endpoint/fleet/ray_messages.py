"""What the gateway and the Ray driver say to each other: one JSON object a line."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class DriverSettings:
    """What the driver needs to know before the first request.

    Attributes:
        address: of the cluster: HOST:PORT of its head when this machine is one of its nodes, ray://HOST:PORT from
            elsewhere; None for a cluster of its own on this machine.
        namespace: of the actors.
        gateway_url: where workers take their jobs.
        device: as the setting says; None for GPUs where the cluster has any.
        environment: of the workers, secrets included.
    """

    address: str | None
    namespace: str
    gateway_url: str
    device: str | None
    environment: dict[str, str] = dataclasses.field(repr=False)

    def to_json(self) -> str:
        """One line."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, line: str) -> Self:
        """The opposite of `to_json`."""
        return cls(**json.loads(line))


@dataclass(frozen=True, slots=True)
class FleetRequest:
    """What the gateway wants to be true.

    Attributes:
        count: how many workers; None for as many as there are.
        busy: ids of workers that have jobs: when some must go, those that have none go first.
        restart: ids of workers that are to be asked to leave, and followed by others.
        replace: ids of workers that hang or whose device fails: ended, and followed by others, perhaps elsewhere.
    """

    count: int | None = None
    busy: frozenset[str] = frozenset()
    restart: frozenset[str] = frozenset()
    replace: frozenset[str] = frozenset()

    def to_json(self) -> str:
        """One line."""
        return json.dumps(dataclasses.asdict(self), default=sorted)

    @classmethod
    def from_json(cls, line: str) -> Self:
        """The opposite of `to_json`."""
        given: dict[str, Any] = json.loads(line)
        sets = {name: frozenset(value) for name, value in given.items() if isinstance(value, list)}
        return cls(**(given | sets))


@dataclass(frozen=True, slots=True)
class PlacedWorker:
    """One actor, as the driver saw it last.

    Attributes:
        host: drawn when its host came to life: after Ray has restarted it, another one.
        worker_id: of the worker that runs or is about to.
        pid: of its process, on whichever machine; None while it waits to be restarted.
        restarts: how often this host has started another worker.
        last_end: how the worker before it died; empty when none did.
        refusal: the exit code of a worker that said it can never run; None when it did not.
    """

    host: str
    worker_id: str
    pid: int | None
    restarts: int
    last_end: str
    refusal: int | None


@dataclass(frozen=True, slots=True)
class FleetReport:
    """What a request came to.

    Attributes:
        placed: by the actor's name; None for one that Ray has not placed yet, or cannot reach.
        left: ids of workers that were asked to leave for good, and have ended.
        lost: ids of workers that were ended because they were of no use.
        trouble: why nothing could be done, in words; empty when it could.
    """

    placed: Mapping[str, PlacedWorker | None]
    left: Sequence[str] = ()
    lost: Sequence[str] = ()
    trouble: str = ""

    def to_json(self) -> str:
        """One line."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, line: str) -> Self:
        """The opposite of `to_json`."""
        given: dict[str, Any] = json.loads(line)
        placed = {name: PlacedWorker(**one) if one else None for name, one in given["placed"].items()}
        return cls(placed, tuple(given["left"]), tuple(given["lost"]), given["trouble"])
