"""How a model is kept in memory: pure arithmetic on sizes, before anything is read (docs/decisions/0031-memory.md)."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from flux_endpoint.core.errors import CheckpointError

AUTO: Final = "auto"
# Names of components, as plain text: a gateway, which has no engine, reads this file.
_TRANSFORMER: Final = frozenset({"transformer"})
_TEXT: Final = frozenset({"text_encoder", "text_encoder_2"})
_ITEM_BYTES: Final = {"float32": 4, "bfloat16": 2}


class MemoryMode(StrEnum):
    """From fast to thrifty."""

    FULL = "full"
    OFFLOAD = "offload"
    LOW = "low"


@dataclass(frozen=True, slots=True)
class ComponentSize:
    """What a component takes on the device, in bytes.

    Attributes:
        plain: as plain numbers.
        stored: with its large weights as the files have them; mapped files take none.
        streamed: while it comes to the device block by block.
    """

    plain: int
    stored: int
    streamed: int


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the weights are.

    Attributes:
        dtype: that pictures are computed in: `float32`, `bfloat16`.
        stored: components whose large weights stay as the files have them, made plain layer by layer when used.
        streamed: components that stay in the machine's memory and come to the device block by block.
    """

    mode: MemoryMode
    dtype: str
    stored: frozenset[str] = frozenset()
    streamed: frozenset[str] = frozenset()


# From fast to thrifty, too. Of one device, all with the same dtype draw the same bytes.
_ON_CUDA: Final = (
    Placement(MemoryMode.FULL, "bfloat16"),
    Placement(MemoryMode.OFFLOAD, "bfloat16", streamed=_TEXT),
    Placement(MemoryMode.OFFLOAD, "bfloat16", stored=_TRANSFORMER, streamed=_TEXT),
    Placement(MemoryMode.LOW, "bfloat16", stored=_TRANSFORMER, streamed=_TEXT | _TRANSFORMER),
)
_ON_CPU: Final = (
    Placement(MemoryMode.FULL, "float32"),
    Placement(MemoryMode.OFFLOAD, "float32", stored=_TEXT),
    Placement(MemoryMode.LOW, "bfloat16", stored=_TEXT | _TRANSFORMER),
)


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """How a model is kept, and why.

    Attributes:
        peak_bytes: the most that is taken of the device while it draws 1024x1024 pixels; mapped files not counted.
        reason: in words, without the name of the mode.
    """

    placement: Placement
    peak_bytes: int
    reason: str

    def __str__(self) -> str:
        return f"{self.placement.mode} ({self.reason})"


@dataclass(frozen=True, slots=True)
class Needs:
    """What a model needs on one device, by the dtype it is computed in.

    Attributes:
        sizes: of its components.
        numbers_at_work: how many are alive at once while a picture of 1024x1024 pixels is decoded, which is the peak.
    """

    sizes: Mapping[str, Mapping[str, ComponentSize]]
    numbers_at_work: int

    def peak_bytes(self, placement: Placement) -> int:
        """The most that is taken of the device."""
        taken = dict.fromkeys(("kept", "text"), 0)
        for name, size in self.sizes[placement.dtype].items():
            passes_by = name in placement.streamed & _TEXT
            taken["text" if passes_by else "kept"] += _on_device(placement, name, size)
        # Text encoders that come and go have gone before the picture is decoded.
        return taken["kept"] + max(taken["text"], self.numbers_at_work * _ITEM_BYTES[placement.dtype])


def placements_on(device_kind: str) -> tuple[Placement, ...]:
    """All there are on `cpu` or `cuda`, from fast to thrifty."""
    return _ON_CUDA if device_kind == "cuda" else _ON_CPU


def choose_placement(wanted: str, needs: Needs, device_kind: str, free_bytes: int) -> MemoryPlan:
    """The fastest way to keep a model that fits.

    Args:
        wanted: a mode, or `auto` for whichever fits.
        needs: of the model.
        device_kind: `cpu` or `cuda`.
        free_bytes: on that device.

    Raises:
        CheckpointError: none fits.
    """
    allowed = [placement for placement in placements_on(device_kind) if wanted in (AUTO, placement.mode)]
    too_large: Placement | None = None
    for placement in allowed:
        peak = needs.peak_bytes(placement)
        if peak <= free_bytes:
            return MemoryPlan(placement, peak, _reason(wanted, peak, free_bytes, too_large, needs))
        if too_large is None or needs.peak_bytes(too_large) > peak:
            too_large = placement
    assert too_large is not None
    memory = "memory on cuda" if device_kind == "cuda" else "memory"
    least = needs.peak_bytes(too_large)
    text = f"it needs {gib(least)} of {memory} and {gib(free_bytes)} are available"
    if wanted != AUTO:
        text += f" (MEMORY={wanted}{_advice(needs, device_kind, free_bytes)})"
    raise CheckpointError(text)


def thriftier(plan: MemoryPlan, needs: Needs, device_kind: str) -> MemoryPlan | None:
    """The next way to keep a model that draws the same bytes and takes less; None when there is none."""
    placements = placements_on(device_kind)
    for placement in placements[placements.index(plan.placement) + 1 :]:
        peak = needs.peak_bytes(placement)
        if placement.dtype == plan.placement.dtype and peak < plan.peak_bytes:
            return MemoryPlan(placement, peak, f"the device ran out of memory in {plan.placement.mode} mode")
    return None


def gib(count: int) -> str:
    """Bytes for people."""
    return f"{count / 2**30:.1f} GiB"


def _on_device(placement: Placement, component: str, size: ComponentSize) -> int:
    if component in placement.streamed:
        return size.streamed
    return size.stored if component in placement.stored else size.plain


def _reason(wanted: str, peak: int, free: int, too_large: Placement | None, needs: Needs) -> str:
    fits = f"{gib(peak)} of the {gib(free)} that are free"
    if wanted != AUTO:
        return f"as MEMORY says; it takes {fits}"
    if too_large is None:
        return f"it takes {fits}"
    return f"it takes {fits}; {too_large.mode} would need {gib(needs.peak_bytes(too_large))}"


def _advice(needs: Needs, device_kind: str, free_bytes: int) -> str:
    fitting = [each.mode for each in placements_on(device_kind) if needs.peak_bytes(each) <= free_bytes]
    return f"; {fitting[0]} would fit" if fitting else ""
