"""What files say of themselves: read by the field's programs, by exiftool and by ourselves, from either engine."""

import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from sd_parsers import ParserManager
from sd_parsers.data import PromptInfo

from flux_endpoint import __version__
from flux_endpoint.core.catalog import FLUX_DEV, ModelFamily
from flux_endpoint.core.exif import exif_block
from flux_endpoint.core.generation import GenerationRequest
from flux_endpoint.core.image_formats import IMAGE_FORMATS, JPEG, PNG, ImageFormat
from flux_endpoint.core.infotext import infotext
from flux_endpoint.core.marks import MADE_BY_A_MODEL, PARTLY_MADE_BY_A_MODEL, infotext_in, parameters_in, source_type_in
from flux_endpoint.core.source_picture import SourcePicture
from flux_endpoint.engine.credentials import PictureSigner, credential_in
from flux_endpoint.engine.encode import encode_image
from flux_endpoint.engine.fake import FakeEngine
from flux_endpoint.engine.parameters import DEFAULT_RULES, FileRules, picture_parameters
from flux_endpoint.engine.protocol import ModelInfo
from tests.certificates import Authority
from tests.engine.conftest import draw, make_request

MODEL = ModelInfo("black-forest-labs/FLUX.1-dev", ModelFamily.DEV, "cpu", fingerprint="1f2e (x)")
PIXELS = np.zeros((32, 48, 3), np.uint8)
SOURCE = SourcePicture("key.png", 64 * "a", 48, 32)
Make = Callable[..., bytes]


def really(request: GenerationRequest, rules: FileRules = DEFAULT_RULES) -> bytes:
    data = encode_image(PIXELS, request.image_format, picture_parameters(request, MODEL, rules))
    return rules.finish(data, request.image_format)


def without_a_model(request: GenerationRequest, rules: FileRules = DEFAULT_RULES) -> bytes:
    return draw(FakeEngine(FLUX_DEV, rules=rules), request).data


# sd-parsers takes a picture at the address of an earlier one for that one: findings/sd_parsers_mixes_up_pictures.sh
OPENED: list[Image.Image] = []


def by_sd_parsers(data: bytes) -> PromptInfo:
    OPENED.append(Image.open(io.BytesIO(data)))
    found = ParserManager().parse(OPENED[-1])
    assert found is not None
    return found


both_engines = pytest.mark.parametrize("make", [really, without_a_model])
every_format = pytest.mark.parametrize("image_format", IMAGE_FORMATS.values(), ids=IMAGE_FORMATS)


@both_engines
@every_format
@pytest.mark.parametrize("prompt", ["a house, red: very\nlow <sun> & 'sea'", "山と湖 🌄 \ufffe"], ids=["latin", "wide"])
@pytest.mark.parametrize("negative", ["", "boats, blurry"])
def test_the_fields_readers_read_our_files(image_format: ImageFormat, make: Make, prompt: str, negative: str) -> None:
    request = make_request(prompt=prompt, negative_prompt=negative, image_format=image_format, seed=7, guidance=3.5)
    found = by_sd_parsers(make(request))
    (sampler,) = found.samplers
    assert [str(prompt) for prompt in sampler.prompts] == [prompt]
    assert [str(prompt) for prompt in sampler.negative_prompts] == ([negative] if negative else [])
    assert sampler.model is not None
    assert sampler.model.name == ("fake" if make is without_a_model else MODEL.name)
    told = {"steps": str(request.num_inference_steps), "seed": "7", "cfg_scale": "2" if negative else "1"}
    assert (sampler.name, sampler.parameters) == ("Euler", told)
    size = f"{request.width}x{request.height}"
    assert found.metadata == {
        "Distilled CFG Scale": "3.5",
        "Size": size,
        "Version": f"flux-endpoint {__version__}",
    }


@both_engines
@every_format
def test_our_own_readers_read_them(image_format: ImageFormat, make: Make) -> None:
    request = make_request(prompt="山と湖 \ufffe\x01]]>", image_format=image_format)
    data = make(request)
    told = parameters_in(data)
    assert {name: told[name] for name in ("prompt", "seed", "guidance")} == {
        "prompt": request.prompt,
        "seed": request.seed,
        "guidance": request.guidance,
    }
    assert source_type_in(data) == MADE_BY_A_MODEL
    assert infotext_in(data) == infotext(told)


@pytest.mark.parametrize(("mask", "expected"), [(None, MADE_BY_A_MODEL), (SOURCE, PARTLY_MADE_BY_A_MODEL)])
def test_a_picture_of_which_a_part_was_kept_says_so(
    mask: SourcePicture | None, expected: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    request = make_request(image=SOURCE, mask=mask, strength=0.5)
    assert source_type_in(really(request)) == expected
    signer = PictureSigner(*Authority.made(tmp_path_factory.mktemp("authority")).issue())
    found = credential_in(really(request, FileRules(sign=signer.sign)), PNG)
    assert found is not None
    assert found.source_type == expected


@both_engines
@every_format
def test_prompts_can_be_kept_out(image_format: ImageFormat, make: Make) -> None:
    request = make_request(prompt="a secret", negative_prompt="a mystery", image_format=image_format)
    data = make(request, FileRules(has_prompts=False))
    for word in ("secret", "mystery"):
        assert not any(word.encode(coding) in data for coding in ("utf-8", "utf-16-be", "utf-16-le"))
    told = parameters_in(data)
    assert told["seed"] == request.seed
    assert not {"prompt", "negative_prompt"} & told.keys()
    found = by_sd_parsers(data)
    assert (found.prompts, found.samplers[0].parameters["seed"]) == ([], str(request.seed))


def test_files_with_other_contents_come_from_another_kind_of_worker() -> None:
    engines = [FakeEngine(FLUX_DEV, rules=rules) for rules in (DEFAULT_RULES, FileRules(has_prompts=False))]
    whole, short = (engine.info.fingerprint for engine in engines)
    assert "prompts left out" in short
    assert whole[:8] != short[:8]


OLD: dict[str, Any] = {
    "prompt": "12",
    "negative_prompt": "山",
    "width": 48,
    "guidance": 3.5,
    "seed": 7,
    "acceleration": "none",
    "model": "demo",
    "software": "flux-endpoint 0.1.0",
    "fingerprint": "1f2e (x)",
}


def as_version_0_1_0_wrote(kind: str) -> bytes:
    buffer = io.BytesIO()
    if kind == "PNG":
        texts = PngImagePlugin.PngInfo()
        for name, value in {**OLD, "Title": "added by another program"}.items():
            texts.add_text(name, str(value))
        Image.fromarray(PIXELS).save(buffer, kind, pnginfo=texts)
    else:
        exif = exif_block(OLD["software"], json.dumps(OLD, ensure_ascii=False), 48, 32)
        Image.fromarray(PIXELS).save(buffer, kind, exif=exif)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_files_from_before_are_still_read(kind: str) -> None:
    assert parameters_in(as_version_0_1_0_wrote(kind)) == OLD


def test_a_little_endian_block_is_read_too() -> None:
    picture = Image.fromarray(PIXELS)
    exif = picture.getexif()
    exif.endian = "<"
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + "a lake\nSteps: 4".encode("utf-16-le")
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", exif=exif)
    assert b"II*\0" in buffer.getvalue()
    assert infotext_in(buffer.getvalue()) == "a lake\nSteps: 4"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GIF89a",
        b"\xff\xd8\xff" + b"MM\0*" + b"\xff" * 40,
        b"\xff\xd8\xff<x:xmpmeta><a></x:xmpmeta>",
        b'<x:xmpmeta xmlns:x="x"/></x:xmpmeta>',
        encode_image(PIXELS, JPEG, picture_parameters(make_request(), MODEL)).replace(b'{"', b"{'"),
        encode_image(PIXELS, PNG, picture_parameters(make_request(), MODEL))[:60],
    ],
)
def test_what_is_broken_or_a_strangers_tells_nothing(data: bytes) -> None:
    assert parameters_in(data) == {}


def test_a_source_type_is_found_as_others_write_it() -> None:
    packet = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description xmlns:I="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" I:DigitalSourceType="x"/>'
        "</rdf:RDF></x:xmpmeta>"
    )
    assert source_type_in(b"RIFF" + packet.encode()) == "x"
