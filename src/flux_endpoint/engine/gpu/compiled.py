"""Blocks as torch's compiler makes them: two kernels' worth of code for all 57 blocks and every size of picture."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import torch
from torch import Tensor

from flux_endpoint.engine.blocks import DoubleBlock, Pair, SingleBlock
from flux_endpoint.engine.forward import FusedTransformer

# Choose among kernels by rules, not by timing them: else the last bits could change from one start to the next.
_OPTIONS: Final[dict[str, Any]] = {"deterministic": True}

_Function = TypeVar("_Function", bound=Callable[..., Any])


def compile_blocks(fused: FusedTransformer, backend: str, first: Callable[[], Tensor]) -> Tensor:
    """Let a pass run its blocks compiled.

    Each kind of block is compiled once, while `first` runs, with the number of tokens left open. What it was compiled
    with, and so what it computes, does not depend on the pictures that come later: see `as_compiled`.

    Args:
        fused: that is changed; when this raises it must not be used any more.
        backend: of torch's compiler.
        first: one pass of `fused`. Numbers of text and image tokens, and of both, must all differ.

    Returns:
        What `first` gave.
    """
    double, single = compiled(_double, backend), compiled(_single, backend)

    def open_double(block: DoubleBlock, image: Tensor, text: Tensor, modulation: Tensor, tables: Pair) -> Pair:
        leave_open((0,), image, text, *tables)
        return double(block, image, text, modulation, tables)

    def open_single(block: SingleBlock, hidden: Tensor, modulation: Tensor, tables: Pair) -> Tensor:
        leave_open((0,), hidden, *tables)
        return single(block, hidden, modulation, tables)

    fused.run_double, fused.run_single = open_double, open_single
    result = first()
    fused.run_double, fused.run_single = double, single
    return result


def compiled(function: _Function, backend: str) -> _Function:
    """A function that is compiled as a whole at its first call."""
    options = _OPTIONS if backend == "inductor" else None
    compile_it: Any = torch.compile
    result: _Function = compile_it(function, fullgraph=True, backend=backend, options=options)
    return result


def leave_open(dimensions: tuple[int, ...], *tensors: Tensor) -> None:
    """Tell the compiler that some sides of tensors can have any length; it raises where it cannot leave them open."""
    mark: Any = torch._dynamo.mark_dynamic
    for tensor in tensors:
        for dimension in dimensions:
            mark(tensor, dimension)


@contextmanager
def as_compiled() -> Iterator[None]:
    """Compile nothing more: what fits no compiled code runs as it is written.

    So what a picture is computed with follows from its size and from what was compiled when the model was loaded, and
    never from the pictures before it. For the engine's thread only: torch keeps this for the whole process, and two
    threads would leave it set behind them (findings/torch_compiler_stance_of_two_threads.sh).
    """
    with torch.compiler.set_stance("eager_on_recompile"):
        yield


def _double(block: DoubleBlock, image: Tensor, text: Tensor, modulation: Tensor, tables: Pair) -> Pair:
    result: Pair = block(image, text, modulation, tables)
    return result


def _single(block: SingleBlock, hidden: Tensor, modulation: Tensor, tables: Pair) -> Tensor:
    result: Tensor = block(hidden, modulation, tables)
    return result
