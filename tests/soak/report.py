"""Writes what the soak found: JSON for programs, Markdown for people, and its timeline as a picture."""

import dataclasses
import html
import json
import platform
from collections import defaultdict
from pathlib import Path
from typing import Any

from tests.soak.audit import MAX_WAIT_S, Verdict
from tests.soak.journal import Journal

_WIDTH, _LEFT, _ROW = 960, 150, 20
_WAITS_HEIGHT, _MEMORY_HEIGHT = 130, 90


def write_report(folder: Path, journal: Journal, verdict: Verdict, *, seed: int, minutes: float) -> None:
    """Write `soak.json`, `soak.md` and `soak.svg`."""
    folder.mkdir(parents=True, exist_ok=True)
    about = {"seed": seed, "minutes": minutes, "machine": f"{platform.machine()}, Python {platform.python_version()}"}
    body = {
        **about,
        "faults": verdict.faults,
        "figures": verdict.figures,
        "troubles": [dataclasses.asdict(trouble) for trouble in journal.troubles],
    }
    (folder / "soak.json").write_text(json.dumps(body, indent=1) + "\n")
    (folder / "soak.md").write_text(_markdown(journal, verdict, about))
    (folder / "soak.svg").write_text(timeline(journal, MAX_WAIT_S))


def _markdown(journal: Journal, verdict: Verdict, about: dict[str, Any]) -> str:
    figures = verdict.figures
    lines = [
        f"Seed {about['seed']}, {about['minutes']:g} minutes: "
        + (f"{len(verdict.faults)} faults." if verdict.faults else "no fault."),
        "",
        f"- Jobs: {figures['promised']} promised; in the database {in_words(figures['jobs'])}; "
        f"{figures['retried']} were taken by a second worker.",
        f"- Charges: {figures['charges']}. Pictures decoded: {figures['pictures']['decoded']}, of which "
        f"{figures['pictures']['asked for more than once']} were asked for more than once.",
        f"- Webhooks: {in_words(figures['webhooks'])}.",
        f"- Done to the house: {in_words(count_troubles(journal))}.",
        "",
        "| operation | answers | median, ms | longest, ms |",
        "| --- | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {name} | {row['answers']} | {row['median_ms']} | {row['longest_ms']} |"
        for name, row in figures["waits"].items()
    ]
    lines += ["", "| process | MiB at the end | growth over the second half |", "| --- | ---: | ---: |"]
    lines += [f"| {name} | {row['MiB']} | {row['growth']:.1%} |" for name, row in figures["memory"].items()]
    if verdict.faults:
        lines += ["", "Faults:", "", *(f"- {fault}" for fault in verdict.faults[:40])]
    return "\n".join(lines) + "\n"


def count_troubles(journal: Journal) -> dict[str, int]:
    counts: dict[str, int] = defaultdict(int)
    for trouble in journal.troubles:
        counts[trouble.kind] += 1
    return counts


def in_words(figures: dict[str, Any]) -> str:
    return ", ".join(f"{value} {name}" for name, value in figures.items())


def timeline(journal: Journal, top_s: float) -> str:
    """Waits above, what was done to the house in rows, memory below; all over the same seconds.

    Args:
        journal: what happened.
        top_s: the longest wait that fits the drawing; what is longer sticks out, in red.
    """
    end_s = max([journal.now_s(), 1.0])
    kinds = sorted({trouble.kind for trouble in journal.troubles})
    rows_top = _WAITS_HEIGHT + 30
    memory_top = rows_top + len(kinds) * _ROW + 20
    height = memory_top + (_MEMORY_HEIGHT if journal.memory else 0) + 40

    def x(at_s: float) -> float:
        return round(_LEFT + (_WIDTH - _LEFT - 10) * at_s / end_s, 1)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" '
        'font-size="12" role="img" aria-label="Timeline of a run">',
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
    ]
    # 1. Waits.
    for seconds in (0, top_s / 2, top_s):
        y = 10 + _WAITS_HEIGHT * (1 - seconds / top_s)
        parts.append(
            f'<path d="M{_LEFT} {y}H{_WIDTH - 10}" stroke="#ddd"/><text x="10" y="{y + 4}">{seconds:g} s waited</text>'
        )
    # Dots of one path each, none twice: a soak of 20 minutes is some thousand answers.
    for colour, is_late in (("#368", False), ("#c00", True)):
        dots = {
            (round(x(wait.at_s)), round(10 + _WAITS_HEIGHT * (1 - min(wait.waited_s, 1.05 * top_s) / top_s)))
            for wait in journal.waits
            if (wait.waited_s > top_s) is is_late
        }
        path = "".join(f"M{at} {y}h0" for at, y in sorted(dots))
        parts.append(f'<path d="{path}" stroke="{colour}" stroke-width="2.4" stroke-linecap="round"/>')
    # 2. Troubles.
    for row, kind in enumerate(kinds):
        y = rows_top + row * _ROW
        parts.append(f'<text x="10" y="{y + 12}">{html.escape(kind)}</text>')
        parts += [
            f'<rect x="{x(one.at_s)}" y="{y + 2}" width="{max(2, x(one.until_s) - x(one.at_s)):.1f}" height="12" '
            f'fill="#d80"><title>{html.escape(one.detail)}</title></rect>'
            for one in journal.troubles
            if one.kind == kind
        ]
    # 3. Memory.
    top = max((size for _, _, size in journal.memory), default=1)
    lines = defaultdict(list)
    for at_s, name, size in journal.memory:
        lines[name].append(f"{x(at_s)},{memory_top + _MEMORY_HEIGHT * (1 - size / top):.1f}")
    if journal.memory:
        parts.append(f'<text x="10" y="{memory_top + 10}">{top / 1_048_576:.0f} MiB held</text>')
    parts += [
        f'<polyline points="{" ".join(points)}" fill="none" stroke="#285"><title>{html.escape(name)}</title></polyline>'
        for name, points in lines.items()
    ]
    parts.append(f'<text x="{_LEFT}" y="{height - 10}">0</text>')
    parts.append(f'<text x="{_WIDTH - 10}" y="{height - 10}" text-anchor="end">{end_s:.0f} s</text></svg>')
    return "\n".join(parts) + "\n"
