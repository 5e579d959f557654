"""Latents of a draft as a file, so that another process goes on with the very numbers: safetensors, bit for bit."""

from collections.abc import Callable, Mapping

from safetensors.torch import load, save
from torch import Tensor

from flux_endpoint.core.drafts import read_header, write_header
from flux_endpoint.core.generation import GenerationRequest
from flux_endpoint.engine.denoise import Remembered, is_remembered
from flux_endpoint.engine.latents_header import check_latents, latents_header
from flux_endpoint.engine.protocol import ModelInfo

_LATENTS = "latents"
_VELOCITY = "velocity."


def latents_writer(
    latents: Tensor, remembered: Remembered, request: GenerationRequest, model: ModelInfo
) -> Callable[[], bytes]:
    """What makes the file of a draft, in any thread: the numbers are taken off the device here.

    Args:
        latents: (1, tokens, depth), packed, as the last step of the draft has left them.
        remembered: see `denoise.extrapolated`.
        request: of one picture; where it is no draft, the file is empty.
        model: that draws it.
    """
    if not request.stop_after:
        return bytes
    needed = remembered if is_remembered(request.stop_after) else []
    tensors = {_LATENTS: latents, **{f"{_VELOCITY}{step}": velocity for step, velocity in needed}}
    # Of one step each: what is drawn next must not change them.
    kept = {name: tensor.cpu().clone().contiguous() for name, tensor in tensors.items()}

    def write() -> bytes:
        # The library would draw the order of what is said by lot (findings/safetensors_same_content_other_bytes.sh).
        return write_header(latents_header(request, model), save(kept))

    return write


def read_latents(
    files: Mapping[str, bytes], request: GenerationRequest, model: ModelInfo, first: Tensor
) -> tuple[Tensor, Remembered]:
    """The latents and what is remembered, as they were when the draft stopped, on the device of the model.

    Args:
        files: by their `sha256`.
        request: of one picture.
        model: that is to go on.
        first: latents of a picture that is no draft's, with which nothing is remembered.

    Raises:
        InvalidRequest: another model or kind of worker has begun, or the file is of another picture.
    """
    if request.draft is None:
        return first, []
    data = files[request.draft.sha256]
    check_latents(read_header(data), request, model)
    tensors = {name: tensor.to(first.device) for name, tensor in load(data).items()}
    latents = tensors.pop(_LATENTS)
    numbered = {int(name.removeprefix(_VELOCITY)): tensor for name, tensor in tensors.items()}
    return latents, sorted(numbered.items(), key=lambda one: one[0])
