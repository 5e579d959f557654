"""ControlNets: which maps one reads that is loaded beside a model, and how the settings name it."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePath
from typing import Final

_KIND: Final = " kind="


class ControlNetKind(StrEnum):
    """How many kinds of maps a ControlNet reads."""

    SINGLE = "single"  # one, which is not told
    UNION = "union"  # several, and it must be told which


class ControlMode(StrEnum):
    """The kinds of maps that a union reads, in the order in which its checkpoints count them from 0.

    Source: the model card of InstantX/FLUX.1-dev-Controlnet-Union, whose order others keep.
    """

    CANNY = "canny"
    TILE = "tile"
    DEPTH = "depth"
    BLUR = "blur"
    POSE = "pose"
    GRAY = "gray"
    LOW_QUALITY = "low-quality"

    @property
    def number(self) -> int:
        """Its number in the checkpoints, from 0."""
        return list(ControlMode).index(self)


@dataclass(frozen=True, slots=True)
class NamedControlNet:
    """A ControlNet as the settings name it.

    Attributes:
        place: a hub id or a folder.
        kind: as they say; whether it is, its files tell.
    """

    place: str
    kind: ControlNetKind = ControlNetKind.SINGLE

    @property
    def name(self) -> str:
        """Short, as written into pictures: a hub id, or a folder without those that it lies in."""
        return PurePath(self.place).name if self.place.count("/") != 1 or self.place[0] in "./~" else self.place

    @classmethod
    def parse(cls, text: str) -> "NamedControlNet":
        """Read `PLACE`, or `PLACE kind=union`.

        Raises:
            ValueError: the kind is none.
        """
        place, has_kind, kind = text.rpartition(_KIND)
        if not has_kind:
            return cls(text)
        if kind not in list(ControlNetKind):
            raise ValueError(f"kind= is one of {', '.join(ControlNetKind)}")
        return cls(place.strip(), ControlNetKind(kind))
