"""What dev and schnell need together when they share text encoders and autoencoder, beside what they need apart.

Two answers: the bytes of all tensors of the embedded pair, counted in memory after loading, and the same at FLUX.1's
true size, counted from modules without memory.

    python -m benchmarks.memory --out benchmarks/results/memory.json
"""

import argparse
import json
from collections.abc import Iterable
from pathlib import Path

import psutil
import torch
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from benchmarks.machine import describe_machine
from benchmarks.random_flux import TRUE_SIZES, meta_transformer, meta_vae
from flux_endpoint.core.catalog import CATALOG, ModelFamily
from flux_endpoint.engine.engine import FluxEngine
from flux_endpoint.engine.factory import build_engines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    result = {
        "machine": describe_machine(("torch", "diffusers", "transformers")),
        "embedded_pair_fp32": embedded_pair(),
        "true_size_bf16": true_size(),
    }
    text = json.dumps(result, indent=2)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n")


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
    with torch.device("meta"):
        clip = CLIPTextModel(CLIPTextConfig(**TRUE_SIZES.clip))
        t5 = T5EncoderModel(T5Config(vocab_size=32128, feed_forward_proj="gated-gelu", **TRUE_SIZES.t5))
    common = [meta_vae(TRUE_SIZES), clip, t5]
    transformers = [meta_transformer(TRUE_SIZES, family) for family in ModelFamily]
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
