"""The GPU ladder rung by rung, and pictures at every speed level beside diffusers.FluxPipeline, on one GPU.

    make bench-gpu ARGS="--seconds 540"

Everything happens with random weights of FLUX.1's true size, made in the GPU's memory: nothing is downloaded or
written. Speed, memory, and how far a level is from another do not depend on what the weights hold, as long as the
numbers between the layers stay in their range; how pictures look does, so nothing is said of it. Schnell's four steps
and 256 tokens are timed on dev's transformer, which has one embedder more.

First the pipeline draws, then the ladder is climbed, then levels and pipeline draw in turn, and at the end it is looked
which kernels a pass spends its time in. Results are written after everything that took time, so that a lease that ends
early keeps what was measured; a rung or a picture that fails is written with its reason, and with what the engine's log
has on it. What would not end in time is left out and named: no rung is begun in the last third of the time, which is
for pictures.

`--tiny` runs the same code with small modules on the CPU, with a compiler that writes no machine code.
"""

import argparse
import functools
import json
import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any, Final

import diffusers
import torch
from torch.nn.attention import SDPBackend

from benchmarks.gpu_contest import PIPELINE, Case, Contest, Picture, pixels_of, psnr_db
from benchmarks.gpu_kernels import kernels_of
from benchmarks.machine import describe_machine
from benchmarks.random_flux import TINY_SIZES, TRUE_SIZES
from flux_endpoint.core.acceleration import Acceleration
from flux_endpoint.core.catalog import FLUX_DEV, FLUX_SCHNELL
from flux_endpoint.engine.gpu.attention import attention_of_torch
from flux_endpoint.engine.gpu.fp8 import device_product
from flux_endpoint.engine.gpu.ladder import Ladder
from flux_endpoint.engine.gpu.tools import Tools, cuda_tools
from flux_endpoint.engine.latents import RenderSize
from flux_endpoint.engine.levels import Levels, exact_level
from flux_endpoint.engine.probe import make_probe

RESULTS: Final = Path(__file__).parent / "results" / "engine_gpu.json"
# Of the weights, and of one picture of 1024x1024.
NEEDED_BYTES: Final = 45 * 2**30
SECONDS: Final = 540.0
REPEATS: Final = 3
LONGEST_IMPORT_S: Final = 300
# No rung is begun after this share of the seconds.
CLIMBING: Final = 2 / 3
LONGEST_ENTRY: Final = 4000
TRUE_CASES: Final = (Case(FLUX_DEV, 1024, 28), Case(FLUX_SCHNELL, 1024, 4), Case(FLUX_DEV, 512, 28))
TINY_CASES: Final = (Case(FLUX_DEV, 64, 10), Case(FLUX_SCHNELL, 32, 2))


Drawn = dict[tuple[str, Case], list[Picture]]


class Report:
    """What is known so far, on the disk after every change."""

    def __init__(self, out: Path | None, head: dict[str, Any]) -> None:
        self._out = out
        self.content: dict[str, Any] = {**head, "rungs": [], "rows": [], "left_out": [], "kernels": {}, "log": []}
        self.write()

    def write(self) -> None:
        if self._out is None:
            return
        self._out.parent.mkdir(exist_ok=True, parents=True)
        # A lease that ends while it is written leaves the one before.
        beside = self._out.with_suffix(".part")
        beside.write_text(json.dumps(self.content, indent=2) + "\n")
        beside.replace(self._out)

    def add(self, kind: str, entry: object) -> None:
        self.content[kind].append(entry)
        print(f"{process_age_s():6.1f} s  {entry}", flush=True)
        self.write()


def main(words: Sequence[str] | None = None) -> int:
    """Measure; the exit code."""
    arguments = parse_arguments(words)
    imported_s = process_age_s()
    if not arguments.tiny and not _has_room():
        print(f"This needs a CUDA device with {NEEDED_BYTES / 2**30:.0f} GiB of free memory; try --tiny.")
        return 1
    device = torch.device("cpu" if arguments.tiny else "cuda")
    diffusers.utils.logging.set_verbosity_error()
    machine = describe_machine(("torch", "diffusers", "transformers")) | describe_device(device)
    contest = Contest(TINY_SIZES if arguments.tiny else TRUE_SIZES, device)
    setup = {"imported_after_s": round(imported_s, 1), "made_after_s": round(process_age_s(), 1)}
    out = arguments.out or (None if arguments.tiny else RESULTS)
    head = {"machine": machine, "setup": setup, "parameters": contest.parameters()}
    print(json.dumps(head), flush=True)
    report = Report(out, head)
    with _kept_log(report):
        _measure(contest, _tools(device), report, arguments)
    print_table(report.content["rows"])
    print(f"ended after {process_age_s():.1f} s", flush=True)
    return 0


def _measure(contest: Contest, tools: Tools, report: Report, arguments: argparse.Namespace) -> None:
    cases = TINY_CASES if arguments.tiny else TRUE_CASES
    drawn: Drawn = {}
    # What is drawn with untouched modules, before anything else.
    for case in cases:
        _draw(contest, PIPELINE, case, report, drawn, arguments.seconds)
    ladder = Ladder(contest.transformer, contest.vae, exact_level(contest.transformer, contest.vae), tools)
    for rung in ladder.climb():
        report.add("rungs", asdict(rung) | {"after_s": round(process_age_s(), 1)})
        if process_age_s() > arguments.seconds * CLIMBING:
            report.add("left_out", f"what comes after the rung {rung.name}, if anything: no time was left")
            break
    levels = ladder.levels()
    report.content["levels"] = [str(name) for name in levels]
    contest.levels = Levels(levels, {})
    for _ in range(arguments.repeats):
        for case in cases:
            for name in (PIPELINE, *map(str, levels)):
                _draw(contest, name, case, report, drawn, arguments.seconds)
    # Last: a profiler that a driver does not let in must not cost what the lease is for.
    probe = make_probe(contest.transformer, tools.probe, tools.text_tokens)
    for level in levels.values():
        with _told(report, f"kernels of {level.name}"):
            report.content["kernels"][str(level.name)] = kernels_of(level, probe, tools.device)
    with _told(report, "the hash of the results"):
        report.content["results_hash"] = ladder.results_hash()
    report.write()


@contextmanager
def _told(report: Report, title: str) -> Iterator[None]:
    """What fails in the block is written with its reason, and nothing else is lost by it."""
    try:
        yield
    except Exception as error:
        first, *_ = [*str(error).strip().splitlines(), ""]
        report.add("left_out", f"{title}: {type(error).__name__}: {first}")


@contextmanager
def _kept_log(report: Report) -> Iterator[None]:
    """What the engine logs in the block is part of the result: there it says why, with the place in the code."""
    engine, kept = logging.getLogger("flux_endpoint.engine"), _Kept(report)
    before = engine.level
    engine.setLevel(logging.DEBUG)
    engine.addHandler(kept)
    try:
        yield
    finally:
        engine.removeHandler(kept)
        engine.setLevel(before)


class _Kept(logging.Handler):
    def __init__(self, report: Report) -> None:
        super().__init__()
        self._report = report

    def emit(self, record: logging.LogRecord) -> None:
        self._report.add("log", self.format(record)[-LONGEST_ENTRY:])


def parse_arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=REPEATS, help="pictures of each case at each level")
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help="age of the process after which no picture is begun"
    )
    parser.add_argument("--out", type=Path, help="JSON file; without it benchmarks/results, but nothing with --tiny")
    parser.add_argument("--tiny", action="store_true", help="small modules on the CPU")
    return parser.parse_args(words)


def _has_room() -> bool:
    return torch.cuda.is_available() and torch.cuda.mem_get_info()[0] >= NEEDED_BYTES


def _tools(device: torch.device) -> Tools:
    if device.type == "cuda":
        return cuda_tools(device)
    return Tools(
        device=device,
        attentions={"flash": attention_of_torch(SDPBackend.FLASH_ATTENTION)},
        backend="eager",
        recorder=None,
        product=device_product,
        free_bytes=lambda: NEEDED_BYTES,
        probe=RenderSize(96, 64, 12, 8),
        text_tokens=20,
    )


def process_age_s() -> float:
    """Since the process was started, its imports included."""
    return time.monotonic() - _process_start_s()


@functools.cache
def _process_start_s() -> float:
    """On the clock of `time.monotonic`; the moment of the first call where the system gives no sensible time."""
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return time.monotonic() - (age_s if 0 <= age_s < LONGEST_IMPORT_S else 0)


def describe_device(device: torch.device) -> dict[str, object]:
    """The GPU, for the head of a result file."""
    if device.type != "cuda":
        return {"device": str(device), "threads": torch.get_num_threads()}
    properties = torch.cuda.get_device_properties(device)
    return {
        "device": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "device_memory_gib": round(properties.total_memory / 2**30),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


def _draw(contest: Contest, name: str, case: Case, report: Report, drawn: Drawn, deadline_s: float) -> None:
    """One picture, unless it would end too late; before the first of its kind another one, which is not timed."""
    known = drawn.setdefault((name, case), [])
    slowest_s = max((each[-1].wall_s for each in drawn.values() if each), default=0.0)
    title = f"{case} by {name}"
    if process_age_s() + (known[-1].wall_s if known else 3 * slowest_s) > deadline_s:
        report.add("left_out", f"{title}: no time was left")
        return
    with _told(report, title):
        if not known:
            contest.draw(name, case)
        known.append(contest.draw(name, case))
        print(f"{process_age_s():6.1f} s  {title}: {known[-1].wall_s:.3f} s", flush=True)
        others = [row for row in report.content["rows"] if row["case"] != str(case)]
        report.content["rows"] = [*others, *rows_of(contest, case, drawn)]
        report.write()


def rows_of(contest: Contest, case: Case, drawn: Drawn) -> Iterator[dict[str, Any]]:
    """What the table and the result file say of one case: a row for the pipeline and one for each level."""
    theirs = drawn.get((PIPELINE, case)) or []
    exact = drawn.get((str(Acceleration.NONE), case)) or []
    for (name, its_case), pictures in drawn.items():
        if its_case != case or not pictures:
            continue
        wall_s = median(picture.wall_s for picture in pictures)
        row: dict[str, Any] = {"case": str(case), "by": name, "wall_s": round(wall_s, 4)}
        row["wall_s_of_each"] = [round(picture.wall_s, 4) for picture in pictures]
        row["denoise_s"] = round(median(picture.denoise_s for picture in pictures), 4)
        row["passes"] = case.passes(is_high=name == Acceleration.HIGH)
        row["teraflop_per_s"] = round(row["passes"] * contest.operations(case) / wall_s / 1e12, 1)
        row["peak_gib"] = max((picture.peak_gib or 0 for picture in pictures), default=0)
        row["are_bytes_the_same_again"] = len({picture.file for picture in pictures}) == 1
        if theirs:
            row["by_pipeline"] = round(wall_s / median(picture.wall_s for picture in theirs), 3)
            row["psnr_to_pipeline_db"] = _psnr_db(pictures[0].file, theirs[0].file)
        if exact:
            row["psnr_to_none_db"] = _psnr_db(pictures[0].file, exact[0].file)
        yield row


@functools.cache
def _psnr_db(file: bytes, other: bytes) -> float | None:
    return psnr_db(pixels_of(file), pixels_of(other))


def print_table(rows: list[dict[str, Any]]) -> None:
    print(
        "case                          by            s  of pipeline  passes  TFLOP/s  peak GiB  same again  dB to none"
    )
    for row in rows:
        print(
            f"{row['case']:29} {row['by']:8} {row['wall_s']:7.3f}  {row.get('by_pipeline', ''):>11} {row['passes']:>7} "
            f"{row['teraflop_per_s']:8.1f} {row['peak_gib']:9.2f}  {row['are_bytes_the_same_again']!s:10} "
            f"{row.get('psnr_to_none_db')}"
        )


if __name__ == "__main__":
    raise SystemExit(main())
