"""Pixels to a file, with the request inside it."""

import hashlib
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import BinaryIO, Final

import isal
import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray
from PIL import Image, features

from flux_endpoint.core.exif import exif_block
from flux_endpoint.core.image_formats import JPEG, PNG, WEBP, ImageFormat
from flux_endpoint.core.marks import Marks, marks_of
from flux_endpoint.engine.parameters import MAX_JPEG_MARK_BYTES, SOFTWARE, ParameterValue
from flux_endpoint.engine.png import SIGNATURE, png_chunk, png_header, png_marks

# The levels above gain next to nothing on filtered pixels, and the bytes of level 3 depend on the processor:
# docs/decisions/0030-png-by-isa-l.md
_PNG_COMPRESS_LEVEL: Final = 1
_FILTER_LEFT: Final = 1
_CHANNELS: Final = 3
_JPEG_QUALITY: Final = 95
_WEBP_QUALITY: Final = 90

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
        parameters: see `picture_parameters`; how they are written: `core/marks.py`.
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
    marks = marks_of(parameters, MAX_JPEG_MARK_BYTES)
    image.save(file, "JPEG", quality=_JPEG_QUALITY, exif=_exif(image, marks), xmp=marks.xmp)


def _save_png(pixels: Pixels, parameters: Parameters, file: BinaryIO) -> None:
    height, width, _ = pixels.shape
    file.write(SIGNATURE + png_header(width, height, bit_depth=8, colour_type=2) + png_marks(marks_of(parameters)))
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
    marks = marks_of(parameters)
    image.save(file, "WEBP", quality=_WEBP_QUALITY, exif=_exif(image, marks), xmp=marks.xmp)


def _exif(image: Image.Image, marks: Marks) -> bytes:
    return exif_block(SOFTWARE, marks.text, *image.size)


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
