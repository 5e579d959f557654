"""The container files name only what exists; no engine is at hand to build them."""

import json
import re
import shlex
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from flux_endpoint.commands.app import app
from flux_endpoint.settings import Settings, WorkerSettings
from flux_endpoint.settings.fields import PREFIX
from flux_endpoint.settings.reader import list_settings

ROOT = Path(__file__).parents[2]
DOCKERFILES = sorted((ROOT / "deploy" / "docker").glob("*.Dockerfile"))
COMPOSE = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())
KNOWN = {info.variable for kind in (Settings, WorkerSettings) for info in list_settings(kind)}
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def is_sent(name: str) -> bool:
    """Whether `.dockerignore` lets a file of the root through: it keeps all out but what it names."""
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    return any(fnmatch(name, line[1:]) for line in lines if line.startswith("!"))


def wrong_words(words: list[str]) -> list[str]:
    """What of `flux-endpoint WORDS` does not exist."""
    command: Any = typer.main.get_command(app)
    rest = list(words)
    while hasattr(command, "commands") and rest:
        if rest[0] not in command.commands:
            return [rest[0]]
        command = command.commands[rest.pop(0)]
    known = {option for parameter in command.params for option in parameter.opts}
    return [word for word in rest if word.startswith("-") and word.partition("=")[0] not in known]


def problems(text: str) -> list[str]:
    """What a Dockerfile of ours names that is not there."""
    text = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE))
    steps = [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]
    found = []
    for step, rest in steps:
        if step in ("COPY", "ADD"):
            *sources, _ = [word for word in shlex.split(rest) if not word.startswith("--")]
            found += [f"{step} {name}" for name in sources if not (ROOT / name).exists() or not is_sent(name)]
        if step == "CMD":
            found += [f"CMD {word}" for word in wrong_words(json.loads(rest))]
        if step == "RUN":
            wanted = re.findall(r"\.\[([a-z0-9,]+)\]", rest)
            found += [f"extra {name}" for names in wanted for name in names.split(",") if name not in EXTRAS]
            found += ["pip without constraints"] * ("pip install" in rest and "-c constraints.txt" not in rest)
    found += sorted(set(re.findall(rf"{PREFIX}\w+", text)) - KNOWN)
    users = [rest for step, rest in steps if step == "USER"]
    return found + ["root"] * (users != ["10001"]) + ["no COPY"] * all(step != "COPY" for step, _ in steps)


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.stem)
def test_a_dockerfile_is_clean_and_names_what_exists(file: Path) -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([hadolint, file], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert 'ENTRYPOINT ["flux-endpoint"]' in file.read_text()
    assert problems(file.read_text()) == []


@pytest.mark.parametrize(
    ("line", "changed", "problem"),
    [
        ("COPY src ./src", "COPY --chown=flux source ./src", "COPY source"),
        ("COPY src ./src", "COPY src docs ./", "COPY docs"),
        ('CMD ["serve"]', 'CMD ["serve", "--prot", "9000"]', "CMD --prot"),
        ('CMD ["serve"]', 'CMD ["server"]', "CMD server"),
        ("FLUX_ENDPOINT_WORKERS", "FLUX_ENDPOINT_WORKER", "FLUX_ENDPOINT_WORKER"),
        ("[postgres]", "[postgresql]", "extra postgresql"),
        ("-c constraints.txt ", "", "pip without constraints"),
        ("USER 10001", "", "root"),
    ],
)
def test_a_mistake_in_a_dockerfile_is_found(line: str, changed: str, problem: str) -> None:
    text = (ROOT / "deploy" / "docker" / "gateway.Dockerfile").read_text()
    assert line in text
    assert problems(text.replace(line, changed)) == [problem]


def test_the_gateway_is_installed_without_a_model() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {re.split(r"[^a-z0-9-]", line)[0] for line in [*project["dependencies"], *EXTRAS["postgres"]]}
    assert not names & {"torch", "diffusers", "transformers", "numpy"}


def test_the_cuda_image_is_that_of_the_pinned_torch() -> None:
    # Look at what PyPI's torch asks for (`cuda-toolkit==…` in its metadata) before changing these.
    text = (ROOT / "deploy" / "docker" / "worker.Dockerfile").read_text()
    assert "torch==2.13.0" in EXTRAS["engine"]
    assert re.findall(r"^FROM nvidia/cuda:(\d+\.\d+)\.\d+-base-ubuntu24.04$", text, re.MULTILINE) == ["13.0"]


def test_the_compose_file_names_known_settings_files_and_volumes() -> None:
    services = COMPOSE["services"]
    assert services.keys() == {"database", "pictures", "gateway", "worker"}
    for name, kind in (("gateway", Settings), ("worker", WorkerSettings)):
        ours = {variable for variable in services[name]["environment"] if variable.startswith(PREFIX)}
        assert ours <= {info.variable for info in list_settings(kind)}
        build = services[name]["build"]
        assert (ROOT / "deploy" / build["context"]).resolve() == ROOT
        assert (ROOT / build["dockerfile"]).is_file()
        # What is kept lies where the image lets the user write.
        image = (ROOT / build["dockerfile"]).read_text()
        for volume in services[name]["volumes"]:
            assert f"VOLUME {volume.partition(':')[2]}\n" in image
            assert f"install -d -o flux {volume.partition(':')[2]}" in image
        assert not wrong_words(services[name].get("command", []))
    for service in services.values():
        assert {volume.partition(":")[0] for volume in service.get("volumes", [])} <= COMPOSE["volumes"].keys()
        assert set(service.get("depends_on", [])) <= services.keys()
        assert re.fullmatch(r"\S+:\d[\w.]*", service.get("image", "built:1"))


def test_the_composed_services_are_hardened() -> None:
    for name, service in COMPOSE["services"].items():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert not {"privileged", "cap_add", "network_mode", "pid", "ipc", "devices"} & service.keys()
        assert {"pids_limit", "mem_limit"} <= service.keys()
        assert set(service["networks"]) <= COMPOSE["networks"].keys()
        # What is not kept may be written only where it is gone with the container.
        assert "/tmp" in service["tmpfs"]
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), name
    assert COMPOSE["networks"]["inside"] == {"internal": True}
    assert {name for name, service in COMPOSE["services"].items() if service["networks"] == ["inside"]} == {
        "database",
        "pictures",
    }


def test_the_compose_file_holds_no_secret_and_says_which_it_needs() -> None:
    text = (ROOT / "deploy" / "compose.yaml").read_text()
    for name, value in re.findall(r"^ +(\w*(?:PASSWORD|TOKEN|SECRET\w*)): (.*)$", text, re.MULTILINE):
        assert value.startswith("${"), name
    guide = (ROOT / "docs" / "guides" / "deploy.md").read_text()
    for variable in set(re.findall(r"(?<!\$)\$\{(\w+)", text)):
        assert f"{variable}=" in guide, variable
