"""The parameters of a picture as they are written into its file."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from flux_endpoint import __version__
from flux_endpoint.core.generation import GenerationRequest
from flux_endpoint.core.image_formats import ImageFormat
from flux_endpoint.core.inputs import INPUTS
from flux_endpoint.core.lora_places import told_name
from flux_endpoint.core.marks import PROMPTS
from flux_endpoint.core.source_picture import PICTURES
from flux_endpoint.engine.protocol import ModelInfo

# LoRAs are a list of objects, as in a request.
ParameterValue = str | int | float | list[dict[str, str | float]]

SOFTWARE = f"flux-endpoint {__version__}"
# EXIF and XMP are a segment of a JPEG each, of at most 65,533 bytes; what is around them needs less than 1,000.
MAX_JPEG_MARK_BYTES = 64_000


@dataclass(frozen=True, slots=True)
class FileRules:
    """What the settings say of all files that an engine makes.

    Attributes:
        has_prompts: whether prompts are written into them.
        sign: makes a signed file of a finished one, or raises `SigningFailed`; None to leave them unsigned.
    """

    has_prompts: bool = True
    sign: Callable[[bytes, ImageFormat], bytes] | None = None

    @property
    def parts(self) -> dict[str, str]:
        """What they add to a fingerprint: other bytes, another kind of worker."""
        prompts = {} if self.has_prompts else {"prompts": "left out"}
        return prompts if self.sign is None else {**prompts, "files": "signed"}

    def finish(self, data: bytes, image_format: ImageFormat) -> bytes:
        """The file to hand out, of one that is complete but for a signature."""
        return data if self.sign is None else self.sign(data, image_format)


DEFAULT_RULES: Final = FileRules()


def picture_parameters(
    request: GenerationRequest, model: ModelInfo, rules: FileRules = DEFAULT_RULES
) -> dict[str, ParameterValue]:
    """Everything needed to draw the picture again, in the order in which it is shown.

    Nothing in it depends on the time, and on the machine no more than the pixels do: the same request must give the
    same bytes on every worker of one kind.
    """
    fields = request.to_input()
    # Of other pictures: which files they were.
    fields |= {name: one.sha256 for name in PICTURES if (one := getattr(request, name))}
    if request.loras:
        fields["loras"] = [
            {"path": told_name(one.path), "scale": one.scale, "sha256": one.sha256} for one in request.loras
        ]
    left_out = () if rules.has_prompts else PROMPTS
    told = (row for row in INPUTS if row.in_file and row.in_file not in left_out)
    shown = {row.in_file: fields[row.name] for row in told if fields.get(row.name) is not None}
    if request.control_scale is not None:
        shown["controlnet"] = model.controlnet
    return shown | {"model": model.name, "software": SOFTWARE, "fingerprint": model.fingerprint}
