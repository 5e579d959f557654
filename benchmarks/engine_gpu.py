"""Our engine beside diffusers.FluxPipeline on one GPU: random weights of FLUX.1's true size, one set for both.

    python -m benchmarks.engine_gpu --seconds 70 --out build/engine_gpu.json

All modules are made in the GPU's memory, so that no checkpoint has to be downloaded or written. Speed, memory and
whether a picture can be drawn again do not depend on what the weights hold, as long as they are neither zeros nor so
large that the numbers between the layers leave their range; what the pictures show does, so nothing is said of it.

The two take turns, and who goes first changes at every turn. A picture is drawn from prompt to PNG bytes, the text
encoders included: the engine gets a new memory of prompts for each. All pictures of a row have one seed and one
noise, so that they show as well whether the bytes come out the same again, and how far the two are apart.

`--tiny` runs the same code with small modules, on the CPU unless `--device` says otherwise.
"""

import argparse
import functools
import io
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any, Final

import diffusers
import numpy as np
import torch
from diffusers import FluxTransformer2DModel
from numpy.typing import NDArray
from PIL import Image

from benchmarks.machine import describe_machine
from benchmarks.random_flux import (
    TINY_SIZES,
    TRUE_SIZES,
    Sizes,
    fill,
    make_scheduler,
    meta_transformer,
    meta_vae,
    sharing,
    text_parts,
)
from flux_endpoint.core.catalog import FLUX_DEV, FLUX_SCHNELL, ModelFamily, ModelSpec
from flux_endpoint.core.generation import GenerationRequest
from flux_endpoint.core.image_formats import PNG
from flux_endpoint.engine.engine import FluxEngine
from flux_endpoint.engine.flux_factory import choose_device
from flux_endpoint.engine.latents import draw_noise, pack_latents, render_size
from flux_endpoint.engine.preview import Previewer
from flux_endpoint.engine.protocol import finish
from flux_endpoint.engine.rope import RopeCache
from flux_endpoint.engine.sources import Source, SourceKind
from flux_endpoint.engine.text import TextEncoder
from flux_endpoint.engine.weights import LoadedModel

PROMPT = "A serene mountain landscape at sunset, with a house by the lake"
GUIDANCE = 3.5
SEED = 7
RESULTS = Path(__file__).parent / "results" / "engine_gpu.json"
ENGINE, PIPELINE = "engine", "pipeline"
# Of the weights, and of one picture of 1024x1024.
NEEDED_BYTES = 45 * 2**30
WARM_UP_STEPS = 2
LONGEST_IMPORT_S = 300
# As the engine writes its PNG files.
PNG_OPTIONS: Final = {"compress_level": 1}


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    spec: ModelSpec
    size_px: int
    steps: int

    def __str__(self) -> str:
        return f"{self.spec.family} {self.size_px}x{self.size_px} {self.steps} steps"


TRUE_CASES = (Case(FLUX_DEV, 1024, 28), Case(FLUX_DEV, 512, 28), Case(FLUX_SCHNELL, 1024, 4))
TINY_CASES = (Case(FLUX_DEV, 64, 4), Case(FLUX_DEV, 32, 4), Case(FLUX_SCHNELL, 64, 2))


@dataclass(frozen=True)
class Run:
    """One picture.

    Attributes:
        wall_s: from prompt to PNG bytes.
        steps_per_s: on the device, from the end of the first step to the end of the last.
        peak_gib: most device memory in use at once, weights included; None on the CPU.
    """

    wall_s: float
    steps_per_s: float
    peak_gib: float | None


@dataclass
class Pictures:
    """What was drawn for one case: the runs, and the files they gave."""

    runs: dict[str, list[Run]] = field(default_factory=lambda: {ENGINE: [], PIPELINE: []})
    files: dict[str, list[bytes]] = field(default_factory=lambda: {ENGINE: [], PIPELINE: []})
    left_out: list[str] = field(default_factory=list)


class InMemoryEngine(FluxEngine):
    """The engine with a model that was made in memory, in place of one that `load` reads from files."""

    def __init__(self, spec: ModelSpec, model: LoadedModel) -> None:
        super().__init__(spec, Source(SourceKind.FOLDER, "random", "random weights", "random"), model.device)
        self._model = model


class Stopwatch:
    """Marks moments on the device, without making the program wait for it."""

    def __init__(self, device: torch.device) -> None:
        self._is_cuda = device.type == "cuda"
        self._marks: list[Any] = []

    def mark(self) -> None:
        if not self._is_cuda:
            self._marks.append(time.perf_counter())
            return
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        self._marks.append(event)

    def steps_per_s(self) -> float:
        """From the first mark to the last."""
        first, last = self._marks[0], self._marks[-1]
        if self._is_cuda:
            last.synchronize()
        seconds = first.elapsed_time(last) / 1000 if self._is_cuda else last - first
        return (len(self._marks) - 1) / seconds


class Contest:
    """The engine and the pipeline on the same modules."""

    def __init__(self, sizes: Sizes, device: torch.device) -> None:
        self.device = device
        self._dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        self._text = text_parts(sizes, device, self._dtype)
        self._vae = fill(meta_vae(sizes), device, self._dtype)
        dev = fill(meta_transformer(sizes, ModelFamily.DEV), device, self._dtype)
        self._sizes = sizes
        self._transformers = {family: sharing(meta_transformer(sizes, family), dev) for family in ModelFamily}
        self._models = {family: self._model(family, dev) for family in ModelFamily}
        self._pipelines = {family: self._pipeline(family) for family in ModelFamily}

    def parameters(self) -> dict[str, int]:
        """Of the parts of FLUX.1-dev."""
        clip, _, t5, _ = self._text
        parts = {"transformer": self._transformers[ModelFamily.DEV], "vae": self._vae, "text_encoder": clip}
        parts["text_encoder_2"] = t5
        return {name: sum(each.numel() for each in part.parameters()) for name, part in parts.items()}

    def draw(self, name: str, case: Case) -> tuple[Run, bytes]:
        """One picture by one of the two."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        stopwatch = Stopwatch(self.device)
        started_s = time.perf_counter()
        data = self._engine_draws(case, stopwatch) if name == ENGINE else self._pipeline_draws(case, stopwatch)
        wall_s = time.perf_counter() - started_s
        peak = torch.cuda.max_memory_allocated() / 2**30 if self.device.type == "cuda" else None
        run = Run(round(wall_s, 4), round(stopwatch.steps_per_s(), 3), None if peak is None else round(peak, 2))
        return run, data

    def _engine_draws(self, case: Case, stopwatch: Stopwatch) -> bytes:
        model = replace(self._models[case.spec.family], text=TextEncoder(*self._text))
        request = GenerationRequest(PROMPT, "", case.size_px, case.size_px, case.steps, GUIDANCE, 1.0, SEED, PNG)
        return finish(InMemoryEngine(case.spec, model).generate(request), lambda _: stopwatch.mark()).data

    def _pipeline_draws(self, case: Case, stopwatch: Stopwatch) -> bytes:
        def step_done(_pipeline: Any, _step: int, _timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            stopwatch.mark()
            return tensors

        model = self._models[case.spec.family]
        size = render_size(case.size_px, case.size_px, model.vae_scale_factor)
        image = self._pipelines[case.spec.family](
            PROMPT,
            width=case.size_px,
            height=case.size_px,
            num_inference_steps=case.steps,
            guidance_scale=GUIDANCE,
            # The engine's: for the same seed the pipeline draws other noise, in the dtype of the model.
            latents=pack_latents(draw_noise(SEED, model.latent_channels, size)),
            max_sequence_length=case.spec.max_text_tokens,
            callback_on_step_end=step_done,
        ).images[0]
        buffer = io.BytesIO()
        image.save(buffer, "PNG", **PNG_OPTIONS)
        return buffer.getvalue()

    def _model(self, family: ModelFamily, dev: FluxTransformer2DModel) -> LoadedModel:
        """As `load_checkpoint` puts it together."""
        transformer = sharing(meta_transformer(self._sizes, family), dev)
        transformer.pos_embed = RopeCache(transformer.pos_embed, self.device)
        return LoadedModel(
            text=TextEncoder(*self._text),
            transformer=transformer,
            vae=self._vae,
            previewer=Previewer(self._vae),
            scheduler_config=make_scheduler(family).config,
            device=self.device,
            dtype=self._dtype,
        )

    def _pipeline(self, family: ModelFamily) -> Any:
        clip, clip_tokenizer, t5, t5_tokenizer = self._text
        pipeline = diffusers.FluxPipeline(
            scheduler=make_scheduler(family),
            vae=self._vae,
            text_encoder=clip,
            tokenizer=clip_tokenizer,
            text_encoder_2=t5,
            tokenizer_2=t5_tokenizer,
            transformer=self._transformers[family],
        )
        pipeline.set_progress_bar_config(disable=True)
        return pipeline


def main() -> None:
    arguments = parse_arguments()
    imported_s = process_age_s()
    if not arguments.tiny and not _has_room():
        print(f"This needs a CUDA device with {NEEDED_BYTES / 2**30:.0f} GiB of free memory; try --tiny.")
        return
    device = choose_device(arguments.device or ("cpu" if arguments.tiny else "cuda"))
    diffusers.utils.logging.set_verbosity_error()
    machine = describe_machine(("torch", "diffusers", "transformers")) | describe_device(device)
    print(", ".join(f"{name} {value}" for name, value in machine.items()), flush=True)
    contest = Contest(TINY_SIZES if arguments.tiny else TRUE_SIZES, device)
    setup = {"imported_after_s": round(imported_s, 1), "made_after_s": round(process_age_s(), 1)}
    if device.type == "cuda":
        setup["weights_gib"] = round(torch.cuda.memory_allocated() / 2**30, 2)
    print(f"setup: {setup}", flush=True)
    out = arguments.out or (None if arguments.tiny else RESULTS)
    rows: list[dict[str, Any]] = []
    for rows in measure(contest, TINY_CASES if arguments.tiny else TRUE_CASES, arguments.repeats, arguments.seconds):
        if out is not None:
            content = {"machine": machine, "setup": setup, "parameters": contest.parameters(), "rows": rows}
            out.parent.mkdir(exist_ok=True, parents=True)
            out.write_text(json.dumps(content, indent=2) + "\n")
    print_table(rows)
    print(f"ended after {process_age_s():.1f} s", flush=True)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="pictures of each row from each of the two")
    parser.add_argument(
        "--seconds", type=float, default=3600, help="age of the process at which every measurement must have ended"
    )
    parser.add_argument("--out", type=Path, help="JSON file; without it benchmarks/results, but nothing with --tiny")
    parser.add_argument("--tiny", action="store_true", help="small modules")
    parser.add_argument("--device", help="cuda, or cpu with --tiny")
    return parser.parse_args()


def _has_room() -> bool:
    return torch.cuda.is_available() and torch.cuda.mem_get_info()[0] >= NEEDED_BYTES


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
        "device_memory_gib": round(properties.total_memory / 2**30),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


def measure(contest: Contest, cases: tuple[Case, ...], repeats: int, seconds: float) -> Iterator[list[dict[str, Any]]]:
    """Draw turn by turn, each case once before any case twice; gives the rows so far after every pair of pictures."""
    drawn = {case: Pictures() for case in cases}
    for turn in range(repeats):
        for case, pictures in drawn.items():
            is_late = process_age_s() >= seconds
            if is_late or process_age_s() + _expected_s(contest, case, pictures) > seconds:
                pictures.left_out.append(f"turn {turn + 1}")
                continue
            for name in (ENGINE, PIPELINE) if turn % 2 else (PIPELINE, ENGINE):
                run, data = contest.draw(name, case)
                pictures.runs[name].append(run)
                pictures.files[name].append(data)
                print(f"{process_age_s():5.1f} s: {case}, turn {turn + 1}, {name}: {run}", flush=True)
            yield [describe_row(case, pictures) for case, pictures in drawn.items()]
    yield [describe_row(case, pictures) for case, pictures in drawn.items()]


def _expected_s(contest: Contest, case: Case, pictures: Pictures) -> float:
    """How long a picture from each of the two takes: the last time's, or what a few steps of both say."""
    if pictures.runs[ENGINE]:
        return sum(runs[-1].wall_s for runs in pictures.runs.values())
    short = replace(case, steps=WARM_UP_STEPS)
    warm = [contest.draw(name, short)[0] for name in (ENGINE, PIPELINE)]
    return sum(run.wall_s + (case.steps - WARM_UP_STEPS) / run.steps_per_s for run in warm)


def describe_row(case: Case, pictures: Pictures) -> dict[str, Any]:
    """What the table and the result file say of one case."""
    row: dict[str, Any] = {
        "family": case.spec.family.value,
        "size_px": case.size_px,
        "steps": case.steps,
        "text_tokens": case.spec.max_text_tokens,
        "left_out": pictures.left_out,
    }
    if not pictures.runs[ENGINE]:
        return row
    pairs = list(zip(pictures.runs[ENGINE], pictures.runs[PIPELINE], strict=True))
    levels = {name: _levels(files[0]) for name, files in pictures.files.items()}
    gaps = np.abs(levels[ENGINE] - levels[PIPELINE])
    return row | {
        "are_bytes_the_same_again": {name: _are_equal(files) for name, files in pictures.files.items()},
        "mean_level_difference": round(float(gaps.mean()), 4),
        "largest_level_difference": int(gaps.max()),
        "share_of_equal_levels": round(float((gaps == 0).mean()), 4),
        "standard_deviation_of_levels": round(float(levels[ENGINE].std()), 1),
        "wall_ratio": round(median(ours.wall_s / theirs.wall_s for ours, theirs in pairs), 3),
        "runs": {name: [asdict(run) for run in runs] for name, runs in pictures.runs.items()},
    }


def _levels(file: bytes) -> NDArray[np.int16]:
    return np.asarray(Image.open(io.BytesIO(file))).astype(np.int16)


def _are_equal(files: list[bytes]) -> bool | None:
    """Whether all files hold the same bytes; None for a single one."""
    return None if len(files) < 2 else len(set(files)) == 1


def print_table(rows: list[dict[str, Any]]) -> None:
    print("row                      who       pictures  s (min-max)          steps/s  peak GiB  same again")
    for row in rows:
        title = f"{row['family']} {row['size_px']} px {row['steps']} steps"
        for name, runs in row.get("runs", {}).items():
            times = [run["wall_s"] for run in runs]
            spread = f"{median(times):7.3f} ({min(times):.3f}-{max(times):.3f})"
            steps = median(run["steps_per_s"] for run in runs)
            same = row["are_bytes_the_same_again"][name]
            peak = max(run["peak_gib"] or 0 for run in runs)
            print(f"{title:24} {name:9} {len(runs):8}  {spread:21} {steps:6.2f}  {peak:8.2f}  {same}")
        if "runs" in row:
            print(
                f"{'':24} engine/pipeline {row['wall_ratio']:.3f}; levels of 255 apart: mean "
                f"{row['mean_level_difference']}, most {row['largest_level_difference']}, "
                f"equal {row['share_of_equal_levels']:.2%}; spread {row['standard_deviation_of_levels']}"
            )
        if row["left_out"]:
            print(f"{title:24} left out for want of time: {', '.join(row['left_out'])}")


if __name__ == "__main__":
    main()
