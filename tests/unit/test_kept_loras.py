"""The folder of LoRAs that were fetched: what it keeps, what it lets go, and what it knows of a place."""

import os

import pytest

from flux_endpoint.core.catalog import FLUX_DEV, ModelFamily
from flux_endpoint.core.errors import CheckpointError
from flux_endpoint.core.generation import GenerationRequest
from flux_endpoint.core.image_formats import PNG
from flux_endpoint.core.infotext import infotext
from flux_endpoint.core.lora import Lora
from flux_endpoint.core.lora_places import parse_lora_sources
from flux_endpoint.engine.parameters import picture_parameters
from flux_endpoint.engine.protocol import ModelInfo
from flux_endpoint.files.kept_loras import KeptLoras, Pin, hash_of
from flux_endpoint.files.lora_shelf import FolderShelf
from tests.unit.test_lora_shelf import PAIR, write

PLACE = "https://files.example/film.safetensors?token=geheim"


def keep(kept: KeptLoras, data: bytes, used_s: int) -> str:
    """Keep a file that was last used at some time."""
    with kept.draft("film.safetensors") as draft:
        draft.write_bytes(data)
        sha256 = hash_of(draft)
        file = kept.keep(draft, sha256)
    os.utime(file, (used_s, used_s))
    return sha256


def test_the_files_that_were_used_last_stay(tmp_path):
    kept = KeptLoras(tmp_path, 250)
    first, second = keep(kept, b"1" * 100, 10), keep(kept, b"2" * 100, 20)
    assert kept.file(first) is not None
    third = keep(kept, b"3" * 100, 30)
    assert [kept.file(one) is not None for one in (first, second, third)] == [True, False, True]
    # Whatever it takes.
    huge = keep(kept, b"4" * 1_000, 40)
    assert [file.stem for file in kept.files()] == [huge]


def test_using_a_file_does_not_make_it_another_one(tmp_path):
    kept = KeptLoras(tmp_path, 250)
    file = kept.file(keep(kept, b"1", 10))
    assert (file.stat().st_mtime, file.stat().st_atime > 10) == (10, True)


def test_a_draft_that_is_not_kept_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError), KeptLoras(tmp_path, 250).draft("film.safetensors") as draft:
        draft.write_bytes(b"half")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_a_place_is_pinned_to_its_first_file(tmp_path):
    kept = KeptLoras(tmp_path, 250)
    assert kept.pin(PLACE) is None
    kept.note(PLACE, "a" * 64, "1" * 40)
    kept.note(PLACE, "b" * 64, "2" * 40)
    kept.note(PLACE, "b" * 64, "3" * 40)
    known = KeptLoras(tmp_path, 250).pin(PLACE)
    assert known == Pin("a" * 64, "1" * 40, (("b" * 64, "2" * 40),))
    (file,) = (tmp_path / "places").iterdir()
    assert "geheim" not in file.read_text()
    assert file.stat().st_mode & 0o077 == 0


def test_a_worker_finds_what_was_fetched_for_it_and_nothing_else(tmp_path):
    kept = KeptLoras(tmp_path / "kept", 10**6)
    data = write(tmp_path / "made.safetensors", PAIR).read_bytes()
    sha256 = keep(kept, data, 10)
    shelf = FolderShelf((), None, kept)
    assert shelf.file_of(Lora(PLACE, 1.0, sha256, True)).read_bytes() == data
    with pytest.raises(CheckpointError, match=r"'https://files.example/film.safetensors' was not fetched to this"):
        shelf.file_of(Lora(PLACE, 1.0, "0" * 64, True))
    kept.file(sha256).write_bytes(write(tmp_path / "made.safetensors", PAIR, {}, made="else").read_bytes())
    with pytest.raises(CheckpointError, match="is another file than the one that was asked for"):
        shelf.file_of(Lora(PLACE, 1.0, sha256, True))


def test_a_file_of_the_folder_wins_over_a_repository_of_that_name(tmp_path):
    write(tmp_path / "owner" / "film.safetensors", PAIR)
    shelf = FolderShelf((tmp_path,), None, KeptLoras(tmp_path / "kept", 1), parse_lora_sources("owner/*"))
    assert not shelf.find("owner/film").is_fetched
    assert shelf.find("owner/oil") is None


def test_a_picture_says_where_its_lora_came_from_without_secrets():
    loras = (Lora(PLACE, 0.5, "a" * 64, True),)
    request = GenerationRequest("a lake", "", 256, 256, 4, 3.5, 1.0, 42, PNG, loras=loras)
    told = picture_parameters(request, ModelInfo(FLUX_DEV.display_name, ModelFamily.DEV, "cpu"))
    url = "https://files.example/film.safetensors"
    assert told["loras"] == [{"path": url, "scale": 0.5, "sha256": "a" * 64}]
    assert "a lake <lora:film.safetensors:0.5>" in infotext(told)


@pytest.mark.parametrize("text", ["https://files.example/", "a/b/c", "files.example:port", "owner name"])
def test_a_setting_that_names_no_source_is_refused(text):
    with pytest.raises(ValueError, match="is no owner/name of the hub, and no host"):
        parse_lora_sources(f"owner/*, {text}")
