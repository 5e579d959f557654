"""Whose step is next, of the jobs that a worker draws at once (docs/decisions/0032-whose-step-is-next.md).

Pure: it is told what was drawn and how long that took, and has no clock of its own.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from flux_endpoint.core.picture_work import passes_of, step_work

# A picture may lose this much of its own run time to pictures that were taken after it. The promise.
LATENESS_SHARE: Final = 0.3
# What is let past must fit into so much, so that it is not stopped halfway by an estimate that was a little wrong.
_PLANNED_SHARE: Final = 0.25
# So near its end, a worker asks for its next picture, whatever its size.
_LOOKAHEAD_S: Final = 0.1
# Of what is known of a cost, one more measurement changes so much.
_WEIGHT: Final = 0.3
# A picture whose maps fit beside those of another: at least so many times smaller.
_SMALL: Final = 4
# Until anything was measured only ratios count.
_UNSEEN_S_PER_WORK: Final = 1.0


@dataclass(frozen=True, slots=True)
class Shape:
    """What the costs of a picture's steps depend on.

    Attributes:
        passes: forward passes a step, or what takes as long.
        level: speed level asked for, as far as the rest allows it.
    """

    endpoint_id: str
    width: int
    height: int
    passes: float
    level: str

    @classmethod
    def of(cls, endpoint_id: str, fields: Mapping[str, Any]) -> "Shape":
        """The shape of a job's pictures, by its input."""
        # On some devices LoRAs make another level of it, which has costs of its own.
        level = fields.get("acceleration", "none") + (" with LoRAs" if fields.get("loras") else "")
        return cls(endpoint_id, fields["width"], fields["height"], passes_of(fields), level)

    @property
    def work(self) -> float:
        """How much one step is to compute, in the unit of `step_work`."""
        return step_work(self.width, self.height) * self.passes


class SliceCosts:
    """The table of what slices took, in seconds, by shape. What was never seen is computed from the nearest shape."""

    def __init__(self) -> None:
        self._step_s: dict[Shape, float] = {}
        # What the first step and all before it take more than another step: the prompt.
        self._start_s: dict[Shape, float] = {}
        # What comes after the last, slice by slice: the pixels.
        self._end_s: dict[Shape, list[float]] = {}

    def note_start(self, shape: Shape, seconds: float) -> None:
        """From the beginning to the end of the first step."""
        if shape in self._step_s:
            # The least of all: now and then a model is loaded here.
            extra_s = max(0.0, seconds - self._step_s[shape])
            self._start_s[shape] = min(self._start_s.get(shape, extra_s), extra_s)

    def note_step(self, shape: Shape, seconds: float) -> None:
        """A step."""
        self._step_s[shape] = _mixed(self._step_s.get(shape), seconds)

    def note_end(self, shape: Shape, number: int, seconds: float) -> None:
        """A slice after the last step; 0 for the first."""
        known = self._end_s.setdefault(shape, [])
        known[number : number + 1] = [_mixed(known[number] if number < len(known) else None, seconds)]

    def is_seen(self, shape: Shape) -> bool:
        """Whether a step of this shape was measured."""
        return shape in self._step_s

    def step_s(self, shape: Shape) -> float:
        """One step."""
        return self._step_s.get(shape) or shape.work * self._nearest_s_per_work(shape)

    def start_s(self, shape: Shape) -> float:
        """What the beginning takes beside the first step."""
        return self._start_s.get(shape, 0.0)

    def end_s(self, shape: Shape) -> list[float]:
        """The slices after the last step."""
        return self._end_s.get(shape) or [self.step_s(shape) / shape.passes]

    @property
    def slowest_s_per_work(self) -> float | None:
        """Seconds for one unit of `step_work`, of the slowest shape that was seen; None while none was."""
        return max(map(self._s_per_work, self._step_s), default=None)

    def _s_per_work(self, shape: Shape) -> float:
        return self._step_s[shape] / shape.work

    def _nearest_s_per_work(self, shape: Shape) -> float:
        alike = [seen for seen in self._step_s if seen.endpoint_id == shape.endpoint_id] or list(self._step_s)
        if not alike:
            return _UNSEEN_S_PER_WORK
        return self._s_per_work(min(alike, key=lambda seen: max(seen.work, shape.work) / min(seen.work, shape.work)))


@dataclass(slots=True)
class _Picture:
    """One that is drawn, and those of the same job that are drawn after it.

    Attributes:
        further: how many of its job come after it.
        done: steps.
        ended: slices after the last step.
        before_s: spent on those of its job before it.
    """

    number: int
    shape: Shape
    steps: int
    is_low: bool
    further: int = 0
    has_begun: bool = False
    done: int = 0
    ended: int = 0
    spent_s: float = 0.0
    before_s: float = 0.0
    late_s: float = 0.0

    @property
    def is_at_end(self) -> bool:
        """Whether only its pixels are left to be made."""
        return self.done == self.steps

    @property
    def place(self) -> tuple[bool, int]:
        """Where it would be if nobody ever went before another: one of low priority behind all, until it has begun."""
        return self.is_low and not self.has_begun, self.number


@dataclass(frozen=True, slots=True)
class Room:
    """For what there is room in a worker.

    Attributes:
        at_most: the `picture_work` of one more picture; None for any, 0 for none as yet.
        for_s: when the worker will have room for any; None when it has now.
    """

    at_most: int | None = None
    for_s: float | None = None


class Turns:
    """The pictures that a worker draws at once, and whose slice is next.

    Shortest first, and of equal ones the first taken; those of low priority last. But nobody goes before a picture that
    was taken earlier, unless that one can afford it: it loses at most `LATENESS_SHARE` of its own run time so, whatever
    else comes. The first one can always go: nobody starves.

    Args:
        slots: how many pictures may be drawn at once.
    """

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._taken = 0
        self._costs = SliceCosts()
        self._pictures: dict[str, _Picture] = {}

    def __len__(self) -> int:
        """How many pictures there are."""
        return len(self._pictures)

    def __iter__(self) -> Iterator[str]:
        """Their ids, the first taken first."""
        return iter(list(self._pictures))

    def add(self, job_id: str, shape: Shape, steps: int, pictures: int = 1, *, is_low: bool = False) -> None:
        """One more job, taken now: so many pictures alike."""
        self._taken += 1
        self._pictures[job_id] = _Picture(self._taken, shape, steps, is_low, pictures - 1)

    def begin_next(self, job_id: str) -> None:
        """A picture is done, and the next of its job stands in its place."""
        picture = self._pictures[job_id]
        picture.further -= 1
        picture.done = picture.ended = 0
        picture.before_s = picture.spent_s

    def remove(self, job_id: str) -> None:
        """A picture is done, or is to be drawn no further."""
        self._pictures.pop(job_id, None)

    def next(self) -> str:
        """Whose slice is next, of one picture at least."""
        ranked = sorted(
            self._pictures.items(), key=lambda item: (item[1].is_low, self._left_s(item[1]), item[1].number)
        )
        job_id, chosen = next((job_id, picture) for job_id, picture in ranked if self._may_go(picture))
        if chosen.is_at_end and not chosen.ended:
            # While its pixels are made, a picture holds large maps. The memory is meant for those of one.
            return next((name for name, other in ranked if other.ended and not _is_small(chosen, other)), job_id)
        return job_id

    def drawn(self, job_id: str, seconds: float, step: int | None) -> None:
        """A slice of a picture was drawn, and took so long.

        Args:
            job_id: of the picture.
            seconds: of the slice.
            step: done with it, 1 for the first; None for a slice before the first or after the last. A picture that
                is drawn once more, in less memory, begins again with 1.
        """
        picture = self._pictures[job_id]
        for other in self._pictures.values():
            if other.number < picture.number:
                other.late_s += seconds
        picture.has_begun = True
        picture.spent_s += seconds
        if step is not None:
            picture.done, picture.ended = step, 0
            self._note_step(picture, seconds)
        elif picture.is_at_end:
            self._costs.note_end(picture.shape, picture.ended, seconds)
            picture.ended += 1

    def _note_step(self, picture: _Picture, seconds: float) -> None:
        if picture.done > 1 or picture.steps == 1:
            self._costs.note_step(picture.shape, seconds)
        else:
            self._costs.note_start(picture.shape, picture.spent_s - picture.before_s)

    def room(self) -> Room | None:
        """What would be drawn at once, or very soon, if it were taken now; None for nothing."""
        if not self._pictures:
            return Room()
        s_per_work = self._costs.slowest_s_per_work
        if len(self._pictures) >= self._slots or s_per_work is None:
            return None
        lefts_s = [self._left_s(picture) for picture in self._pictures.values()]
        for_s = sum(lefts_s) - _LOOKAHEAD_S
        if for_s <= 0:
            return Room()
        # It goes before the picture that was taken first, and after the others, which have gone before that, too.
        first = next(iter(self._pictures.values()))
        spare_s = min(_PLANNED_SHARE * self._own_s(first) - first.late_s, lefts_s[0]) - sum(lefts_s[1:])
        return Room(max(0, int(spare_s / s_per_work)), for_s)

    def _may_go(self, picture: _Picture) -> bool:
        left_s = self._left_s(picture)
        slice_s = self._slice_s(picture)
        for other in self._before(picture):
            own_s = self._own_s(other)
            if other.late_s + slice_s > LATENESS_SHARE * own_s:
                return False
            if not picture.has_begun and other.late_s + left_s + self._let_past_s(other) > _PLANNED_SHARE * own_s:
                return False
        return True

    def _before(self, picture: _Picture) -> Iterator[_Picture]:
        return (other for other in self._pictures.values() if other.place < picture.place)

    def _let_past_s(self, picture: _Picture) -> float:
        """What is left of those that were taken later and have begun all the same."""
        others = self._pictures.values()
        return sum(self._left_s(other) for other in others if other.has_begun and other.place > picture.place)

    def _slice_s(self, picture: _Picture) -> float:
        """Its next slice."""
        if picture.is_at_end:
            return sum(self._costs.end_s(picture.shape)[picture.ended :][:1])
        return self._start_s(picture) + self._costs.step_s(picture.shape)

    def _left_s(self, picture: _Picture) -> float:
        """All its slices that are left."""
        step_s, end_s = self._costs.step_s(picture.shape), self._costs.end_s(picture.shape)
        this_s = self._start_s(picture) + (picture.steps - picture.done) * step_s + sum(end_s[picture.ended :])
        return this_s + picture.further * (picture.steps * step_s + sum(end_s))

    def _start_s(self, picture: _Picture) -> float:
        return 0.0 if picture.has_begun else self._costs.start_s(picture.shape)

    def _own_s(self, picture: _Picture) -> float:
        """Its run time as far as that is known: no guess may make others late."""
        if not self._costs.is_seen(picture.shape):
            return picture.spent_s
        steps = picture.steps * (1 + picture.further) - picture.done
        return picture.spent_s + steps * self._costs.step_s(picture.shape)


def _is_small(picture: _Picture, beside: _Picture) -> bool:
    return picture.shape.width * picture.shape.height * _SMALL <= beside.shape.width * beside.shape.height


def _mixed(known_s: float | None, seconds: float) -> float:
    return seconds if known_s is None else known_s + _WEIGHT * (seconds - known_s)
