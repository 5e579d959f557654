"""Pixels to a file, with the request inside it; and the way back from a file to the request."""

import io
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from PIL import ExifTags, Image, PngImagePlugin

from flux_endpoint.core.generation import ImageFormat
from flux_endpoint.engine.exif import comment_bytes, comment_text, exif_block
from flux_endpoint.engine.parameters import ParameterValue

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Level 1 takes 91 ms at 1024x1024 where the default takes 240 ms, for a few percent more bytes.
_PNG_COMPRESS_LEVEL: Final = 1
_JPEG_QUALITY: Final = 95
# The whole EXIF block of a JPEG is one segment of at most 65,533 bytes; the rest of it needs less than 1,000.
_MAX_COMMENT_BYTES: Final = 64_000
_TEXTS: Final = ("prompt", "negative_prompt", "model", "software", "fingerprint")


def encode_image(
    pixels: "NDArray[np.uint8]", image_format: ImageFormat, parameters: Mapping[str, ParameterValue]
) -> bytes:
    """Write a picture file that carries its own parameters and no time: same input, same bytes.

    Args:
        pixels: (height, width, 3), 8-bit RGB.
        image_format: PNG is lossless; JPEG has quality 95.
        parameters: see `picture_parameters`. PNG holds one text chunk each; JPEG holds them as JSON in EXIF's
            UserComment.
    """
    image = Image.fromarray(pixels)
    buffer = io.BytesIO()
    if image_format is ImageFormat.PNG:
        image.save(buffer, "PNG", compress_level=_PNG_COMPRESS_LEVEL, pnginfo=_png_texts(parameters))
    else:
        exif = exif_block(str(parameters["software"]), _comment(parameters), *image.size)
        image.save(buffer, "JPEG", quality=_JPEG_QUALITY, exif=exif)
    return buffer.getvalue()


def read_parameters(data: bytes) -> dict[str, Any]:
    """The parameters `encode_image` wrote into a file.

    Args:
        data: a PNG or JPEG file.

    Returns:
        Names and values as `picture_parameters` made them; empty when the file has none.

    Raises:
        PIL.UnidentifiedImageError: not a picture.
    """
    with Image.open(io.BytesIO(data)) as image:
        if isinstance(image, PngImagePlugin.PngImageFile):
            texts = image.text
            return {name: str(text) if name in _TEXTS else json.loads(text) for name, text in texts.items()}
        comment = image.getexif().get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.UserComment, b"")
    text = comment_text(comment)
    parameters: dict[str, Any] = {} if text is None else json.loads(text)
    return parameters


def _png_texts(parameters: Mapping[str, ParameterValue]) -> PngImagePlugin.PngInfo:
    texts = PngImagePlugin.PngInfo()
    for name, value in parameters.items():
        texts.add_text(name, str(value))
    return texts


def _comment(parameters: Mapping[str, ParameterValue]) -> str:
    """The parameters as JSON; texts far longer than any FLUX model reads are shortened until the block holds them."""
    shortened = dict(parameters)
    comment = _json(shortened)
    while len(comment_bytes(comment)) > _MAX_COMMENT_BYTES:
        longest = max(("prompt", "negative_prompt"), key=lambda name: len(str(shortened[name])))
        text = str(shortened[longest])
        shortened[longest] = text[: len(text) * 3 // 4]
        shortened["shortened"] = 1
        comment = _json(shortened)
    return comment


def _json(parameters: Mapping[str, ParameterValue]) -> str:
    return json.dumps(parameters, ensure_ascii=False)
