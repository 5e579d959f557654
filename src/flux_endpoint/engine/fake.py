"""An engine without a model: real small files at once, for tests and for measuring everything around the model."""

import functools
import importlib
import struct
import time
import zlib
from collections.abc import Callable, Mapping
from typing import Final

from flux_endpoint.core.catalog import ModelSpec
from flux_endpoint.core.drafts import read_header, write_header
from flux_endpoint.core.exif import exif_block
from flux_endpoint.core.generation import GenerationRequest
from flux_endpoint.core.image_formats import JPEG, PNG, ImageFormat
from flux_endpoint.core.marks import marks_of
from flux_endpoint.engine.fingerprint import fingerprint_of
from flux_endpoint.engine.latents_header import check_latents, latents_header
from flux_endpoint.engine.parameters import (
    DEFAULT_RULES,
    MAX_JPEG_MARK_BYTES,
    SOFTWARE,
    FileRules,
    ParameterValue,
    picture_parameters,
)
from flux_endpoint.engine.png import SIGNATURE, png_chunk, png_header, png_marks
from flux_endpoint.engine.protocol import NO_SOURCES, Drawing, EncodedImage, ModelInfo, StepDone

_NAME = "fake"
# What the segment of a JPEG begins with that holds XMP.
_XMP_MARK: Final = b"http://ns.adobe.com/xap/1.0/\x00"
_Draw = Callable[[int, int, int, Mapping[str, ParameterValue]], bytes]


class FakeEngine:
    """Draws one flat colour that depends on the seed and on the pictures to draw from.

    PNG and JPEG need neither torch nor numpy nor Pillow.

    Args:
        spec: the endpoint it stands in for.
        step_s: how long each step takes, in seconds.
        rules: of its files.
    """

    def __init__(self, spec: ModelSpec, step_s: float = 0.0, rules: FileRules = DEFAULT_RULES) -> None:
        self._step_s = step_s
        self._rules = rules
        notice = "No model is loaded: pictures are one flat colour."
        parts = {"engine": _NAME, "zlib": zlib.ZLIB_RUNTIME_VERSION, "software": SOFTWARE, **rules.parts}
        self._info = ModelInfo(_NAME, spec.family, "none", notice, fingerprint_of(parts))

    @property
    def info(self) -> ModelInfo:
        """See `Engine.info`."""
        return self._info

    def load(self) -> None:
        """Do nothing: there is nothing to read."""

    def generate(self, request: GenerationRequest, sources: Mapping[str, bytes] = NO_SOURCES) -> Drawing:
        """See `Engine.generate`."""
        if request.draft:
            check_latents(read_header(sources[request.draft.sha256]), request, self._info)
            sources = {name: file for name, file in sources.items() if name != request.draft.sha256}
        for step in range(1, request.steps_to_draw + 1):
            if self._step_s:
                time.sleep(self._step_s)
            yield StepDone(step, request.steps_to_draw)
        return functools.partial(self._encode, request, sources)

    def _encode(self, request: GenerationRequest, sources: Mapping[str, bytes]) -> EncodedImage:
        draw = _BY_HAND.get(request.image_format.name) or _flat_by_encoder(request.image_format)
        parameters = picture_parameters(request, self._info, self._rules)
        # Another colour for other pictures to draw from.
        colour = functools.reduce(lambda so_far, file: zlib.crc32(file, so_far), sources.values(), request.seed)
        data = draw(request.width, request.height, colour, parameters)
        data = self._rules.finish(data, request.image_format)
        latents = write_header(latents_header(request, self._info)) if request.stop_after else b""
        return EncodedImage(data, request.image_format, request.width, request.height, latents=latents)

    def time_step(self) -> float | None:
        """The seconds a step that this engine was made with; None for steps that take no time."""
        return self._step_s or None

    def release(self, idle_s: float = 0) -> None:
        """Do nothing: there is nothing to free."""

    def close(self) -> None:
        """Do nothing: there is nothing to free."""


def flat_png(width_px: int, height_px: int, seed: int, parameters: Mapping[str, ParameterValue]) -> bytes:
    """A PNG of one colour.

    Args:
        width_px: of the picture.
        height_px: of the picture.
        seed: its low 24 bits are the colour.
        parameters: see `marks_of`.
    """
    # 1 bit a pixel, colours from a palette: the smallest form PNG has.
    palette = (seed & 0xFFFFFF).to_bytes(3, "big") + b"\xff\xff\xff"
    head = png_header(width_px, height_px, bit_depth=1, colour_type=3) + png_chunk(b"PLTE", palette)
    return SIGNATURE + head + png_marks(marks_of(parameters)) + _png_tail(width_px, height_px)


@functools.lru_cache(maxsize=64)
def _png_tail(width_px: int, height_px: int) -> bytes:
    # Each row: one byte for "no filter", then its pixels, all of palette entry 0.
    rows = bytes((1 + -(-width_px // 8)) * height_px)
    return png_chunk(b"IDAT", zlib.compress(rows, 9)) + png_chunk(b"IEND", b"")


def flat_jpeg(width_px: int, height_px: int, seed: int, parameters: Mapping[str, ParameterValue]) -> bytes:
    """A JPEG of one grey.

    Args:
        width_px: of the picture.
        height_px: of the picture.
        seed: its low 7 bits choose one of 128 greys.
        parameters: see `marks_of`.
    """
    marks = marks_of(parameters, MAX_JPEG_MARK_BYTES)
    segments = _app1(exif_block(SOFTWARE, marks.text, width_px, height_px)) + _app1(_XMP_MARK + marks.xmp)
    head, scan_zero_bits = _jpeg_frame(width_px, height_px)
    # First block: code 10 says that a 7-bit brightness follows, then 0: nothing else. Every further block: 00, same.
    first_block = 0b10 << 8 | (seed & 0x7F) << 1
    used_bits = 10
    bits = first_block << scan_zero_bits
    padding = -(used_bits + scan_zero_bits) % 8
    bits = bits << padding | (1 << padding) - 1
    scan = bits.to_bytes((used_bits + scan_zero_bits + padding) // 8, "big")
    # A byte FF inside the scan would read as the start of a marker.
    return b"\xff\xd8" + segments + head + scan.replace(b"\xff", b"\xff\x00") + b"\xff\xd9"


def _app1(data: bytes) -> bytes:
    return b"\xff\xe1" + struct.pack(">H", 2 + len(data)) + data


@functools.lru_cache(maxsize=64)
def _jpeg_frame(width_px: int, height_px: int) -> tuple[bytes, int]:
    """What stands between metadata and scan, and the length of the scan after its first block, in bits."""
    quantisation = b"\x00" + b"\x08" * 64
    frame = struct.pack(">BHHB", 8, height_px, width_px, 1) + b"\x01\x11\x00"
    # One code of 1 bit (nothing changes) and one of 2 bits (a change of 7 bits follows).
    brightness_codes = b"\x00" + bytes([1, 1] + [0] * 14) + b"\x00\x07"
    # One code of 1 bit: end of block.
    detail_codes = b"\x10" + bytes([1] + [0] * 15) + b"\x00"
    scan = b"\x01\x01\x00\x00\x3f\x00"
    segments = [
        (b"\xdb", quantisation),
        (b"\xc0", frame),
        (b"\xc4", brightness_codes),
        (b"\xc4", detail_codes),
        (b"\xda", scan),
    ]
    head = b"".join(b"\xff" + kind + struct.pack(">H", 2 + len(body)) + body for kind, body in segments)
    blocks = -(-width_px // 8) * -(-height_px // 8)
    return head, 2 * (blocks - 1)


# What is drawn most, at once and without Pillow. Other formats are left to their encoders.
_BY_HAND: Final[Mapping[str, _Draw]] = {PNG.name: flat_png, JPEG.name: flat_jpeg}


def _flat_by_encoder(image_format: ImageFormat) -> _Draw:
    # Not at the top: a gateway without Pillow must be able to draw the others.
    encode = importlib.import_module("flux_endpoint.engine.encode")
    draw: _Draw = functools.partial(encode.encode_flat, image_format)
    return draw
