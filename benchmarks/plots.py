"""Draws docs/images/speed-levels.svg from the results of `engine_cpu` and `fidelity`, and writes the table below it.

python -m benchmarks.plots
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

RESULTS = Path(__file__).parent / "results"
PLOT = Path(__file__).parents[1] / "docs" / "images" / "speed-levels.svg"
PAGE = Path(__file__).parents[1] / "docs" / "concepts" / "speed-levels.md"
_BEGIN, _END = "<!-- python -m benchmarks.plots -->\n", "<!-- end -->"

_WIDTH, _HEIGHT = 720, 250
_LEVELS: Final = ("none", "regular", "high")
_COLOURS: Final = {"none": "#7a7f87", "regular": "#2f6fde", "high": "#d9822b", "none, other seed": "#b9bdc4"}
_TOP, _BOTTOM = 40, 210
_MOST_DB = 100


def main() -> None:
    PLOT.write_text(speed_levels())
    before, _, rest = PAGE.read_text().partition(_BEGIN)
    PAGE.write_text(f"{before}{_BEGIN}{fidelity_table()}{_END}{rest.partition(_END)[2]}")


def speed_levels() -> str:
    """Time beside `diffusers.FluxPipeline` at the left, distance to the exact picture at the right, as SVG."""
    times = json.loads((RESULTS / "engine_cpu.json").read_text())["rows"]
    distances = json.loads((RESULTS / "fidelity.json").read_text())
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif"'
    lines = [f'{opening} font-size="12"><rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>']
    lines += _bars([row for row in times if row["size_px"] == 1024 and not row["negative_prompt"]])
    lines += _dots(distances)
    return "\n".join([*lines, "</svg>\n"])


def fidelity_table() -> str:
    """What `fidelity` measured, in Markdown."""
    measured = json.loads((RESULTS / "fidelity.json").read_text())
    heads = f"{measured['captions']} captions | PSNR median | worst | SSIM worst | most off, of 255 | checker's score"
    lines = [f"| {heads} |", "|" + " --- |" * 6]
    for name, row in measured["levels"].items():
        cells = ["equal", "equal", "1", "0"]
        if "psnr_db_worst" in row:
            cells = [f"{row['psnr_db_median']} dB", f"{row['psnr_db_worst']} dB", row["ssim_worst"], row["most_off"]]
        lines.append("| " + " | ".join(map(str, (name, *cells, f"{row['checker_score']:.3f}"))) + " |")
    return "\n".join([*lines, ""])


def _bars(rows: list[dict[str, Any]]) -> Iterator[str]:
    yield _text(10, 20, "CPU time of a picture, 1024 x 1024, diffusers = 1")
    yield f'<line x1="10" x2="330" y1="{_TOP}" y2="{_TOP}" stroke="#999" stroke-dasharray="4"/>'
    for row in rows:
        x = 40 + 100 * _LEVELS.index(row["level"])
        height = (_BOTTOM - _TOP) * row["cpu_ratio"]
        colour = _COLOURS[row["level"]]
        yield f'<rect x="{x}" y="{_BOTTOM - height:.0f}" width="50" height="{height:.0f}" fill="{colour}"/>'
        yield _text(x, _BOTTOM - height - 5, f"{row['cpu_ratio']:.2f}")
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
