"""Compare what captions name with what the checker sees."""

from collections.abc import Iterator, Sequence

import numpy as np

from training.checker.checker import Verdict
from training.checker.rules import FoundShape, place_of
from training.world.captions import Caption, write_caption
from training.world.scenes import COUNTS, Scene, sample_scene

EVALUATION_SEEDS = 800_000_000
SHAPE_EVERY = 5  # Every fifth held-out caption asks for plain shapes.
FEWEST_NAMED = 4  # Captions that say less than this, "kind" included, test little.

# Column of the score table: what it counts.
METRICS = {
    "time": "time of day as named",
    "ground": "ground as named",
    "background": "background as named",
    "season": "season as named",
    "style": "style as named, or photo where none is",
    "asked": "thing that was asked for is there",
    "unasked": "no thing where the caption of an empty scene names none",
    "colour": "colour of things and shapes as named",
    "place": "place of things and shapes as named",
    "count": "number of things and shapes as named",
    "shape": "kinds of plain shapes as named",
    "horizon": "one horizon, not several",
}
SEEN_BY_NETWORK = {
    "time": "time", "ground": "ground", "background": "background", "season": "season", "asked": "thing",
    "colour": "thing_colour", "place": "thing_place", "count": "thing_count",
}  # fmt: skip
Scores = dict[str, tuple[int, int]]  # Per metric: hits, and captions that it applies to.


def held_out_captions(count: int, first_seed: int = EVALUATION_SEEDS) -> list[tuple[Scene, Caption]]:
    """The first `count` captions of unseen scenes that name at least three attributes; a fifth are plain shapes."""
    rng = np.random.default_rng(first_seed)
    found: list[tuple[Scene, Caption]] = []
    seed = first_seed
    while len(found) < count:
        scene = sample_scene(seed)
        seed += 1
        if (scene.kind == "shape") != (len(found) % SHAPE_EVERY == SHAPE_EVERY - 1):
            continue
        caption = write_caption(scene, rng)
        if len(caption.named) >= FEWEST_NAMED:
            found.append((scene, caption))
    return found


def _judge_scene(scene: Scene, named: dict[str, int], verdict: Verdict) -> Iterator[tuple[str, bool]]:
    """Metric and hit for a landscape or still life."""
    for metric, attribute in SEEN_BY_NETWORK.items():
        if attribute in named:
            yield metric, verdict.seen[attribute] == getattr(scene, attribute)
    if "thing" not in named and scene.thing == "none":
        yield "unasked", verdict.seen["thing"] == "none"
    yield "style", verdict.seen["style"] == (scene.style if "style" in named else "photo")
    if scene.kind == "scene":
        yield "horizon", verdict.has_one_horizon


def _is_related(scene: Scene, shapes: Sequence[FoundShape]) -> bool:
    """Whether the first shapes lie where they should, seen from the other one; colours tell them apart."""
    first = [s for s in shapes if s.colour == scene.shape_colour]
    other = [s for s in shapes if s.colour == scene.other_colour]
    if not first or not other:
        return False
    axis = "x" if scene.relation in ("left", "right") else "y"
    before = np.mean([getattr(s, axis) for s in first]) < np.mean([getattr(s, axis) for s in other])
    return bool(before == (scene.relation in ("left", "above")))


def _judge_shapes(scene: Scene, named: dict[str, int], verdict: Verdict) -> Iterator[tuple[str, bool]]:
    """Metric and hit for plain shapes."""
    shapes, with_other = verdict.shapes, scene.relation != "none"
    kinds = {scene.shape} | ({scene.other_shape} if with_other else set())
    yield "shape", {s.shape for s in shapes} == kinds
    yield "count", len(shapes) == 1 + COUNTS.index(scene.shape_count) + with_other
    if "shape_colour" in named:
        colours = {scene.shape_colour} | ({scene.other_colour} if with_other else set())
        yield "colour", {s.colour for s in shapes} == colours
    if with_other:
        yield "place", _is_related(scene, shapes)
    elif "shape_place" in named:
        yield "place", bool(shapes) and place_of(shapes[0]) == scene.shape_place


def score(asked: Sequence[tuple[Scene, Caption]], verdicts: Sequence[Verdict]) -> Scores:
    """Hits and counts per metric; attributes that a caption leaves out do not count."""
    result = dict.fromkeys(METRICS, (0, 0))
    for (scene, caption), verdict in zip(asked, verdicts, strict=True):
        judge = _judge_shapes if scene.kind == "shape" else _judge_scene
        for metric, hit in judge(scene, caption.named, verdict):
            hits, total = result[metric]
            result[metric] = (hits + hit, total + 1)
    return result


def markdown_table(rows: dict[str, Scores]) -> str:
    """One line per entry of `rows`, shares in 0..1; the last line tells how many captions each column counts."""
    lines = [f"| pictures | {' | '.join(METRICS)} |", "| --- |" + " --- |" * len(METRICS)]
    for label, scores in rows.items():
        cells = [f"{hits / total:.2f}" if total else "-" for hits, total in scores.values()]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    totals = [str(total) for _, total in next(iter(rows.values())).values()]
    return "\n".join([*lines, f"| captions counted | {' | '.join(totals)} |"])
