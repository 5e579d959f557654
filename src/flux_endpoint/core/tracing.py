"""What the house tells a collector of traces, without knowing any: who begins a span, and what a span carries on."""

from collections.abc import Mapping
from typing import Protocol


class Span(Protocol):
    """Something that takes its time, as part of a trace."""

    @property
    def traceparent(self) -> str:
        """The span's name for others, as W3C's Trace Context writes it."""
        ...

    def end(self, attributes: Mapping[str, str | int] | None = None, problem: str = "") -> None:
        """Tell that what the span is about is over.

        Args:
            attributes: what is known by now.
            problem: why it failed, in words that say nothing of what was asked for; empty when it did not.
        """
        ...


class Tracer(Protocol):
    """Sends spans to a collector, later and in a thread of its own: nobody waits for it."""

    def begin(
        self, name: str, parent: str | None, attributes: Mapping[str, str | int], *, is_request: bool = False
    ) -> Span:
        """A span that begins now.

        Args:
            name: of few kinds.
            parent: `traceparent` of another one; None, or one that cannot be read, for a new trace.
            attributes: of any value, but no prompt and no key.
            is_request: it answers somebody over the network.
        """
        ...

    def record(
        self, name: str, parent: str, start_ns: int, end_ns: int, attributes: Mapping[str, str | int] | None = None
    ) -> None:
        """A span that is over; see `begin`. Times are nanoseconds since 1970."""
        ...

    def close(self) -> None:
        """Send what is left, for two seconds at most."""
        ...
