"""The container files name only what exists; no engine is at hand to build them."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import yaml

from flux_endpoint.cli import app
from flux_endpoint.settings import PREFIX, Settings, WorkerSettings, list_settings

ROOT = Path(__file__).parents[2]
DOCKERFILES = sorted((ROOT / "deploy" / "docker").glob("*.Dockerfile"))
KNOWN = {info.variable for kind in (Settings, WorkerSettings) for info in list_settings(kind)}


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.stem)
def test_a_dockerfile_is_clean_and_names_what_exists(file: Path) -> None:
    text = file.read_text()
    hadolint = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([hadolint, file], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    copied = [name for line in re.findall(r"^COPY (.+) \S+$", text, re.MULTILINE) for name in line.split()]
    assert copied
    assert not [name for name in copied if not (ROOT / name).exists()]
    assert 'ENTRYPOINT ["flux-endpoint"]' in text
    (command,) = re.findall(r"^CMD (.+)$", text, re.MULTILINE)
    assert json.loads(command)[0] in typer.main.get_command(app).commands
    assert set(re.findall(rf"{PREFIX}\w+", text)) <= KNOWN
    assert re.findall(r"^USER (\w+)$", text, re.MULTILINE) == ["10001"]


def test_the_compose_file_names_known_settings_and_files() -> None:
    services = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())["services"]
    assert services.keys() == {"database", "pictures", "gateway", "worker"}
    for name, kind in (("gateway", Settings), ("worker", WorkerSettings)):
        ours = {variable for variable in services[name]["environment"] if variable.startswith(PREFIX)}
        assert ours <= {info.variable for info in list_settings(kind)}
        assert (ROOT / services[name]["build"]["dockerfile"]).is_file()
