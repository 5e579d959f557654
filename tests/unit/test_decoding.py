"""What is made of files that strangers send: upright pictures of 8 bits a channel, or a sentence."""

import base64
import io
import struct
import zlib

import pytest
from PIL import Image

from flux_endpoint.images.decoding import MAX_PIXELS, MAX_SIDE, decode_sent
from flux_endpoint.images.protocol import DecodedPicture

RED, BLUE, WHITE, BLACK = (255, 0, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)


def file_of(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def decoded(sent, mask_of=None):
    made = decode_sent(sent, mask_of)
    assert isinstance(made, DecodedPicture), made
    image = Image.open(io.BytesIO(made.data))
    assert (image.format, image.size) == ("PNG", (made.width, made.height))
    assert image.mode == ("RGB" if mask_of is None else "L")
    assert not image.info
    return image


def halves(mode="RGB", left=RED, right=BLUE, size=(40, 20)):
    image = Image.new(mode, size, right)
    image.paste(left, (0, 0, size[0] // 2, size[1]))
    return image


def ends(image):
    """The colours at the left and the right end."""
    return image.getpixel((1, image.height // 2)), image.getpixel((image.width - 2, image.height // 2))


def png_that_says(width, height):
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + head
    data = struct.pack(">I", len(head)) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return b"\x89PNG\r\n\x1a\n" + data + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_a_picture_stays_what_it_is(kind):
    assert ends(decoded(file_of(halves(), kind, lossless=True))) == (RED, BLUE)


def test_a_data_url_is_read_with_broken_lines_and_without():
    text = base64.b64encode(file_of(halves())).decode()
    for data in (text, "\n".join(text[at : at + 76] for at in range(0, len(text), 76))):
        assert ends(decoded(f"data:image/png;base64,{data}")) == (RED, BLUE)


def test_a_photo_stands_upright():
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    image = decoded(file_of(halves(size=(64, 32)), "JPEG", exif=exif, quality=95))
    assert image.size == (32, 64)
    top, bottom = image.getpixel((16, 4)), image.getpixel((16, 60))
    assert (top[0] > 200, bottom[2] > 200) == (True, True)


def test_transparent_parts_are_white_and_those_of_a_mask_black():
    image = halves("RGBA", (255, 0, 0, 255), (0, 0, 255, 0))
    assert ends(decoded(file_of(image))) == (RED, WHITE)
    assert ends(decoded(file_of(halves("RGBA", (255, 255, 255, 255), (255, 255, 255, 0))), (40, 20))) == (255, 0)


@pytest.mark.parametrize("mode", ["P", "L", "LA", "1", "CMYK"])
def test_other_modes_keep_their_colours(mode):
    kind = "JPEG" if mode == "CMYK" else "PNG"
    left, right = ends(decoded(file_of(halves(left=BLACK, right=WHITE).convert(mode), kind)))
    assert max(left) < 12
    assert min(right) > 243


def test_a_palette_with_a_transparent_colour_is_on_white():
    image = halves().quantize(2)
    blue = image.getpixel((39, 0))
    assert ends(decoded(file_of(image, transparency=blue)))[1] == WHITE


def test_sixteen_bits_become_eight():
    image = Image.new("I;16", (40, 20), 65_535)
    image.paste(128 * 257, (0, 0, 20, 20))
    assert ends(decoded(file_of(image))) == ((128, 128, 128), WHITE)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_of_what_moves_the_first_picture_counts(kind):
    frames = [Image.new("RGB", (40, 20), colour) for colour in (BLUE, RED)]
    data = file_of(frames[0], kind, save_all=True, append_images=frames[1:], duration=50, lossless=True)
    assert ends(decoded(data)) == (BLUE, BLUE)


def test_what_is_large_is_scaled_down():
    assert decoded(file_of(halves(size=(4_096, 1_024)))).size == (MAX_SIDE, 512)


def test_a_mask_has_the_size_of_its_picture():
    mask = decoded(file_of(halves("L", 255, 0, (200, 101))), (100, 50))
    assert (mask.size, ends(mask)) == ((100, 50), (255, 0))
    problem = "has the shape of 40x40 pixels, and its picture that of 40x20"
    assert decode_sent(file_of(Image.new("L", (40, 40))), (40, 20)) == problem


@pytest.mark.parametrize(
    ("sent", "problem"),
    [
        ("data:image/png;base64,!!!!", "is no valid base64"),
        (b"", "is no jpeg, png or webp file"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is no jpeg, png or webp file"),
        (file_of(halves(), "GIF"), "is no jpeg, png or webp file"),
        (file_of(halves(), "BMP"), "is no jpeg, png or webp file"),
        (b"0" * (20 * 2**20 + 1), "must be a file of at most 20 MiB"),
        (png_that_says(60_000, 60_000), f"has 60000x60000 pixels; at most {MAX_PIXELS // 10**6} million are taken"),
        (png_that_says(200, 200), "is broken: the file cannot be decoded to its end"),
        (file_of(Image.effect_noise((64, 64), 90))[:-200], "is broken: the file cannot be decoded to its end"),
        (file_of(halves(), "JPEG")[:-60], "is broken: the file cannot be decoded to its end"),
        (file_of(halves(), "WEBP")[:-8], "is broken: the file cannot be decoded to its end"),
    ],
)
def test_what_is_no_picture_is_told(sent, problem):
    assert decode_sent(sent) == problem
