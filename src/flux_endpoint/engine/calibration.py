"""How fast a device is: one step of a picture that is the same everywhere."""

import time
from collections.abc import Callable
from typing import Final

from flux_endpoint.core.generation import GenerationRequest
from flux_endpoint.core.image_formats import DEFAULT_FORMAT
from flux_endpoint.engine.protocol import Drawing, StepDone

# Large enough to keep a GPU busy, and small beside the pictures that it is to draw. The first step also chooses kernels
# and reserves memory; of the others the fastest counts, which nothing has disturbed.
CALIBRATION: Final = GenerationRequest(
    prompt="",
    negative_prompt="",
    width=512,
    height=512,
    num_inference_steps=4,
    guidance=3.5,
    true_cfg_scale=1.0,
    seed=0,
    image_format=DEFAULT_FORMAT,
)


def time_step(
    drawing: Drawing, finish_work: Callable[[], object], monotonic_s: Callable[[], float] = time.perf_counter
) -> float:
    """Seconds of the fastest step but the first; the picture is dropped after its last step.

    Args:
        drawing: of `CALIBRATION`, not begun.
        finish_work: waits until the device has done what it was told.
        monotonic_s: seconds.
    """
    seconds: list[float] = []
    began_s: float | None = None
    for event in drawing:
        finish_work()
        ended_s = monotonic_s()
        if isinstance(event, StepDone):
            if began_s is not None:
                seconds.append(ended_s - began_s)
            began_s = ended_s
            if event.step == event.total:
                break
    drawing.close()
    return min(seconds)
