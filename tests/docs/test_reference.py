"""The generated pages of docs/reference say what the code says."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
assert _spec and _spec.loader
generate = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(generate)


@pytest.mark.parametrize("name", generate.pages())
def test_the_page_is_that_of_this_code(name: str) -> None:
    written = (ROOT / "docs" / "reference" / name).read_text()
    assert written == generate.pages()[name].rstrip() + "\n", "run `make reference`"


def test_the_page_of_settings_has_every_one_of_them() -> None:
    page = generate.pages()["settings.md"]
    for name in ("PORT", "MODEL", "GATEWAY", "WORKER_ID"):
        assert page.count(f"| `{name}` |") == 1
