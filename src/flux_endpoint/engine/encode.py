"""Pixels to a file, with the request inside it; and the way back from a file to the request."""

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from PIL import ExifTags, Image, PngImagePlugin, features

from flux_endpoint.core.image_formats import JPEG, PNG, WEBP, ImageFormat
from flux_endpoint.engine.exif import comment_bytes, comment_text, exif_block
from flux_endpoint.engine.parameters import ParameterValue, is_text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Level 1 takes 91 ms at 1024x1024 where the default takes 240 ms, for a few percent more bytes.
_PNG_COMPRESS_LEVEL: Final = 1
_JPEG_QUALITY: Final = 95
_WEBP_QUALITY: Final = 90
# The whole EXIF block of a JPEG is one segment of at most 65,533 bytes; the rest of it needs less than 1,000.
_MAX_COMMENT_BYTES: Final = 64_000

Parameters = Mapping[str, ParameterValue]


@dataclass(frozen=True, slots=True)
class Encoder:
    """The engine's half of a row of `core/image_formats.py`.

    Attributes:
        save: writes a picture with its parameters, and no time, into a file.
        library: name and version of what decides on the bytes.
    """

    save: Callable[[Image.Image, Parameters, BinaryIO], None]
    library: Callable[[], str]


def encode_image(pixels: "NDArray[np.uint8]", image_format: ImageFormat, parameters: Parameters) -> bytes:
    """Write a picture file that carries its own parameters and no time: same input, same bytes.

    Args:
        pixels: (height, width, 3), 8-bit RGB.
        image_format: PNG is lossless; JPEG has quality 95, WebP 90.
        parameters: see `picture_parameters`. PNG holds one text chunk each; the others hold them as JSON in EXIF's
            UserComment.
    """
    return _encode(Image.fromarray(pixels), image_format, parameters)


def encode_flat(image_format: ImageFormat, width_px: int, height_px: int, seed: int, parameters: Parameters) -> bytes:
    """A picture of one of 128 greys, chosen by the low 7 bits of the seed; for `FakeEngine`."""
    grey = 2 * (seed & 0x7F)
    return _encode(Image.new("RGB", (width_px, height_px), (grey, grey, grey)), image_format, parameters)


def _encode(image: Image.Image, image_format: ImageFormat, parameters: Parameters) -> bytes:
    buffer = io.BytesIO()
    ENCODERS[image_format.name].save(image, parameters, buffer)
    return buffer.getvalue()


def _save_jpeg(image: Image.Image, parameters: Parameters, file: BinaryIO) -> None:
    image.save(file, "JPEG", quality=_JPEG_QUALITY, exif=_exif(image, _shortened(parameters)))


def _save_png(image: Image.Image, parameters: Parameters, file: BinaryIO) -> None:
    image.save(file, "PNG", compress_level=_PNG_COMPRESS_LEVEL, pnginfo=_png_texts(parameters))


def _save_webp(image: Image.Image, parameters: Parameters, file: BinaryIO) -> None:
    image.save(file, "WEBP", quality=_WEBP_QUALITY, exif=_exif(image, parameters))


def _jpeg_library() -> str:
    flavour = features.version_feature("libjpeg_turbo") if features.check_feature("libjpeg_turbo") else None
    return f"libjpeg-turbo {flavour}" if flavour else f"libjpeg {features.version_codec('jpg')}"


def _png_library() -> str:
    flavour = features.version_feature("zlib_ng") if features.check_feature("zlib_ng") else None
    return f"zlib-ng {flavour}" if flavour else f"zlib {features.version_codec('zlib')}"


def _webp_library() -> str:
    return f"libwebp {features.version_module('webp')}"


ENCODERS: Final[dict[str, Encoder]] = {
    JPEG.name: Encoder(_save_jpeg, _jpeg_library),
    PNG.name: Encoder(_save_png, _png_library),
    WEBP.name: Encoder(_save_webp, _webp_library),
}


def read_parameters(data: bytes) -> dict[str, Any]:
    """The parameters `encode_image` wrote into a file.

    Args:
        data: a file of one of our formats.

    Returns:
        Names and values as `picture_parameters` made them; empty when the file has none.

    Raises:
        PIL.UnidentifiedImageError: not a picture.
    """
    with Image.open(io.BytesIO(data)) as image:
        if isinstance(image, PngImagePlugin.PngImageFile):
            texts = image.text
            return {name: str(text) if is_text(name) else json.loads(text) for name, text in texts.items()}
        comment = image.getexif().get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.UserComment, b"")
    text = comment_text(comment)
    parameters: dict[str, Any] = {} if text is None else json.loads(text)
    return parameters


def _exif(image: Image.Image, parameters: Parameters) -> bytes:
    return exif_block(str(parameters["software"]), _json(parameters), *image.size)


def _png_texts(parameters: Parameters) -> PngImagePlugin.PngInfo:
    texts = PngImagePlugin.PngInfo()
    for name, value in parameters.items():
        texts.add_text(name, str(value))
    return texts


def _shortened(parameters: Parameters) -> Parameters:
    """The parameters; texts far longer than any FLUX model reads are cut until the EXIF block of a JPEG holds all."""
    shortened = dict(parameters)
    while len(comment_bytes(_json(shortened))) > _MAX_COMMENT_BYTES:
        longest = max(("prompt", "negative_prompt"), key=lambda name: len(str(shortened[name])))
        text = str(shortened[longest])
        shortened[longest] = text[: len(text) * 3 // 4]
        shortened["shortened"] = 1
    return shortened


def _json(parameters: Parameters) -> str:
    return json.dumps(parameters, ensure_ascii=False)
