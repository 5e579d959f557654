"""Pixels to a file, with the request inside it; and the way back from a file to the request."""

import hashlib
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

import isal
import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray
from PIL import ExifTags, Image, PngImagePlugin, features

from flux_endpoint.core.image_formats import JPEG, PNG, WEBP, ImageFormat
from flux_endpoint.engine.exif import comment_bytes, comment_text, exif_block
from flux_endpoint.engine.parameters import ParameterValue, is_text
from flux_endpoint.engine.png import SIGNATURE, png_chunk, png_header

# The levels above gain next to nothing on filtered pixels, and the bytes of level 3 depend on the processor:
# docs/decisions/0030-png-by-isa-l.md
_PNG_COMPRESS_LEVEL: Final = 1
_FILTER_LEFT: Final = 1
_CHANNELS: Final = 3
_JPEG_QUALITY: Final = 95
_WEBP_QUALITY: Final = 90
# The whole EXIF block of a JPEG is one segment of at most 65,533 bytes; the rest of it needs less than 1,000.
_MAX_COMMENT_BYTES: Final = 64_000

Parameters = Mapping[str, ParameterValue]
Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Encoder:
    """The engine's half of a row of `core/image_formats.py`.

    Attributes:
        save: writes a picture with its parameters, and no time, into a file.
        library: name and version of what decides on the bytes.
    """

    save: Callable[[Pixels, Parameters, BinaryIO], None]
    library: Callable[[], str]


def encode_image(pixels: Pixels, image_format: ImageFormat, parameters: Parameters) -> bytes:
    """Write a picture file that carries its own parameters and no time: same input, same bytes.

    Args:
        pixels: (height, width, 3), 8-bit RGB.
        image_format: PNG is lossless; JPEG has quality 95, WebP 90.
        parameters: see `picture_parameters`. PNG holds one text chunk each; the others hold them as JSON in EXIF's
            UserComment.
    """
    buffer = io.BytesIO()
    ENCODERS[image_format.name].save(pixels, parameters, buffer)
    return buffer.getvalue()


def encode_flat(image_format: ImageFormat, width_px: int, height_px: int, seed: int, parameters: Parameters) -> bytes:
    """A picture of one of 128 greys, chosen by the low 7 bits of the seed; for `FakeEngine`."""
    grey = 2 * (seed & 0x7F)
    return encode_image(np.full((height_px, width_px, _CHANNELS), grey, np.uint8), image_format, parameters)


def _save_jpeg(pixels: Pixels, parameters: Parameters, file: BinaryIO) -> None:
    image = Image.fromarray(pixels)
    image.save(file, "JPEG", quality=_JPEG_QUALITY, exif=_exif(image, _shortened(parameters)))


def _save_png(pixels: Pixels, parameters: Parameters, file: BinaryIO) -> None:
    height, width, _ = pixels.shape
    file.write(SIGNATURE + png_header(width, height, bit_depth=8, colour_type=2))
    for kind, text, *_ in _png_texts(parameters).chunks:
        file.write(png_chunk(kind, text))
    file.write(png_chunk(b"IDAT", isal_zlib.compress(_filtered(pixels), _PNG_COMPRESS_LEVEL)) + png_chunk(b"IEND", b""))


def _filtered(pixels: Pixels) -> Pixels:
    """The rows of a PNG, (height, 1 + width * 3): the filter's number, then how each sample differs from its left."""
    height, width, _ = pixels.shape
    samples = pixels.reshape(height, width * _CHANNELS)
    rows = np.empty((height, 1 + width * _CHANNELS), np.uint8)
    rows[:, 0] = _FILTER_LEFT
    rows[:, 1 : 1 + _CHANNELS] = samples[:, :_CHANNELS]
    np.subtract(samples[:, _CHANNELS:], samples[:, :-_CHANNELS], out=rows[:, 1 + _CHANNELS :])
    return rows


def _save_webp(pixels: Pixels, parameters: Parameters, file: BinaryIO) -> None:
    image = Image.fromarray(pixels)
    image.save(file, "WEBP", quality=_WEBP_QUALITY, exif=_exif(image, parameters))


def _jpeg_library() -> str:
    flavour = features.version_feature("libjpeg_turbo") if features.check_feature("libjpeg_turbo") else None
    return f"libjpeg-turbo {flavour}" if flavour else f"libjpeg {features.version_codec('jpg')}"


def _png_library() -> str:
    # Its bytes differ between x86, ARM and processors from before SSE 4.2: a sample tells.
    sample = bytes(byte & 3 for byte in hashlib.shake_128(b"").digest(4096))
    digest = hashlib.sha256(isal_zlib.compress(sample, _PNG_COMPRESS_LEVEL)).hexdigest()
    return f"isa-l {isal.ISAL_VERSION} {digest[:8]}"


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
