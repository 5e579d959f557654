"""What the soak's clients asked, how long they waited, what they were promised, and what was done to the house."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

COMPLETED: Final = frozenset({"COMPLETED"})
TERMINAL: Final = frozenset({"COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"})
# A well-behaved client's own patience with one answer; far beyond what is allowed.
PATIENCE_S: Final = 60.0
# How late the soak's own event loop may be before it is noted; the machine is shared.
_LATE_S: Final = 0.05


@dataclass(frozen=True)
class Wait:
    """One answer. Seconds since the start of the soak, and how long it took beyond the work that was asked for."""

    at_s: float
    client: str
    operation: str
    waited_s: float
    code: int


@dataclass(frozen=True)
class Promise:
    """A job that was accepted.

    Attributes:
        ends: the states it may end in, given what is done to it.
        reason: what `error` must begin with when it does not end COMPLETED; empty for anything that fits a loss.
    """

    at_s: float
    client: str
    job_id: str
    endpoint: str
    ends: frozenset[str] = COMPLETED
    reason: str = ""


@dataclass(frozen=True)
class Trouble:
    """Something that was done to the house, from when to when."""

    at_s: float
    until_s: float
    kind: str
    detail: str


@dataclass
class Journal:
    """Everything that the audit and the report are made from."""

    started: float = field(default_factory=time.monotonic)
    waits: list[Wait] = field(default_factory=list)
    promises: dict[str, Promise] = field(default_factory=dict)
    troubles: list[Trouble] = field(default_factory=list)
    # What a well-behaved client did not expect, in words.
    surprises: list[str] = field(default_factory=list)
    # (second, process, bytes)
    memory: list[tuple[float, str, int]] = field(default_factory=list)
    # (second, how late the soak itself was)
    lateness: list[tuple[float, float]] = field(default_factory=list)

    def now_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    def promise(self, client: str, job_id: str, endpoint: str, **expected: Any) -> None:
        """Note an accepted job."""
        self.promises[job_id] = Promise(self.now_s(), client, job_id, endpoint, **expected)

    def waited(self, client: str, operation: str, began_s: float, waited_s: float, code: int) -> None:
        """Note an answer; what the soak's own loop was late meanwhile is not the gateway's."""
        late_s = sum(late for at_s, late in reversed(self.lateness[-200:]) if at_s >= began_s)
        self.waits.append(Wait(began_s, client, operation, max(0.0, waited_s - late_s), code))

    def surprise(self, client: str, what: str) -> None:
        """Note what should not have happened to a client that does everything right."""
        self.surprises.append(f"{self.now_s():.1f} s, {client}: {what[:500]}")

    @contextmanager
    def trouble(self, kind: str, detail: str = "") -> Iterator[None]:
        """Note what is done to the house for as long as the block lasts."""
        began_s = self.now_s()
        print(f"[{began_s:7.1f}] {kind} {detail}", flush=True)
        try:
            yield
        finally:
            self.troubles.append(Trouble(began_s, self.now_s(), kind, detail))

    async def watch_the_loop(self) -> None:
        """Note how late the soak itself is, until cancelled."""
        while True:
            before = time.monotonic()
            await asyncio.sleep(_LATE_S)
            late_s = time.monotonic() - before - _LATE_S
            if late_s > _LATE_S:
                self.lateness.append((self.now_s(), late_s))


class Caller:
    """One client's way to one gateway, with a watch in its hand.

    Args:
        journal: where waits are noted.
        client: the kind of client.
        url: of a gateway.
        key: an API key.
    """

    def __init__(self, journal: Journal, client: str, url: str, key: str) -> None:
        self.journal, self.client, self.url, self.key = journal, client, url, key
        self._http = httpx.AsyncClient(
            base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=PATIENCE_S, trust_env=False
        )

    async def close(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def ask(
        self,
        operation: str,
        method: str,
        path: str,
        *,
        body: Any = None,
        codes: tuple[int, ...] = (200,),
        work_s: Callable[[Any], float] | None = None,
    ) -> Any:
        """Ask once and note the wait.

        Args:
            operation: under which it is noted.
            method: of HTTP.
            path: after the gateway's URL.
            body: sent as JSON.
            codes: those that a client that does everything right expects; any other is a surprise.
            work_s: how much of the wait was asked for, from the answer; None when nothing was.

        Returns:
            The JSON of the answer, or its bytes when it is none; None after a surprise.
        """
        began_s, began = self.journal.now_s(), time.monotonic()
        try:
            reply = await self._http.request(method, path, json=body)
        except httpx.HTTPError as error:
            waited_s = time.monotonic() - began
            self.journal.waited(self.client, operation, began_s, waited_s, 0)
            self.journal.surprise(self.client, f"{operation}: {type(error).__name__} after {waited_s:.1f} s: {error}")
            return None
        waited_s = time.monotonic() - began
        is_json = reply.headers.get("content-type", "").startswith("application/json")
        answer = reply.json() if is_json else reply.content
        wanted_s = work_s(answer) if work_s and reply.status_code == 200 else 0.0
        self.journal.waited(self.client, operation, began_s, waited_s - wanted_s, reply.status_code)
        if reply.status_code not in codes:
            self.journal.surprise(self.client, f"{operation}: HTTP {reply.status_code}: {answer!r}")
            return None
        return answer

    async def events(self, endpoint: str, job_id: str) -> None:
        """Follow a job as the playground does, to its end. The first event is an answer, the rest is work."""
        began_s, began = self.journal.now_s(), time.monotonic()
        is_first = True
        try:
            async with self._http.stream("GET", f"/v2/{endpoint}/events/{job_id}") as reply:
                async for _ in reply.aiter_lines():
                    if is_first:
                        waited_s = time.monotonic() - began
                        self.journal.waited(self.client, "events", began_s, waited_s, reply.status_code)
                    is_first = False
        except httpx.HTTPError as error:
            self.journal.surprise(self.client, f"events: {type(error).__name__}: {error}")
