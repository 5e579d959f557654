"""What each way of acting on a negative prompt is rid of, what it costs the picture, and what it costs in time.

    python -m benchmarks.negatives --landscapes 100 --captions 120 --size 256

Three counts on the embedded student, four steps each, by the checker of `training/`:

- of pictures of "a landscape", those that show night, sunset, storm, mountains or a lake are drawn again without it:
  how many show it still, how many have one horizon, and the share of pixels that are black or white in some channel;
- captions with a negative prompt that names nothing: the time of day, style and thing that they ask for, one horizon;
- CPU time of a step beside that of a step without a negative prompt, in turns, at some sizes.

The peer of normalised attention guidance in the same run is true classifier-free guidance, as `FluxPipeline` does it.
"""

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any, Final

import numpy as np
import torch
from diffusers import FluxPipeline

from benchmarks.machine import describe_machine
from flux_endpoint.core.catalog import CATALOG, FLUX_SCHNELL
from flux_endpoint.core.generation import parse_input
from flux_endpoint.engine.factory import build_engines
from flux_endpoint.engine.nag import Nag, NagProcessor, attending
from flux_endpoint.engine.protocol import Engine
from training.checker.checker import Checker
from training.evaluate.report import NEGATIVES
from training.evaluate.sampling import T5_LENGTH, load_pipeline, sample
from training.evaluate.scoring import held_out_captions, score

RESULTS = Path(__file__).parent / "results" / "negatives.json"
MODEL = Path(__file__).parents[1] / "src" / "flux_endpoint" / "models" / "demo"
_CFG_SCALES: Final = (3.0, 4.0)
# The first is what the endpoint does; then one value after the other is changed.
_NAGS: Final = (Nag(5), Nag(4), Nag(7), Nag(9), Nag(5, alpha=0.5), Nag(5, tau=1.5))
_NOTHING: Final = "blurry, low quality"
_TOLD: Final = ("time", "style", "asked", "horizon")
_SIZES_PX: Final = (256, 512, 1024, 1536)
_TURNS: Final = 5

# Prompts, seeds and a negative prompt to pictures.
Draw = Callable[[Sequence[str], Sequence[int], str], list[np.ndarray]]


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(1)
    pipeline, checker = load_pipeline(MODEL, student=True), Checker.load()
    size = (arguments.size, arguments.size)
    result: dict[str, Any] = {"machine": describe_machine(("torch", "diffusers")), "size_px": arguments.size}
    result |= {"step_time_beside_none": step_times(), "ways": {}}
    cases = cases_of(
        checker, sample(pipeline, ["a landscape"] * arguments.landscapes, range(arguments.landscapes), size)
    )
    result["cases"] = {subject: len(seeds) for subject, seeds in cases.items()}
    result["captions"] = {"none": told(checker, arguments.captions, lambda p, s, _: sample(pipeline, p, s, size))}
    for name, draw in ways(pipeline, size):
        result["ways"][name] = removed(checker, cases, draw) | {"captions": told(checker, arguments.captions, draw)}
        RESULTS.write_text(json.dumps(result, indent=2) + "\n")
        print(name, json.dumps(result["ways"][name]), flush=True)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--landscapes", type=int, default=100)
    parser.add_argument("--captions", type=int, default=120)
    parser.add_argument("--size", type=int, default=256)
    return parser.parse_args()


def ways(pipeline: FluxPipeline, size: tuple[int, int]) -> Iterator[tuple[str, Draw]]:
    """Each way that is compared, by name."""
    for scale in _CFG_SCALES:
        yield f"cfg {scale:g}", _with_cfg(pipeline, size, scale)
    for nag in _NAGS:
        yield f"nag {nag.scale:g}, tau {nag.tau:g}, alpha {nag.alpha:g}", _with_nag(pipeline, size, nag)


def _with_cfg(pipeline: FluxPipeline, size: tuple[int, int], scale: float) -> Draw:
    return lambda prompts, seeds, negative: sample(pipeline, prompts, seeds, size, negative=negative, true_cfg=scale)


def _with_nag(pipeline: FluxPipeline, size: tuple[int, int], nag: Nag) -> Draw:
    def draw(prompts: Sequence[str], seeds: Sequence[int], negative: str) -> list[np.ndarray]:
        with _second_text(pipeline, negative), attending(pipeline.transformer, NagProcessor(nag, T5_LENGTH)):
            return sample(pipeline, prompts, seeds, size)

    return draw


@contextmanager
def _second_text(pipeline: FluxPipeline, negative: str) -> Iterator[None]:
    """Let the transformer read a negative prompt behind each prompt."""
    with torch.no_grad():
        states, _, _ = pipeline.encode_prompt([negative], None, max_sequence_length=T5_LENGTH)

    def add(_: Any, __: Any, given: dict[str, Any]) -> tuple[tuple[()], dict[str, Any]]:
        prompts = given["encoder_hidden_states"]
        both = torch.cat([prompts, states.expand(len(prompts), -1, -1)], dim=1)
        return (), given | {"encoder_hidden_states": both, "txt_ids": torch.zeros(2 * T5_LENGTH, 3)}

    hook = pipeline.transformer.register_forward_pre_hook(add, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()


def cases_of(checker: Checker, pictures: Sequence[np.ndarray]) -> dict[str, list[int]]:
    """The seeds whose landscape shows a subject without being asked."""
    verdicts = checker.judge(list(pictures))
    return {
        subject: [seed for seed, verdict in enumerate(verdicts) if verdict.seen[attribute] in values]
        for subject, (attribute, values) in NEGATIVES.items()
    }


def removed(checker: Checker, cases: dict[str, list[int]], draw: Draw) -> dict[str, Any]:
    """What is left of the cases when they are drawn without their subject."""
    left, horizons, clipped = {}, 0, []
    for subject, (attribute, values) in NEGATIVES.items():
        pictures = draw(["a landscape"] * len(cases[subject]), cases[subject], subject) if cases[subject] else []
        verdicts = checker.judge(pictures) if pictures else []
        left[subject] = sum(verdict.seen[attribute] in values for verdict in verdicts)
        horizons += sum(verdict.has_one_horizon for verdict in verdicts)
        clipped += [float(((picture == 0) | (picture == 255)).any(-1).mean()) for picture in pictures]
    totals = {"cases": len(clipped), "still_shown": sum(left.values()), "one_horizon": horizons}
    return totals | {"clipped_pixels": round(float(np.mean(clipped)), 3), "still_shown_by": left}


def told(checker: Checker, count: int, draw: Draw) -> dict[str, float]:
    """How much of what captions ask for is there, beside a negative prompt that names nothing."""
    asked = held_out_captions(count)
    verdicts = checker.judge(draw([caption.text for _, caption in asked], range(count), _NOTHING))
    counts = score(asked, verdicts)
    return {name: round(counts[name][0] / max(1, counts[name][1]), 3) for name in _TOLD}


def step_times() -> dict[str, dict[str, float]]:
    """CPU time of a step of our engine at level `none` in each mode, by that of one without a negative prompt."""
    engine = build_engines({FLUX_SCHNELL.endpoint_id: "demo"}, CATALOG, device="cpu")[FLUX_SCHNELL.endpoint_id]
    engine.load()
    asked = {"none": {}, "cfg": {"negative_prompt": "night"}, "nag": {"negative_prompt": "night"}}
    result = {}
    for side in _SIZES_PX:
        times: dict[str, list[float]] = {mode: [] for mode in asked}
        for _ in range(_TURNS):
            for mode, fields in asked.items():
                more = {"negative_mode": mode} if fields else {}
                times[mode].append(step_s(engine, {"width": side, "height": side} | fields | more))
        result[f"{side} px"] = {mode: round(median(times[mode]) / median(times["none"]), 3) for mode in ("cfg", "nag")}
    engine.close()
    return result


def step_s(engine: Engine, fields: dict[str, Any]) -> float:
    """CPU seconds of the fastest step of a picture but the first."""
    drawing = engine.generate(parse_input({"prompt": "a lake", "seed": 1} | fields, FLUX_SCHNELL))
    seconds, began_s = [], process_time()
    for event in drawing:
        ended_s = process_time()
        if event and event.step > 1:
            seconds.append(ended_s - began_s)
        if event and event.step == event.total:
            break
        began_s = process_time()
    drawing.close()
    return min(seconds)


if __name__ == "__main__":
    main()
