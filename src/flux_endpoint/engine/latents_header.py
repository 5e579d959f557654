"""What a file with latents says of itself. Without torch, for the engine that has none."""

from collections.abc import Mapping

from flux_endpoint.core.errors import InvalidRequest
from flux_endpoint.core.generation import GenerationRequest
from flux_endpoint.engine.protocol import ModelInfo


def latents_header(request: GenerationRequest, model: ModelInfo) -> dict[str, str]:
    """What must be the same in whatever goes on from a draft.

    Args:
        request: of the draft, or that goes on from it.
        model: that draws.
    """
    steps = request.stop_after or request.steps_done
    return {"model": model.name, "fingerprint": model.fingerprint, "steps": str(steps), "seed": str(request.seed)}


def check_latents(said: Mapping[str, str], request: GenerationRequest, model: ModelInfo) -> None:
    """Refuse latents that a model could not go on with to the same bytes.

    Args:
        said: the header of the file.
        request: that goes on from it.
        model: that is to go on.

    Raises:
        InvalidRequest: another model or kind of worker has begun, or the file is of another picture.
    """
    for name, value in latents_header(request, model).items():
        if said.get(name) != value:
            raise InvalidRequest(
                f"the draft was drawn with {name} {said.get(name)}, and this worker has {value}: "
                "send the input again without stop_after"
            )
