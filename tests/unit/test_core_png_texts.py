"""Texts in PNGs: every kind of chunk that holds them, and what is broken."""

import io
import zlib

import pytest
from PIL import Image, PngImagePlugin

from flux_endpoint.core.png_texts import texts_in
from flux_endpoint.engine.png import SIGNATURE, png_chunk


def test_what_pillow_writes_is_read():
    texts = PngImagePlugin.PngInfo()
    texts.add_text("plain", "a lake")
    texts.add_text("packed", "b" * 99, zip=True)
    texts.add_itxt("international", "ü", lang="de")
    texts.add_itxt("both", "ü" * 99, zip=True)
    file = io.BytesIO()
    Image.new("RGB", (2, 2)).save(file, "PNG", pnginfo=texts)
    assert texts_in(file.getvalue()) == {"plain": "a lake", "packed": "b" * 99, "international": "ü", "both": "ü" * 99}


@pytest.mark.parametrize(
    "chunk",
    [
        png_chunk(b"zTXt", b"x\0\0no zlib"),
        png_chunk(b"iTXt", b"x\0\0\0de"),
        png_chunk(b"IDAT", b"x\0y"),
        b"\xff\xff\xff\xfftEXt",
        b"\0\0",
    ],
)
def test_what_is_broken_is_left_out(chunk):
    assert texts_in(SIGNATURE + chunk) in ({}, {"": ""})


def test_what_is_packed_is_unpacked_so_far_only():
    packed = zlib.compress(b"a" * 2**24)
    assert len(texts_in(SIGNATURE + png_chunk(b"zTXt", b"x\0\0" + packed))["x"]) == 2**20
