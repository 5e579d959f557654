"""CUDA graphs: all that one pass asks of the device, sent at once. One for each size of picture, a few at a time."""

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import torch
from torch import Tensor

_LOG = logging.getLogger(__name__)

# Sizes whose graphs are kept; all of them share the memory that one needs while it runs.
MOST_GRAPHS: Final = 8
# Libraries choose and allocate at their first calls, which a graph must not do.
_WARM_UPS: Final = 2

Run = Callable[..., Tensor]
_Key = tuple[tuple[torch.Size, torch.dtype], ...]


class Recorder(Protocol):
    """What a device offers: `CudaRecorder`."""

    def record(self, run: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
        """Record what a function asks of the device, without its results being used.

        Args:
            run: works on tensors whose places stay, and never waits for the device.

        Returns:
            The tensor that the result will be in, and what does it all again from what is in the tensors then.
        """
        ...


class CudaRecorder:
    """Records on a CUDA device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        # One after another runs and is copied from: they need not keep their memory apart.
        self._pool = torch.cuda.graph_pool_handle()

    def record(self, run: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
        """See `Recorder.record`."""
        stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UPS):
                run()
        torch.cuda.current_stream(self._device).wait_stream(stream)
        torch.cuda.synchronize(self._device)
        graph = torch.cuda.CUDAGraph()
        # Other threads may use the device meanwhile, for a preview or another picture's pixels.
        with torch.cuda.graph(graph, pool=self._pool, stream=stream, capture_error_mode="thread_local"):
            result = run()
        return result, graph.replay


@dataclass(frozen=True, slots=True, eq=False)
class _Recording:
    inputs: tuple[Tensor, ...]
    result: Tensor
    replay: Callable[[], None]


class GraphedPass:
    """A pass that is recorded for each size at the first picture of that size.

    A recording is kept only if it gives what the pass itself gave, bit for bit; so which sizes have one, and which
    had to make room, changes times and no picture. One that cannot be recorded is run as it is.

    Args:
        run: from tensors alone to one tensor.
        recorder: of the device.
        most: recordings that are kept; the one that was not used for longest makes room.
    """

    def __init__(self, run: Run, recorder: Recorder, most: int = MOST_GRAPHS) -> None:
        self._run = run
        self._recorder = recorder
        self._most = most
        # None for a size that is run as it is.
        self._recordings: OrderedDict[_Key, _Recording | None] = OrderedDict()

    @torch.inference_mode()
    def __call__(self, *inputs: Tensor) -> Tensor:
        """The pass's result, in memory of its own."""
        key = tuple((tensor.shape, tensor.dtype) for tensor in inputs)
        if key not in self._recordings:
            result = self._run(*inputs)
            self._recordings[key] = self._recorded(inputs, result)
            if len(self._recordings) > self._most:
                self._recordings.popitem(last=False)
            return result
        self._recordings.move_to_end(key)
        recording = self._recordings[key]
        return self._run(*inputs) if recording is None else _replayed(recording, inputs)

    @property
    def has_recorded(self) -> bool:
        """Whether there is a recording of any size."""
        return any(recording is not None for recording in self._recordings.values())

    def _recorded(self, inputs: tuple[Tensor, ...], expected: Tensor) -> _Recording | None:
        try:
            places = tuple(tensor.clone() for tensor in inputs)
            recording = _Recording(places, *self._recorder.record(lambda: self._run(*places)))
            is_right = torch.equal(_replayed(recording, inputs), expected)
        except Exception as error:
            # Too little memory, or an operation that waits for the device: the pass works without it.
            _LOG.warning("no CUDA graph for a size: %s", str(error).partition("\n")[0])
            return None
        if not is_right:
            _LOG.warning("no CUDA graph for a size: it gives other bits")
            return None
        return recording


def _replayed(recording: _Recording, inputs: tuple[Tensor, ...]) -> Tensor:
    for place, tensor in zip(recording.inputs, inputs, strict=True):
        place.copy_(tensor)
    recording.replay()
    return recording.result.clone()
