"""The parameters of a picture as they are written into its file."""

from flux_endpoint import __version__
from flux_endpoint.core.generation import GenerationRequest
from flux_endpoint.core.inputs import INPUTS, LevelName, Text
from flux_endpoint.engine.protocol import ModelInfo

ParameterValue = str | int | float

SOFTWARE = f"flux-endpoint {__version__}"
_TEXTS = {"model", "software", "fingerprint"}
_TEXTS |= {row.in_file for row in INPUTS if isinstance(row.kind, Text | LevelName)}


def picture_parameters(request: GenerationRequest, model: ModelInfo) -> dict[str, ParameterValue]:
    """Everything needed to draw the picture again, in the order in which it is shown.

    Nothing in it depends on the time, and on the machine no more than the pixels do: the same request must give the
    same bytes on every worker of one kind.
    """
    fields = request.to_input()
    shown = {row.in_file: fields[row.name] for row in INPUTS if row.in_file}
    return shown | {"model": model.name, "software": SOFTWARE, "fingerprint": model.fingerprint}


def is_text(name: str) -> bool:
    """Whether a value of `picture_parameters` is a text: files that hold nothing but texts do not say."""
    return name in _TEXTS
