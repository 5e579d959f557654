import io
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from flux_endpoint.core.catalog import CATALOG, FLUX_DEV
from flux_endpoint.core.errors import CheckpointError
from flux_endpoint.core.image_formats import IMAGE_FORMATS, JPEG, ImageFormat
from flux_endpoint.core.marks import parameters_in
from flux_endpoint.engine.factory import build_engines
from flux_endpoint.engine.fake import FakeEngine
from flux_endpoint.engine.parameters import picture_parameters
from flux_endpoint.engine.protocol import StepDone
from tests.engine.conftest import draw, make_request

SIZES = [(1, 1), (7, 9), (256, 1536), (1024, 1024), (1472, 1140)]


@pytest.mark.parametrize("image_format", IMAGE_FORMATS.values(), ids=IMAGE_FORMATS)
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_files_are_real_pictures_of_one_colour(image_format: ImageFormat, width: int, height: int) -> None:
    image = draw(FakeEngine(FLUX_DEV), make_request(width=width, height=height, image_format=image_format))
    picture = Image.open(io.BytesIO(image.data))
    assert (picture.format, picture.size) == (image_format.name.upper(), (width, height))
    pixels = np.asarray(picture.convert("RGB"))
    assert (pixels == pixels[0, 0]).all()
    assert len(image.data) < 10_000
    assert (image.width, image.height, image.image_format) == (width, height, image_format)


@pytest.mark.parametrize("image_format", IMAGE_FORMATS.values(), ids=IMAGE_FORMATS)
def test_the_seed_is_the_colour(image_format: ImageFormat) -> None:
    seeds = [0, 1, 63, 64, 126, 127, 2**32 - 3]
    pictures = [draw(FakeEngine(FLUX_DEV), make_request(seed=seed, image_format=image_format)).data for seed in seeds]
    colours = {Image.open(io.BytesIO(data)).convert("RGB").getpixel((5, 5)) for data in pictures}
    assert len(colours) == len(seeds)


def test_every_grey_of_the_jpeg_is_another() -> None:
    pictures = [draw(FakeEngine(FLUX_DEV), make_request(seed=seed, image_format=JPEG)) for seed in range(128)]
    assert len({Image.open(io.BytesIO(picture.data)).getpixel((63, 63)) for picture in pictures}) == 128


def test_png_holds_the_request() -> None:
    request, engine = make_request(prompt="Häuschen 山", negative_prompt="x\ny"), FakeEngine(FLUX_DEV)
    assert parameters_in(draw(engine, request).data) == picture_parameters(request, engine.info)


def test_yields_every_step() -> None:
    generator = FakeEngine(FLUX_DEV).generate(make_request(num_inference_steps=2))
    assert [next(generator), next(generator)] == [StepDone(1, 2), StepDone(2, 2)]


def test_steps_take_the_time_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    engine = build_engines({FLUX_DEV.endpoint_id: "fake:0.02"}, CATALOG)[FLUX_DEV.endpoint_id]
    engine.load()
    draw(engine, make_request(num_inference_steps=3))
    engine.close()
    assert slept == [0.02] * 3


@pytest.mark.parametrize("source", ["fake:x", "fake:-1", "fake:nan", "fake:inf"])
def test_nonsense_step_times_are_refused(source: str) -> None:
    with pytest.raises(CheckpointError, match="the time of a step in seconds"):
        build_engines({FLUX_DEV.endpoint_id: source}, CATALOG)


def test_needs_nothing_heavy() -> None:
    """A gateway without torch, numpy and Pillow can still run the fake engine."""
    program = """
import sys
from flux_endpoint.core.catalog import CATALOG
from flux_endpoint.core.controlnet import ControlNetKind
from flux_endpoint.core.generation import parse_input
from flux_endpoint.core.source_picture import SourcePicture
from flux_endpoint.engine.factory import build_engines
from flux_endpoint.engine.protocol import finish
needed = dict.fromkeys(("image", "mask", "control_image", "image_prompt"), SourcePicture("k", "a", 512, 512))
for endpoint_id, engine in build_engines(dict.fromkeys(CATALOG, "fake"), CATALOG).items():
    engine.load()
    for kind in ("png", "jpeg"):
        fields = {"prompt": "x", **needed, "image_format": kind}
        kinds = {"has_redux": True, "controlnet": ControlNetKind.SINGLE}
        finish(engine.generate(parse_input(fields, CATALOG[endpoint_id], **kinds)))
heavy = {"torch", "numpy", "PIL", "diffusers", "transformers", "huggingface_hub"} & sys.modules.keys()
sys.exit(f"imported {heavy}" if heavy else 0)
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_is_fast_enough_to_measure_what_is_around_it() -> None:
    engine = FakeEngine(FLUX_DEV)
    request = make_request(width=1024, height=1024, num_inference_steps=28)
    draw(engine, request)
    started = time.process_time()
    for _ in range(100):
        draw(engine, request)
    assert (time.process_time() - started) / 100 < 0.002
