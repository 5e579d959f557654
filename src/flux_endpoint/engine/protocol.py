"""What the rest of the project knows of an engine."""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Protocol

from flux_endpoint.core.acceleration import Acceleration
from flux_endpoint.core.catalog import ModelFamily
from flux_endpoint.core.generation import GenerationRequest
from flux_endpoint.core.image_formats import ImageFormat


@dataclass(frozen=True, slots=True)
class StepDone:
    """One denoising step has finished.

    Attributes:
        step: 1 to `total`.
        total: number of steps of this picture.
        preview: makes a small JPEG of what the picture will become; to be called before the next step, by the thread
            that steps. It costs nothing until then. None for an engine without previews.
    """

    step: int
    total: int
    preview: Callable[[], bytes] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """A finished file.

    Attributes:
        data: the bytes of the file, request parameters inside.
        warnings: sentences for the client, e.g. that the prompt was cut; usually empty.
        acceleration: the level it was drawn at.
        latents: of a draft, the file to go on from; empty for a finished picture.
    """

    data: bytes
    image_format: ImageFormat
    width: int
    height: int
    warnings: tuple[str, ...] = ()
    acceleration: Acceleration = Acceleration.NONE
    latents: bytes = b""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What is loaded.

    Attributes:
        name: as written into pictures and listings, e.g. `black-forest-labs/FLUX.1-dev` or `demo`.
        notice: one line a user must see when the model is loaded (a licence, a limitation); may be empty.
        fingerprint: of the kind of worker that this process is, see `fingerprint.py`; known once the model is loaded.
        memory: how the model is kept in memory, and why, in one line; empty where there is none.
        controlnet: what is loaded beside it, short, as written into pictures that it steers; empty for none.
    """

    name: str
    family: ModelFamily
    device: str
    notice: str = ""
    fingerprint: str = ""
    memory: str = ""
    controlnet: str = ""


# Of a request that draws from no picture.
NO_SOURCES: Final[Mapping[str, bytes]] = MappingProxyType({})

# Slices of a picture: a step that is done, or None for some other part of it. What is returned at the end makes the
# file: in any thread, and without the model.
Drawing = Generator[StepDone | None, None, Callable[[], EncodedImage]]


def finish(drawing: Drawing, on_step: Callable[[StepDone], object] | None = None) -> EncodedImage:
    """Draw what is left of a picture in this thread, one slice right after the other, and encode it."""
    while True:
        try:
            step = next(drawing)
        except StopIteration as end:
            encode: Callable[[], EncodedImage] = end.value
            return encode()
        if step and on_step:
            on_step(step)


class Engine(Protocol):
    """One loaded model on one device. Used by one thread at a time."""

    @property
    def info(self) -> ModelInfo:
        """What is loaded, or will be by `load`."""
        ...

    def load(self) -> None:
        """Check the files, then read the weights onto the device. A second call does nothing.

        Raises:
            CheckpointError: the files are missing, damaged, of another model, or too large for this machine.
        """
        ...

    def generate(self, request: GenerationRequest, sources: Mapping[str, bytes] = NO_SOURCES) -> Drawing:
        """Make one picture: yields after every step and within long work beside the steps, returns what encodes it.

        Args:
            request: what to draw.
            sources: the files of the pictures, and of the draft, that it draws from, by their `sha256`.

        Closing the generator between two slices abandons the picture at no further cost. Several generators may be
        advanced in turn from one thread. The bytes depend on the request, the weights and the kind of worker only.

        Raises:
            InvalidRequest: its draft is of another model or kind of worker.
            NonFinite: the numbers became NaN or infinite on the way.
            OutOfMemory: the device has too little memory for it.
            DeviceFailed: the device is of no use to this process any more.
        """
        ...

    def time_step(self) -> float | None:
        """Seconds of one step of a picture that is the same everywhere, to be compared with other workers'.

        To be called while no picture is drawn. None where steps cannot be compared: on a CPU, whose cores others use,
        and while the weights are released.

        Raises:
            DeviceFailed: the device is of no use to this process any more.
        """
        ...

    def release(self, idle_s: float = 0) -> None:
        """Free the weights until the next picture, which loads them again and has the same bytes.

        While pictures are drawn, that waits for their end.

        Args:
            idle_s: only if no picture has been drawn for so long.
        """
        ...

    def close(self) -> None:
        """Free the weights; the engine cannot be used afterwards."""
        ...
