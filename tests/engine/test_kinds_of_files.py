"""What no tensor of a file tells: which of FLUX.1's kinds it is, by its name or the user's words."""

from pathlib import Path

import pytest

from flux_endpoint.core.catalog import ModelFamily
from flux_endpoint.core.errors import CheckpointError
from flux_endpoint.engine.detect import Component
from flux_endpoint.engine.factory import check_source
from tests.engine.single_files import COMFY, Components, write_single_files

DEV = ModelFamily.DEV


@pytest.mark.parametrize(
    ("name", "words", "text"),
    [
        (
            "flux1-kontext-dev",
            "",
            r"this is FLUX\.1 Kontext \(by the name .*; kind=dev says .*\), which has an endpoint of its own",
        ),
        ("flux1-kontext-dev", "kind=dev", "dev"),
        ("my-edit", "kind=kontext", r"this is FLUX\.1 Kontext, which has an endpoint of its own"),
        ("flux1-krea-dev", "", "krea"),
        ("some", "kind=krea", "krea"),
        ("some", "", "dev"),
        ("some", "kind=schnell", "kind=schnell does not fit: by its inputs this is a dev transformer"),
        ("some", "kind=fill", "kind=fill does not fit: by its inputs this is a dev transformer"),
        ("some", "kind=chroma", "kind= is one of dev, schnell, krea, kontext, fill, canny, depth"),
    ],
)
def test_what_no_tensor_tells_the_name_or_the_user_does(
    tmp_path: Path, components: Components, name: str, words: str, text: str
) -> None:
    write_single_files(tmp_path, components[DEV], COMFY | {Component.TRANSFORMER: f"unet/{name}.safetensors"})
    source = f"{tmp_path}/unet/{name}.safetensors {words}".strip()
    if text in ("dev", "krea"):
        assert check_source(source, DEV, device="cpu").variant == text
    else:
        with pytest.raises(CheckpointError, match=text):
            check_source(source, DEV, device="cpu")


@pytest.mark.parametrize(
    ("name", "words", "text"),
    [
        ("flux1-kontext-dev", "", ""),
        ("my-edit", "kind=kontext", ""),
        ("flux1-krea-dev", "kind=kontext", ""),
        ("my-edit", "", r"nothing says that this is FLUX\.1 Kontext \(kind=kontext does\), which the endpoint needs"),
        ("flux1-kontext-dev", "kind=krea", r"kind=krea says that this is not FLUX\.1 Kontext, which the endpoint"),
    ],
)
def test_what_is_to_change_pictures_must_be_called_kontext(
    tmp_path: Path, components: Components, name: str, words: str, text: str
) -> None:
    write_single_files(tmp_path, components[DEV], COMFY | {Component.TRANSFORMER: f"unet/{name}.safetensors"})
    source = f"{tmp_path}/unet/{name}.safetensors {words}".strip()
    if text:
        with pytest.raises(CheckpointError, match=text):
            check_source(source, ModelFamily.KONTEXT, device="cpu")
    else:
        assert check_source(source, ModelFamily.KONTEXT, device="cpu").variant == "kontext"
