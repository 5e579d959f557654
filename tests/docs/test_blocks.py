"""Every block of README and docs is what it says: programs run, data parses, commands exist."""

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from PIL import Image
from standardwebhooks import Webhook

from flux_endpoint.commands.app import app
from flux_endpoint.core.vocabulary import Vocabulary
from tests.servers import DEADLINE_S, Server, Servers

# Together on one of the parallel processes, so that they share a server.
pytestmark = pytest.mark.xdist_group("blocks")

ROOT = Path(__file__).parents[2]
NODE_MODULES = ROOT / "tests" / "clients" / "node" / "node_modules"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# What only shows something; all other languages are run or parsed here.
SHOWN = {"text"}
# Run by a test of its own, with what it needs around it.
ELSEWHERE = {
    ("workers.md", "python"),
    ("webhooks.md", "python"),
    ("webhooks.md", "javascript"),
    ("fal.md", "python"),
    ("marks.md", "bash"),
    ("loras.md", "bash"),
}
PARSERS = {"json": json.loads, "toml": tomllib.loads, "yaml": yaml.safe_load}
COMMANDS = {"bash": ["bash", "-euc"], "python": [sys.executable, "-c"], "javascript": ["node", "program.mjs"]}


def blocks() -> list[tuple[Path, str, str]]:
    """Page, language and text of all fenced blocks."""
    found = []
    for page in PAGES:
        for language, text in re.findall(r"^```([a-z]*)[^\n]*\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
            found.append((page, language, text))
    return found


PROGRAMS = [block for block in blocks() if block[1] in COMMANDS and (block[0].name, block[1]) not in ELSEWHERE]
DATA = [block for block in blocks() if block[1] in PARSERS]


def name(value: Any) -> str | None:
    return value.stem if isinstance(value, Path) else value if value in COMMANDS else ""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    servers = Servers(tmp_path_factory.mktemp("server"))
    server = servers.start(model="fake")
    # As in a clone of the repository after `make serve`.
    programs = server.folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    (programs / "flux-endpoint").write_text(f'#!/bin/sh\nexec {sys.executable} -m flux_endpoint "$@"\n')
    (programs / "flux-endpoint").chmod(0o755)
    (programs / "python").symlink_to(sys.executable)
    (server.folder / "node_modules").symlink_to(NODE_MODULES)
    # Drawn by a block that may run later than those that use it, or on another process.
    Image.new("RGB", (256, 256), "red").save(server.folder / "house.png")
    yield server
    servers.close()


def test_every_block_says_what_it_is() -> None:
    for page, language, text in blocks():
        assert language in {*COMMANDS, *SHOWN, *PARSERS}, f"{page.name}: a block of {language!r}: {text[:50]}"
    assert {page.name for page, *_ in PROGRAMS} >= {"README.md", "quickstart.md", "clients.md", "batches.md"}


@pytest.mark.parametrize(("page", "language", "text"), PROGRAMS, ids=name)
def test_a_program_runs_as_it_stands(page: Path, language: str, text: str, server: Server) -> None:
    program = text.replace("http://127.0.0.1:8000", server.url)
    (server.folder / "program.mjs").write_text(program)
    command = COMMANDS[language] + ([] if language == "javascript" else [program])
    key = (server.data_dir / "api-key").read_text().strip()
    environment = os.environ | {"RUNPOD_API_KEY": key, "FLUX_ENDPOINT_MODEL": "fake"}
    done = subprocess.run(
        command, cwd=server.folder, env=environment, capture_output=True, text=True, timeout=DEADLINE_S
    )
    assert done.returncode == 0, done.stderr
    assert '"error"' not in done.stdout
    if page.name == "clients.md" and language != "bash":
        assert done.stdout.startswith(f"{server.url}/images/"), done.stdout


@pytest.mark.parametrize(("page", "language", "text"), DATA, ids=name)
def test_data_parses(page: Path, language: str, text: str) -> None:
    assert PARSERS[language](text)


def check_of_a_webhook(language: str) -> tuple[str, str, dict[str, str]]:
    """The program of the guide with a secret in it; a body and its headers that are signed with that."""
    (program,) = [text for page, shown, text in blocks() if (page.name, shown) == ("webhooks.md", language)]
    secret, body = "whsec_" + "c2VjcmV0" * 4, '{"id": "1", "status": "COMPLETED"}'
    now = datetime.now(UTC)
    signature = Webhook(secret).sign("1", now, body)
    headers = {"webhook-id": "1", "webhook-timestamp": str(int(now.timestamp())), "webhook-signature": signature}
    assert "whsec_..." in program
    return program.replace("whsec_...", secret), body, headers


def test_the_check_of_a_webhook_tells_a_signed_one_from_a_forged_one() -> None:
    program, body, headers = check_of_a_webhook("python")
    names: dict[str, Any] = {"headers": headers, "body": body}
    exec(program, names)
    assert names["job"] == json.loads(body)
    with pytest.raises(Exception, match="signature"):
        exec(program, {"headers": headers, "body": body.replace("1", "2")})


def test_so_does_the_one_in_javascript(tmp_path: Path) -> None:
    program, body, headers = check_of_a_webhook("javascript")
    (tmp_path / "node_modules").symlink_to(NODE_MODULES)

    def run(body: str) -> subprocess.CompletedProcess[str]:
        given = f"const body = {json.dumps(body)}, headers = {json.dumps(headers)};\n"
        (tmp_path / "check.mjs").write_text(given + program + "console.log(JSON.stringify(job));\n")
        return subprocess.run(
            ["node", "check.mjs"], cwd=tmp_path, capture_output=True, text=True, timeout=DEADLINE_S, check=False
        )

    done = run(body)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads(body)
    forged = run(body.replace("1", "2"))
    assert (forged.returncode, "No matching signature" in forged.stderr) == (1, True), forged.stderr


def shown_commands() -> list[tuple[str, str]]:
    """Page and command of each line of a block, fenced or indented, that calls `flux-endpoint`."""
    found = []
    for page in PAGES:
        is_in_fence = False
        for line in page.read_text().splitlines():
            if line.startswith("```"):
                is_in_fence = not is_in_fence
            elif (is_in_fence or line.startswith("    ")) and (
                call := re.search(r"(?<!-n )\bflux-endpoint ([a-z].*)", line)
            ):
                found.append((page.name, call.group(1)))
    return found


def test_every_command_shown_exists_with_its_options() -> None:
    assert len(shown_commands()) > 10
    for page, line in shown_commands():
        words = shlex.split(re.split(r"[>|;]|\)\"", line)[0].strip(), comments=True)
        command: Any = typer.main.get_command(app)
        while hasattr(command, "commands") and words:
            assert words[0] in command.commands, f"{page}: flux-endpoint {line}"
            command = command.commands[words.pop(0)]
        known = {option for parameter in command.params for option in parameter.opts}
        for word in words:
            assert not word.startswith("-") or word.partition("=")[0] in known, f"{page}: {word} in {line}"


def test_commands_are_shown_as_a_clone_has_them() -> None:
    """After `make serve` there is a `.venv`, and nothing on the PATH."""
    bare = re.compile(r"(?<![\w/.\-])flux-endpoint (?=serve|worker|generate|keys|models|usage|webhooks)")
    shown = [(page.name, line) for page in PAGES for line in page.read_text().splitlines() if bare.search(line)]
    # Generated from the code, and what is typed inside containers.
    shown = [(page, line) for page, line in shown if page not in ("cli.md", "settings.md", "deploy.md")]
    assert shown == []


def test_the_embedded_model_can_draw_what_is_shown() -> None:
    """Newcomers copy these, and judge by what comes out: the first they meet are of its gallery, all in its words."""
    model = ROOT / "src" / "flux_endpoint" / "models" / "demo"
    pieces = json.loads((model / "gallery" / "gallery.json").read_text(encoding="utf-8"))
    best = {piece["input"]["prompt"] for piece in pieces}
    vocabulary = Vocabulary.read((model / "vocabulary.json").read_bytes())
    shown = re.compile(r'(?:\bprompt"?(?:: |=)|flux-endpoint generate )"([^"]+)"')
    prompts = {page.name: shown.findall(page.read_text()) for page in PAGES}
    assert sum(map(len, prompts.values())) > 20
    for page in ("README.md", "quickstart.md", "another-machine.md", "moving-from-runpod.md"):
        assert set(prompts[page]) <= best, page
    for page, texts in prompts.items():
        assert [said for text in texts for said in vocabulary.warnings("prompt", text)] == [], page


def test_every_verb_of_make_that_is_shown_exists() -> None:
    verbs = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in [*PAGES, ROOT / "CONTRIBUTING.md"]:
        shown = re.findall(r"^(?:    )?make ([a-z-]+)|`make ([a-z-]+)", page.read_text(), re.MULTILINE)
        assert {one or other for one, other in shown} <= verbs, page.name
