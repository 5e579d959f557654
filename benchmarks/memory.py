"""What models need of memory: by kind of file and memory mode, and what dev and schnell share.

Each file is loaded in a process of its own, which then draws one picture of one step. `anonymous` is what the process
must have; the rest of its resident memory is mapped files, which the system gives up when somebody needs the room.

    python -m benchmarks.memory --out benchmarks/results/memory.json
    python -m benchmarks.memory --true-size --out benchmarks/results/memory_true_size.json    (32 GiB of disk)
"""

import argparse
import json
import multiprocessing
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import nn

from benchmarks.file_kinds import write_kinds
from benchmarks.machine import describe_machine
from benchmarks.random_files import write_model
from benchmarks.random_flux import TRUE_SIZES, meta_clip, meta_t5, meta_transformer, meta_vae
from flux_endpoint.core.catalog import CATALOG, FLUX_DEV, ModelFamily
from flux_endpoint.core.generation import parse_input
from flux_endpoint.engine.engine import FluxEngine
from flux_endpoint.engine.factory import build_engines
from flux_endpoint.engine.memory_plan import MemoryMode
from flux_endpoint.engine.protocol import finish

# Others use the machine, too.
_LEAST_FREE_BYTES = 6 * 2**30
_LOOK_S = 0.05


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--true-size", action="store_true", help="only that: FLUX.1-dev's size, in bf16 on the CPU")
    parser.add_argument("--folder", type=Path, help="for the files; default: a temporary one")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    result: dict[str, object] = {"machine": describe_machine(("torch", "diffusers", "transformers"))}
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        if arguments.true_size:
            source = in_a_process(write_model, Path(folder) / "flux", TRUE_SIZES, "BF16")
            result["bf16"] = measured(source, MemoryMode.LOW)
        else:
            result["embedded_pair_fp32"] = in_a_process(embedded_pair)
            result["true_size_bf16"] = true_size()
            result["by_file"] = by_file(in_a_process(write_kinds, Path(folder)))
    text = json.dumps(result, indent=2)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n")


def by_file(sources: Mapping[str, str]) -> dict[str, dict[str, object]]:
    """A model of .6 billion weights in each kind of file and mode."""
    return {
        name: {mode: measured(source, mode) for mode in (MemoryMode.FULL, MemoryMode.LOW)}
        for name, source in sources.items()
    }


def measured(source: str, mode: str) -> dict[str, object]:
    """What a process needs to load a model and to draw."""
    result: dict[str, object] = in_a_process(load_and_draw, source, mode)
    print(mode, source, result, file=sys.stderr)
    return result


def in_a_process(work: Callable[..., Any], *arguments: object) -> Any:
    """Its result, or how the process ended: it is stopped when the machine has too little memory left.

    A fork, so that modules are imported once. This process has one thread, and has allocated nothing.
    """
    here, there = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=lambda: there.send(work(*arguments)))
    process.start()
    there.close()
    while process.is_alive() and not here.poll(_LOOK_S):
        if psutil.virtual_memory().available < _LEAST_FREE_BYTES:
            process.kill()
    try:
        return here.recv()
    except EOFError:
        return {"exit": process.exitcode}
    finally:
        process.join()


def load_and_draw(source: str, mode: str) -> dict[str, object]:
    """Seconds and peaks of loading a model, and of 256 x 256 pixels in one step."""
    peak = _Peak()
    (flux_dev,) = build_engines({FLUX_DEV.endpoint_id: source}, CATALOG, device="cpu", threads=1, memory=mode).values()
    result: dict[str, object] = {"load": timed(flux_dev.load, peak), "plan": flux_dev.info.memory}
    fields = {"prompt": "a lake", "width": 256, "height": 256, "num_inference_steps": 1, "image_format": "png"}
    steps = flux_dev.generate(parse_input(fields | {"seed": 1, "guidance": 3.5}, FLUX_DEV))
    result["text"] = timed(lambda: next(steps), peak)
    result["step"] = timed(lambda: next(steps), peak)
    result["decode"] = timed(lambda: finish(steps), peak)
    return result


def timed(work: Callable[[], object], peak: "_Peak") -> dict[str, float]:
    """Seconds, and the most that the process held meanwhile."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    seconds = {"wall_s": round(time.perf_counter() - wall, 1), "cpu_s": round(time.process_time() - cpu, 1)}
    return seconds | peak.take()


class _Peak:
    """The largest values of a process's memory since they were last taken."""

    def __init__(self) -> None:
        self._most = (0, 0)
        threading.Thread(target=self._look, daemon=True).start()

    def take(self) -> dict[str, float]:
        """GiB, and begin anew."""
        anonymous, resident = self._now()
        most, self._most = self._most, (0, 0)
        names = ("anonymous_gib", "resident_gib")
        pairs = zip(names, most, (anonymous, resident), strict=True)
        return {name: round(max(pair) / 2**20, 2) for name, *pair in pairs}

    def _look(self) -> None:
        while True:
            now = self._now()
            self._most = (max(self._most[0], now[0]), max(self._most[1], now[1]))
            time.sleep(_LOOK_S)

    @staticmethod
    def _now() -> tuple[int, int]:
        lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
        sizes = {words[0]: int(words[1]) for words in lines if words and words[0] in ("RssAnon:", "VmRSS:")}
        return sizes["RssAnon:"], sizes["VmRSS:"]


def embedded_pair() -> dict[str, object]:
    """Bytes of the parameters of both engines, each tensor once, beside the sum over both; and the process's memory."""
    before = psutil.Process().memory_info().rss
    engines = build_engines(dict.fromkeys(CATALOG, "demo"), CATALOG, device="cpu", threads=1)
    modules: list[nn.Module] = []
    for engine in engines.values():
        assert isinstance(engine, FluxEngine)
        engine.load()
        model = engine._loaded()[0]
        modules += [model.transformer, model.vae, model.text._clip, model.text._t5]
    after = psutil.Process().memory_info().rss
    together = {parameter.data_ptr(): parameter.nbytes for module in modules for parameter in module.parameters()}
    sizes = compare(sum(together.values()), sum(map(size_bytes, modules)))
    return sizes | {"rss_growth_mb": round((after - before) / 1e6, 1)}


def true_size() -> dict[str, object]:
    """The same by counting: nothing is allocated."""
    common: list[nn.Module] = [meta_vae(TRUE_SIZES), meta_clip(TRUE_SIZES), meta_t5(TRUE_SIZES)]
    transformers = [meta_transformer(TRUE_SIZES, family) for family in (ModelFamily.DEV, ModelFamily.SCHNELL)]
    together = sum(size_bytes(module.to(torch.bfloat16)) for module in [*common, *transformers])
    return compare(together, together + sum(map(size_bytes, common)))


def size_bytes(module: nn.Module) -> int:
    return sum(parameter.nbytes for parameter in unique(module.parameters()))


def unique(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    return list({id(parameter): parameter for parameter in parameters}.values())


def compare(together: int, apart: int) -> dict[str, object]:
    return {
        "shared_mb": round(together / 1e6, 1),
        "apart_mb": round(apart / 1e6, 1),
        "ratio": round(together / apart, 3),
    }


if __name__ == "__main__":
    main()
