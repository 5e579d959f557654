"""Draws the simulated day of `benchmarks.capacity` and writes its tables; see `benchmarks.plots`."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

RESULTS: Final = Path(__file__).parent / "results" / "capacity.json"
PLOT: Final = Path(__file__).parents[1] / "docs" / "images" / "capacity.svg"
PAGE: Final = Path(__file__).parents[1] / "docs" / "concepts" / "capacity.md"
DRAWN: Final = ("1,000,000 a day, queue-delay", "100,000,000 a day, queue-delay")
_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 720, 250, 50, 200
_LINES: Final = {"workers": "#2f6fde", "busy": "#d9822b", "waiting": "#b03a48"}
_BEGIN, _END = "<!-- python -m benchmarks.plots -->\n", "<!-- end -->"


def write() -> None:
    """Write plot and tables into the docs."""
    PLOT.write_text(capacity_plot())
    before, _, rest = PAGE.read_text().partition(_BEGIN)
    PAGE.write_text(f"{before}{_BEGIN}{capacity_tables()}{_END}{rest.partition(_END)[2]}")


def capacity_plot() -> str:
    """Workers, those that draw, and jobs that wait, over a day, at two sizes, as SVG."""
    days = {day["scenario"]: day for day in json.loads(RESULTS.read_text())["days"]}
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif"'
    lines = [f'{opening} font-size="12"><rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>']
    for number, name in enumerate(DRAWN):
        lines += _day(days[name], _LEFT + number * 355)
    for number, (name, colour) in enumerate(_LINES.items()):
        lines.append(f'<text x="{_LEFT + number * 80}" y="{_HEIGHT - 10}" fill="{colour}">{name}</text>')
    lines.append(f'<text x="{_LEFT + 250}" y="{_HEIGHT - 10}">simulated, a point for each ten minutes</text>')
    return "\n".join([*lines, "</svg>\n"])


def capacity_tables() -> str:
    """What was simulated, in Markdown: the days, what they ask of other parts, and what cold starts cost."""
    result = json.loads(RESULTS.read_text())
    days = (
        [
            day["scenario"],
            *(f"{day['wait_s'][name]:g}" for name in ("p50", "p95", "p99")),
            f"{day['refused'] / day['asked']:.2%}",
            f"{day['most_waiting']:,}",
            f"{day['most_workers']:,}",
            f"{day['utilisation']:.0%}",
            f"{day['usd_per_1000']:.2f}",
        ]
        for day in result["days"]
    )
    heads = ("pictures, scaled by", "wait p50 s", "p95", "p99", "refused", "most waiting", "most workers")
    lines = list(_table((*heads, "busy", "USD for 1,000"), days))
    by_size = [day for day in result["days"] if day["rules"]["by"] == "queue-delay"]
    names = ("jobs_per_s", "postgresql_trips_per_s", "bucket_mb_per_s", "lease_renewals_per_s")
    rows = ([day["scenario"].partition(" ")[0], *(f"{day['loads'][name]:,}" for name in names)] for day in by_size)
    heads = ("pictures a day", "jobs/s in the busiest hour", "trips to PostgreSQL/s", "MB/s to the bucket")
    lines += ["", *_table((*heads, "lease renewals/s"), rows)]
    starts = (
        [
            f"{row['cold_start_s']} s",
            *(f"{row['wait_s'][name]:g}" for name in ("p50", "p95", "p99")),
            f"{row['utilisation']:.0%}",
            f"{row['usd_per_1000']:.2f}",
        ]
        for row in result["cold_starts"]
    )
    heads = ("start of a worker", "wait p50 s", "p95", "p99", "busy", "USD for 1,000")
    return "\n".join([*lines, "", *_table(heads, starts), ""])


def _table(heads: Sequence[str], rows: Iterator[list[str]]) -> Iterator[str]:
    yield "| " + " | ".join(heads) + " |"
    yield "|" + " --- |" * len(heads)
    for row in rows:
        yield "| " + " | ".join(row) + " |"


def _day(day: dict[str, Any], left: int) -> Iterator[str]:
    points = day["points"]
    most = max(max(point[name] for point in points) for name in ("workers", "busy"))
    most_waiting, size = max(1, day["most_waiting"]), day["scenario"].partition(" ")[0]
    yield f'<text x="{left}" y="20">{size} a day: up to {most:,.0f} workers, {most_waiting:,} waiting</text>'
    yield f'<line x1="{left}" x2="{left + 290}" y1="{_BOTTOM}" y2="{_BOTTOM}" stroke="#999"/>'
    for hour in (0, 6, 12, 18, 24):
        yield f'<text x="{left + 290 * hour / 24 - 6:.0f}" y="{_BOTTOM + 16}">{hour} h</text>'
    for name, colour in _LINES.items():
        scale = most_waiting if name == "waiting" else most
        drawn = " ".join(
            f"{left + 290 * point['s'] / 86_400:.1f},{_BOTTOM - 165 * point[name] / scale:.1f}" for point in points
        )
        yield f'<polyline points="{drawn}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
