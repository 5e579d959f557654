"""The gallery of the embedded model shows what it can: small files, and inputs that draw them again."""

import json
from pathlib import Path

import flux_endpoint
from flux_endpoint.core.endpoint import FLUX_ENDPOINTS
from flux_endpoint.core.readmes import EMBEDDED_EXAMPLES
from flux_endpoint.core.vocabulary import Vocabulary

MODEL = Path(flux_endpoint.__file__).parent / "models" / "demo"
GALLERY = MODEL / "gallery"
PIECES = json.loads((GALLERY / "gallery.json").read_text(encoding="utf-8"))


def test_there_are_twelve_pictures_which_take_little_room():
    assert len(PIECES) == 12
    assert {file.name for file in GALLERY.iterdir()} == {"gallery.json", *(piece["picture"] for piece in PIECES)}
    assert sum(file.stat().st_size for file in GALLERY.iterdir()) <= 150_000


def test_every_input_is_whole_and_its_endpoint_accepts_it_without_a_warning():
    vocabulary = Vocabulary.read((MODEL / "vocabulary.json").read_bytes())
    for piece in PIECES:
        accepted = FLUX_ENDPOINTS[piece["endpoint"]].accept(piece["input"])
        assert accepted.warnings == ()
        assert piece["input"].items() <= accepted.input.items()
        assert [*vocabulary.warnings("prompt", piece["input"]["prompt"])] == []


def test_the_prompts_to_begin_with_are_of_the_gallery():
    assert set(EMBEDDED_EXAMPLES) <= {piece["input"]["prompt"] for piece in PIECES}
