"""What LoRAs cost: a pass with none, one and three of them, at level none and at the levels of a CPU, and their start.

Passes of the embedded model and of a random one with half of FLUX.1's width, and where PEFT is installed the same with
three adapters of diffusers. CPU time, because a busy neighbour changes it less.

    python -m benchmarks.loras --rank 16
"""

import argparse
import importlib.util
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from diffusers import FluxTransformer2DModel
from safetensors.torch import save_file

from benchmarks.machine import describe_machine
from benchmarks.random_flux import REDUCED_SIZES
from flux_endpoint.core.catalog import ModelFamily
from flux_endpoint.engine.denoise import Conditions
from flux_endpoint.engine.forward import Build, FusedTransformer
from flux_endpoint.engine.linear import fast_dtype
from flux_endpoint.engine.lora.active import ActiveLoras, acting_on
from flux_endpoint.engine.lora.adapter import read_adapter
from flux_endpoint.engine.lora.merged import merged
from flux_endpoint.engine.sources import locate, parse_source
from flux_endpoint.engine.text import PromptEmbeds
from flux_endpoint.files.lora_names import Tower

RESULTS = Path(__file__).parent / "results" / "loras.json"
CPU = torch.device("cpu")
LORAS, TEXT_TOKENS = 3, 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument(
        "--tokens", type=int, default=256, help="of the picture; 256 are 1024 x 1024 of the embedded one"
    )
    parser.add_argument("--passes", type=int, default=9)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folder = locate(parse_source("demo"), ModelFamily.DEV, download=False).folder
    models = {
        "embedded": lambda: FluxTransformer2DModel.from_pretrained(folder / "transformer", torch_dtype=torch.float32),
        "half width": lambda: FluxTransformer2DModel(**REDUCED_SIZES.transformer, guidance_embeds=True),
    }
    figures = {name: measure(make().eval().requires_grad_(False), arguments) for name, make in models.items()}
    for name, figure in figures.items():
        print(name, json.dumps(figure))
    record = {"machine": describe_machine(("torch", "diffusers")) | {"threads": 1}, "figures": figures}
    RESULTS.write_text(json.dumps(record | {"rank": arguments.rank, "tokens": arguments.tokens}, indent=1) + "\n")


@torch.inference_mode()
def measure(transformer: FluxTransformer2DModel, arguments: argparse.Namespace) -> dict[str, float]:
    inputs = inputs_of(transformer, arguments.tokens)
    towers = {Tower.TRANSFORMER: transformer}
    with tempfile.TemporaryDirectory() as folder:
        files = [write_lora(transformer, Path(folder) / f"{n}.safetensors", arguments.rank, n) for n in range(LORAS)]
        reading, adapters = zip(
            *(timed(lambda f=f: read_adapter(f, towers, CPU, torch.float32)) for f in files), strict=True
        )

        def run(count: int) -> Callable[[], object]:
            loras = ActiveLoras([(adapter, 0.5) for adapter in adapters[:count]]) if count else None

            def once() -> object:
                with acting_on(loras, Tower.TRANSFORMER, transformer):
                    return transformer(**inputs)

            return once

        runs = {count: run(count) for count in (0, 1, LORAS)}
        # In turn, so that a change of the machine's pace meets all of them.
        times = {count: [] for count in runs}
        for _ in range(arguments.passes):
            for count, once in runs.items():
                times[count].append(timed(once)[0])
        step_s = {count: median(some) for count, some in times.items()}
        figure = {
            "pass_ms": step_s[0] * 1_000,
            "one_by_none": step_s[1] / step_s[0],
            "three_by_none": step_s[LORAS] / step_s[0],
            "reading_one_by_pass": median(reading) / step_s[0],
        }
        loras = ActiveLoras([(adapter, 0.5) for adapter in adapters])
        for name, dtype in (("regular", torch.float32), ("high", fast_dtype())):
            figure |= at_a_level(name, dtype, transformer, loras, inputs, arguments.passes)
        if importlib.util.find_spec("peft"):
            figure["three_of_diffusers_by_none"] = diffusers_s(transformer, files, inputs, arguments.passes) / step_s[0]
    return {name: round(value, 3) for name, value in figure.items()}


def at_a_level(
    name: str,
    dtype: torch.dtype,
    transformer: FluxTransformer2DModel,
    loras: ActiveLoras,
    inputs: dict[str, torch.Tensor],
    passes: int,
) -> dict[str, float]:
    """A pass of a level with three LoRAs by one without, and the time until it can begin by one without."""

    def ready(changed: FluxTransformer2DModel) -> Callable[[], object]:
        fused = FusedTransformer(changed, Build(dtype))
        prompt = PromptEmbeds(inputs["encoder_hidden_states"], inputs["pooled_projections"], TEXT_TOKENS, TEXT_TOKENS)
        conditions = Conditions(prompt, None, 1.0, inputs["guidance"], inputs["img_ids"])
        plan = fused.plan(torch.tensor([500.0]), prompt, conditions)
        return lambda: fused.velocity(plan, 0, inputs["hidden_states"])

    begin_s, with_three = timed(lambda: ready(merged(transformer, loras)))
    runs = {"none": ready(transformer), "three": with_three}
    times: dict[str, list[float]] = {which: [] for which in runs}
    for _ in range(passes):
        for which, run in runs.items():
            times[which].append(timed(run)[0])
    none_s = median(times["none"])
    return {f"three_by_none_{name}": median(times["three"]) / none_s, f"beginning_by_pass_{name}": begin_s / none_s}


def diffusers_s(transformer: FluxTransformer2DModel, files: list[Path], inputs: dict, passes: int) -> float:
    """A pass with the adapters of diffusers and PEFT; they stay in the transformer."""
    names = [f"lora_{number}" for number in range(len(files))]
    with torch.inference_mode(mode=False):
        for name, file in zip(names, files, strict=True):
            transformer.load_lora_adapter(file.parent, weight_name=file.name, adapter_name=name, prefix="transformer")
        transformer.set_adapters(names, weights=[0.5] * len(names))
    return median(timed(lambda: transformer(**inputs))[0] for _ in range(passes))


def inputs_of(transformer: FluxTransformer2DModel, tokens: int) -> dict[str, torch.Tensor]:
    config, side = transformer.config, int(tokens**0.5)
    ids = torch.zeros(side * side, 3)
    ids[:, 1], ids[:, 2] = torch.arange(side * side) // side, torch.arange(side * side) % side
    return {
        "hidden_states": torch.randn(1, side * side, config.in_channels),
        "timestep": torch.tensor([0.5]),
        "guidance": torch.tensor([3.5]),
        "pooled_projections": torch.randn(1, config.pooled_projection_dim),
        "encoder_hidden_states": torch.randn(1, TEXT_TOKENS, config.joint_attention_dim),
        "txt_ids": torch.zeros(TEXT_TOKENS, 3),
        "img_ids": ids,
    }


def write_lora(transformer: FluxTransformer2DModel, file: Path, rank: int, seed: int) -> Path:
    """A LoRA of all linear layers of the blocks but the modulations, as most trainers make them."""
    generator, tensors = torch.Generator().manual_seed(seed), {}
    for name, module in transformer.named_modules():
        if isinstance(module, torch.nn.Linear) and "transformer_blocks" in name and "norm" not in name:
            rows, columns = module.weight.shape
            tensors[f"transformer.{name}.lora_A.weight"] = torch.randn(rank, columns, generator=generator) * 0.01
            tensors[f"transformer.{name}.lora_B.weight"] = torch.randn(rows, rank, generator=generator) * 0.01
    save_file({name: tensor.bfloat16() for name, tensor in tensors.items()}, file)
    return file


def timed(work: Callable[[], object]) -> tuple[float, object]:
    start_s = time.process_time()
    result = work()
    return time.process_time() - start_s, result


if __name__ == "__main__":
    main()
