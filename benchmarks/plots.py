"""Draws the plots of docs/concepts/speed-levels.md from the results of other benchmarks, and writes its tables.

Those of docs/concepts/capacity.md are drawn and written by `benchmarks.capacity_plot`, called here.

python -m benchmarks.plots
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from benchmarks import capacity_plot

RESULTS = Path(__file__).parent / "results"
IMAGES = Path(__file__).parents[1] / "docs" / "images"
PAGE = Path(__file__).parents[1] / "docs" / "concepts" / "speed-levels.md"
_BEGIN, _END = "<!-- python -m benchmarks.plots: {} -->\n", "<!-- end -->"

_WIDTH, _HEIGHT = 720, 250
_LEVELS: Final = ("none", "regular", "high")
_COLOURS: Final = {"none": "#7a7f87", "regular": "#2f6fde", "high": "#d9822b", "none, other seed": "#b9bdc4"}
_TOP, _BOTTOM = 40, 210
_MOST_DB = 100
# Of memory: two bars for each kind of file.
_BARS_FROM, _BARS_TO, _BAR_PX, _KIND_PX = 180, 640, 14, 38
_MODES: Final = {"full": "#2f6fde", "low": "#d9822b"}
_PHASES: Final = ("load", "text", "step", "decode")


def main() -> None:
    for name, draw in PLOTS.items():
        (IMAGES / name).write_text(draw())
    page = PAGE.read_text()
    for name, write in TABLES.items():
        begin = _BEGIN.format(name)
        before, _, rest = page.partition(begin)
        page = f"{before}{begin}{write()}{_END}{rest.partition(_END)[2]}"
    PAGE.write_text(page)
    capacity_plot.write()


def speed_levels() -> str:
    """Time beside `diffusers.FluxPipeline` at the left, distance to the exact picture at the right, as SVG."""
    return _svg(_HEIGHT, [*_bars(_times()), *_dots(_result("fidelity"))])


def memory() -> str:
    """The most memory of a process that loads a model and draws, by kind of file and mode, as SVG."""
    kinds = _result("memory")["by_file"]
    most = max(_peak(modes[mode], "anonymous_gib") for modes in kinds.values() for mode in _MODES)
    lines = [_text(10, 20, "Memory that a process must have, GiB: mode full (blue), mode low (orange)")]
    for number, (name, modes) in enumerate(kinds.items()):
        top = _TOP + number * _KIND_PX
        lines.append(_text(10, top + _BAR_PX + 4, name))
        for row, (mode, colour) in enumerate(_MODES.items()):
            gib, y = _peak(modes[mode], "anonymous_gib"), top + row * (_BAR_PX + 2)
            width = (_BARS_TO - _BARS_FROM) * gib / most
            lines.append(
                f'<rect x="{_BARS_FROM}" y="{y}" width="{width:.0f}" height="{_BAR_PX}" fill="{colour}"/>'
                + _text(_BARS_FROM + width + 6, y + 11, f"{gib:.2f}")
            )
    return _svg(_TOP + len(kinds) * _KIND_PX, lines)


def times_table() -> str:
    """What `engine_cpu` measured at 1024 x 1024, in Markdown."""
    heads = ("level", "negative prompt", "drawn at", "CPU time, pipeline = 1", "most off, of 255")
    rows = (
        (
            row["level"],
            "yes" if row["negative_prompt"] else "no",
            row["drawn_at"],
            f"{row['cpu_ratio']:.2f}",
            row["most_off"],
        )
        for row in _times()
    )
    return _table(heads, rows)


def fidelity_table() -> str:
    """What `fidelity` measured, in Markdown."""
    measured = _result("fidelity")
    heads = ("PSNR median", "worst", "SSIM worst", "most off, of 255", "checker's score")
    rows = []
    for name, row in measured["levels"].items():
        cells = ["equal", "equal", "1", "0"]
        if "psnr_db_worst" in row:
            cells = [f"{row['psnr_db_median']} dB", f"{row['psnr_db_worst']} dB", row["ssim_worst"], row["most_off"]]
        rows.append((name, *cells, f"{row['checker_score']:.3f}"))
    return _table((f"{measured['captions']} captions", *heads), rows)


def memory_table() -> str:
    """What `memory` measured by kind of file, in Markdown."""
    columns = [f"{mode}: {what}" for mode in _MODES for what in ("load, CPU", "must have", "resident")]
    rows = []
    for name, modes in _result("memory")["by_file"].items():
        cells = [name]
        for mode in _MODES:
            cells.append(f"{modes[mode]['load']['cpu_s']:.1f} s")
            cells += [f"{_peak(modes[mode], kind):.2f} GiB" for kind in ("anonymous_gib", "resident_gib")]
        rows.append(cells)
    return _table(("file", *columns), rows)


def turns_table() -> str:
    """What `fairness` measured, in Markdown."""
    result = _result("fairness")
    waits, slowdown, gaps = result["short_p95_s"], result["long_slowdown"], result["gap_ms"]
    rows = (
        ("p95 of the short ones, in turn", f"{waits['in_turn']:.2f} s"),
        ("p95 of the short ones, first come, first served", f"{waits['first_come']:.2f} s"),
        ("ratio", f"{result['short_p95_ratio']:.3f}"),
        ("the long one, beside its time alone", f"{slowdown['median']:.2f}, at most {slowdown['worst']:.2f}"),
        ("gap between slices", f"{gaps['median']} ms, p95 {gaps['p95']} ms"),
        ("share of the time in which something is drawn", f"{100 * result['busy']:.1f} %"),
    )
    return _table((result["short"], f"long: {result['long']}"), rows)


PLOTS: Final[Mapping[str, Callable[[], str]]] = {"speed-levels.svg": speed_levels, "memory.svg": memory}
TABLES: Final[Mapping[str, Callable[[], str]]] = {
    "times": times_table,
    "fidelity": fidelity_table,
    "memory": memory_table,
    "turns": turns_table,
}


def _result(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text())


def _times() -> list[dict[str, Any]]:
    return [row for row in _result("engine_cpu")["rows"] if row["size_px"] == 1024]


def _peak(phases: Mapping[str, Any], kind: str) -> float:
    return max(phases[phase][kind] for phase in _PHASES)


def _table(heads: Iterable[object], rows: Iterable[Iterable[object]]) -> str:
    heads = list(heads)
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join("| " + " | ".join(map(str, line)) + " |\n" for line in lines)


def _svg(height: float, lines: Iterable[str]) -> str:
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif"'
    return "\n".join(
        [f'{opening} font-size="12"><rect width="{_WIDTH}" height="{height}" fill="white"/>', *lines, "</svg>\n"]
    )


def _bars(rows: list[dict[str, Any]]) -> Iterator[str]:
    yield _text(10, 20, "CPU time, 1024 x 1024, diffusers = 1; right: negative prompt")
    yield f'<line x1="10" x2="350" y1="{_TOP}" y2="{_TOP}" stroke="#999" stroke-dasharray="4"/>'
    for row in rows:
        x = 30 + 110 * _LEVELS.index(row["level"]) + 45 * bool(row["negative_prompt"])
        height = (_BOTTOM - _TOP) * row["cpu_ratio"]
        colour = _COLOURS[row["drawn_at"]]
        yield f'<rect x="{x}" y="{_BOTTOM - height:.0f}" width="40" height="{height:.0f}" fill="{colour}"/>'
        yield _text(x + 6, _BOTTOM - height - 5, f"{row['cpu_ratio']:.2f}")
        if not row["negative_prompt"]:
            yield _text(x, _BOTTOM + 18, row["level"])


def _dots(distances: dict[str, Any]) -> Iterator[str]:
    yield _text(370, 20, f"PSNR of {distances['captions']} pictures to level none, sorted; more is nearer")
    for decibels in range(0, _MOST_DB + 1, 20):
        y = _height_of(decibels)
        yield f'<line x1="400" x2="710" y1="{y:.0f}" y2="{y:.0f}" stroke="#ddd"/>'
        yield _text(365, y + 4, f"{decibels} dB")
    for name, values in distances["psnr_db"].items():
        points = (
            f"{400 + 200 * number / max(1, len(values) - 1):.0f},{_height_of(value):.0f}"
            for number, value in enumerate(values)
        )
        yield f'<polyline points="{" ".join(points)}" fill="none" stroke="{_COLOURS[name]}" stroke-width="3"/>'
        yield _text(606, _height_of(values[-1]) + 4, name)


def _height_of(decibels: float) -> float:
    return _BOTTOM - (_BOTTOM - _TOP) * min(decibels, _MOST_DB) / _MOST_DB


def _text(x: float, y: float, words: str) -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}">{words}</text>'


if __name__ == "__main__":
    main()
