"""What the guide to workers shows is what happens; the official SDK runs its handler in tests/clients."""

import re
from pathlib import Path

import pytest

from flux_endpoint.core.errors import InvalidParameter
from flux_endpoint.wiring.endpoints_file import read_endpoints_file

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "workers.md").read_text()


def test_the_example_file_declares_what_the_guide_says(tmp_path: Path) -> None:
    (example,) = re.findall(r"^```toml\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
    file = tmp_path / "endpoints.toml"
    file.write_text(example)
    shout, anything = read_endpoints_file(file, ())
    assert (shout.endpoint_id, shout.display_name, str(shout.price.usd)) == ("shout", "Shout", "0.00100000")
    assert (anything.endpoint_id, anything.input_schema) == ("anything", {"type": "object"})
    with pytest.raises(InvalidParameter) as caught:
        shout.accept({"text": "x" * 51})
    assert f"`{caught.value}`" in GUIDE
