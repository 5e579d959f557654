"""Inputs by the names that other servers of FLUX give them."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from flux_endpoint.core.endpoint import EndpointSpec
from flux_endpoint.core.errors import InvalidParameter
from flux_endpoint.core.image_formats import IMAGE_FORMATS, ImageFormat, either, format_ending_in
from flux_endpoint.core.inputs import INPUTS, MAX_SEED
from flux_endpoint.core.submission import Submission

# By the other name: ours. What the table of inputs itself calls an alias is known there.
_OTHER_NAMES: Final[Mapping[str, str]] = {"guidance_scale": "guidance", "output_format": "image_format"}


def inputs_in(fields: Mapping[str, Any], default_format: ImageFormat, but_for: Iterable[str] = ()) -> dict[str, Any]:
    """What of a client's fields FLUX is told, in the names of the table of inputs; null counts as absent.

    Args:
        fields: as they were sent.
        default_format: of the file, where none is asked for.
        but_for: fields that mean something else in this dialect.

    Raises:
        InvalidParameter: there is no such format, or the seed is none.
    """
    names = {alias: row.name for row in INPUTS for alias in (*row.aliases, row.name)}
    inputs: dict[str, Any] = {}
    format_field = "image_format"
    for name, meaning in {**_OTHER_NAMES, **names}.items():
        if fields.get(name) is not None and name not in but_for:
            inputs[meaning] = fields[name]
            format_field = name if meaning == "image_format" else format_field
    wanted = inputs.get("image_format", default_format.name)
    image_format = format_ending_in(wanted) if isinstance(wanted, str) else None
    if image_format is None:
        raise InvalidParameter(format_field, f"must be {either([repr(known) for known in IMAGE_FORMATS])}")
    return inputs | {"image_format": image_format.name}


def submission_of(spec: EndpointSpec, inputs: Mapping[str, Any]) -> Submission:
    """A request for one picture of any size. Seeds beyond 32 bits, which other servers take, are folded.

    Raises:
        InvalidParameter: the first input that is wrong, with its limit.
    """
    seed = inputs.get("seed")
    folded = {"seed": seed % (MAX_SEED + 1)} if type(seed) is int and seed >= 0 else {}
    accepted = spec.accept({**inputs, **folded}, any_size=True)
    return Submission(accepted.input, accepted.cost_usd)
