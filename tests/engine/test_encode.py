import hashlib
import io
import json
import platform
import subprocess
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import piexif
import piexif.helper
import pytest
from PIL import Image

from flux_endpoint import __version__
from flux_endpoint.core.catalog import FLUX_DEV, ModelFamily
from flux_endpoint.core.image_formats import IMAGE_FORMATS, JPEG, PNG, WEBP, ImageFormat, format_of
from flux_endpoint.core.infotext import infotext
from flux_endpoint.core.marks import MADE_BY_A_MODEL, marks_of, parameters_in
from flux_endpoint.engine.encode import ENCODERS, encode_image
from flux_endpoint.engine.fake import FakeEngine
from flux_endpoint.engine.parameters import picture_parameters
from flux_endpoint.engine.png import png_marks
from flux_endpoint.engine.protocol import ModelInfo
from tests.engine.conftest import draw, make_request

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)
PROMPTS = ["a house", "Häuschen", "山と湖 🌄", 'quotes " and \\ and\nlines\tand\x01', "12", "true", "a" * 10_000]


# Of a PNG of `gradient()` without parameters. A new ISA-L may write others: then say so in the changelog.
FROZEN = {"x86_64": "e2a711cb14845428", "aarch64": "f07a0b6eec947fb3"}


def exiftool(file: Path, *options: str) -> dict[str, Any]:
    run = subprocess.run(["exiftool", "-json", *options, file], capture_output=True, text=True, check=True)
    (tags,) = json.loads(run.stdout)
    return dict(tags)


def parameters_for(**changes: Any) -> dict[str, Any]:
    return picture_parameters(
        make_request(**changes), ModelInfo("demo", ModelFamily.DEV, "cpu", fingerprint="1f2e (x)")
    )


@pytest.mark.parametrize("image_format", IMAGE_FORMATS.values(), ids=IMAGE_FORMATS)
@pytest.mark.parametrize("prompt", PROMPTS, ids=range(len(PROMPTS)))
def test_parameters_survive_the_file(image_format: ImageFormat, prompt: str) -> None:
    parameters = parameters_for(prompt=prompt, negative_prompt=prompt[::-1], seed=2**32 - 1, guidance=0.1)
    read = parameters_in(encode_image(PIXELS, image_format, parameters))
    assert read == parameters
    assert [type(value) for value in read.values()] == [type(value) for value in parameters.values()]


def test_every_format_has_an_encoder_and_every_encoder_a_format() -> None:
    assert list(ENCODERS) == list(IMAGE_FORMATS)


@pytest.mark.parametrize("image_format", IMAGE_FORMATS.values(), ids=IMAGE_FORMATS)
def test_a_file_is_known_by_its_first_bytes_and_by_nobody_elses(image_format: ImageFormat) -> None:
    data = encode_image(PIXELS, image_format, parameters_for())
    assert [row.name for row in IMAGE_FORMATS.values() if row.is_in(data)] == [image_format.name]
    assert format_of(data[:8]) in (None, image_format)


def test_webp_is_the_lossy_kind_and_keeps_the_longest_texts_whole() -> None:
    parameters = parameters_for(prompt="🌄" * 10_000, negative_prompt="\x01" * 10_000)
    data = encode_image(PIXELS, WEBP, parameters)
    chunks = [chunk for chunk in (b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"EXIF", b"XMP ") if chunk in data]
    assert chunks == [b"VP8X", b"VP8 ", b"EXIF", b"XMP "]
    assert int.from_bytes(data[4:8], "little") + 8 == len(data)
    assert parameters_in(data) == parameters


def test_png_keeps_every_pixel_and_the_others_nearly() -> None:
    smooth = np.asarray(Image.fromarray(PIXELS[:3, :5]).resize((40, 24), Image.Resampling.BICUBIC))
    png = Image.open(io.BytesIO(encode_image(smooth, PNG, parameters_for())))
    assert np.array_equal(np.asarray(png), smooth)
    for image_format in (JPEG, WEBP):
        picture = Image.open(io.BytesIO(encode_image(smooth, image_format, parameters_for())))
        assert picture.format == image_format.name.upper()
        assert 0 < np.abs(np.asarray(picture).astype(int) - smooth).mean() < 4


def gradient() -> np.ndarray:
    rows, columns, channels = np.ogrid[:96, :128, :3]
    levels = columns * rows // 7 + 40 * channels + (columns * columns * 31 + rows * 17) % 5
    return np.asarray(levels % 256, dtype=np.uint8)


@pytest.mark.parametrize(("height", "width"), [(96, 128), (96, 1), (1, 128), (1, 1)])
def test_decoders_agree_on_the_pixels_of_a_png(height: int, width: int) -> None:
    pixels = np.ascontiguousarray(gradient()[:height, -width:])
    data = encode_image(pixels, PNG, parameters_for())
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), pixels)
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    assert np.array_equal(decoded[:, :, ::-1], pixels)


def test_the_bytes_of_a_png_are_frozen() -> None:
    parameters = parameters_for()
    data = encode_image(gradient(), PNG, parameters).replace(png_marks(marks_of(parameters)), b"")
    assert hashlib.sha256(data).hexdigest()[:16] == FROZEN[platform.machine()]


@pytest.mark.parametrize("image_format", IMAGE_FORMATS.values(), ids=IMAGE_FORMATS)
def test_same_pixels_same_bytes(image_format: ImageFormat) -> None:
    files = {encode_image(PIXELS, image_format, parameters_for()) for _ in range(3)}
    assert len(files) == 1


def test_other_programs_find_the_parameters() -> None:
    parameters = parameters_for(prompt="山と湖 🌄")
    png = Image.open(io.BytesIO(encode_image(PIXELS, PNG, parameters)))
    assert png.info["parameters"] == infotext(parameters)
    for image_format in (JPEG, WEBP):
        tags = piexif.load(encode_image(PIXELS, image_format, parameters))
        assert tags["0th"][piexif.ImageIFD.Software] == f"flux-endpoint {__version__}".encode()
        assert piexif.helper.UserComment.load(tags["Exif"][piexif.ExifIFD.UserComment]) == infotext(parameters)


@pytest.mark.parametrize("engine", ["real", "fake"])
@pytest.mark.parametrize("image_format", IMAGE_FORMATS.values(), ids=IMAGE_FORMATS)
@pytest.mark.parametrize("prompt", PROMPTS, ids=range(len(PROMPTS)))
def test_exiftool_finds_nothing_to_complain_about(
    tmp_path: Path, image_format: ImageFormat, prompt: str, engine: str
) -> None:
    request = make_request(prompt=prompt, image_format=image_format, num_inference_steps=1)
    if engine == "real":
        data = encode_image(PIXELS, image_format, parameters_for(prompt=prompt))
    else:
        data = draw(FakeEngine(FLUX_DEV), request).data
    file = tmp_path / f"picture.{image_format.name}"
    file.write_bytes(data)
    found = exiftool(file, "-validate", "-warning", "-error")
    assert found["Validate"] == "OK", found


@pytest.mark.parametrize("image_format", IMAGE_FORMATS.values(), ids=IMAGE_FORMATS)
def test_exiftool_reads_what_was_written(tmp_path: Path, image_format: ImageFormat) -> None:
    file = tmp_path / f"picture.{image_format.name}"
    parameters = parameters_for(prompt="山と湖 🌄", negative_prompt="Häuschen")
    file.write_bytes(encode_image(PIXELS, image_format, parameters))
    known = exiftool(file)
    assert (known["MIMEType"], known["ImageWidth"], known["ImageHeight"]) == (image_format.media_type, 40, 24)
    found = exiftool(file, "-XMP:all")
    assert (json.loads(found["Parameters"]), found["CreatorTool"]) == (parameters, f"flux-endpoint {__version__}")
    assert found["DigitalSourceType"] == MADE_BY_A_MODEL
    if image_format is PNG:
        assert exiftool(file, "-PNG:all")["Parameters"].startswith("山と湖 🌄")
    else:
        found = exiftool(file, "-EXIF:all")
        assert found["UserComment"].startswith("山と湖 🌄")
        assert (found["ExifImageWidth"], found["ExifImageHeight"]) == (40, 24)


def test_texts_beyond_what_exif_holds_are_shortened() -> None:
    parameters = parameters_for(prompt="🌄" * 10_000, negative_prompt="\x01" * 10_000)
    read = parameters_in(encode_image(PIXELS, JPEG, parameters))
    assert read["shortened"] == 1
    for name in ("prompt", "negative_prompt"):
        assert len(read[name]) > 1_000
        assert parameters[name].startswith(read[name])
    assert read | {name: parameters[name] for name in ("prompt", "negative_prompt")} == parameters | {"shortened": 1}


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_picture_from_elsewhere_has_no_parameters(kind: str) -> None:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, kind)
    assert parameters_in(buffer.getvalue()) == {}


def test_the_comment_of_a_jpeg_has_the_byte_order_of_its_block() -> None:
    data = encode_image(np.zeros((64, 64, 3), np.uint8), JPEG, parameters_for())
    assert b"Exif\x00\x00MM" in data
    assert b"UNICODE\x00\x00a\x00 \x00s" in data
