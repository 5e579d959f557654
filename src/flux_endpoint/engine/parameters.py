"""The parameters of a picture as they are written into its file."""

from flux_endpoint import __version__
from flux_endpoint.core.generation import GenerationRequest
from flux_endpoint.engine.protocol import ModelInfo

ParameterValue = str | int | float

SOFTWARE = f"flux-endpoint {__version__}"


def picture_parameters(request: GenerationRequest, model: ModelInfo) -> dict[str, ParameterValue]:
    """Everything needed to draw the picture again, in the order in which it is shown.

    Nothing in it depends on the time, and on the machine no more than the pixels do: the same request must give the
    same bytes on every worker of one kind.
    """
    return {
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        "seed": request.seed,
        "width": request.width,
        "height": request.height,
        "steps": request.num_inference_steps,
        "guidance": request.guidance,
        "true_cfg_scale": request.true_cfg_scale,
        "model": model.name,
        "software": SOFTWARE,
        "fingerprint": model.fingerprint,
    }
