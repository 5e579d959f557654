"""Every program that the API view writes runs as it stands."""

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from flux_endpoint.core.marks import parameters_in
from tests.browser.actions import SMALL, fill, has_said, record
from tests.browser.conftest import Visitor
from tests.servers import DEADLINE_S, Server

NODE_MODULES = Path(__file__).parents[1] / "clients" / "node" / "node_modules"
PROMPT = 'It\'s a "lake", $HOME `ls` \\ %s {x}\nand 山 🌄'
COMMANDS = {
    "curl": ["bash", "-euc"],
    "requests": [sys.executable, "-c"],
    "runpod": [sys.executable, "-c"],
    "fetch": ["node"],
    "ai-sdk": ["node"],
}
# The AI SDK has one way only.
CASES = [(language, operation) for language in COMMANDS for operation in ("runsync", "run")][:-1]


@pytest.fixture(scope="module")
def programs(browser: Browser, server: Server, api_key: str) -> dict[tuple[str, str], str]:
    """All of them, as the page shows them for one input."""
    context = browser.new_context()
    page = Visitor(context, server, api_key, []).visit(signed_in=False)
    fill(page, **SMALL, seed=9)
    page.fill("#prompt", PROMPT)
    page.click("#tab-code")
    texts = {}
    for language, operation in CASES:
        page.select_option("#language", language)
        page.select_option("#operation", operation)
        texts[language, operation] = page.locator("#code").text_content()
    context.close()
    return texts


@pytest.mark.parametrize(("language", "operation"), CASES)
def test_a_program_draws_the_picture(
    programs: dict[tuple[str, str], str], server: Server, api_key: str, tmp_path: Path, language: str, operation: str
) -> None:
    program = programs[language, operation]
    assert api_key not in program
    if COMMANDS[language] == ["node"]:
        (tmp_path / "node_modules").symlink_to(NODE_MODULES)
        (tmp_path / "picture.mjs").write_text(program)
        program = "picture.mjs"
    done = subprocess.run(
        [*COMMANDS[language], program],
        cwd=tmp_path,
        env=os.environ | {"RUNPOD_API_KEY": api_key},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert done.returncode == 0, done.stderr
    # The last link that is printed: streams and jobs print more around it.
    start = done.stdout.rindex(f"{server.url}/images/")
    url = done.stdout[start:].split('"')[0].split()[0]
    parameters = parameters_in(httpx.get(url).content)
    assert {**parameters, "num_inference_steps": parameters["steps"]} | {**SMALL, "prompt": PROMPT, "seed": 9} == {
        **parameters,
        "num_inference_steps": parameters["steps"],
    }
    if language == "ai-sdk":
        assert (tmp_path / "picture.jpeg").read_bytes()[:2] == b"\xff\xd8"


def test_the_program_is_copied_as_it_is_seen(page: Page) -> None:
    fill(page, prompt="a lake")
    page.click("#tab-code")
    record(page, "#copy-code")
    page.click("#copy-code")
    has_said(page, "#copy-code", "Copied")
    assert page.evaluate("navigator.clipboard.readText()") == page.locator("#code").text_content()
    record(page, "#copy-key")
    page.click("#copy-key")
    has_said(page, "#copy-key", "Copied")
    assert page.evaluate("navigator.clipboard.readText()").startswith("export RUNPOD_API_KEY='fxe_")


@pytest.mark.usefixtures("own_profile")
def test_copying_needs_no_clipboard_of_the_browsers(visitor: Visitor) -> None:
    """As on a page that came over plain http from another machine."""
    visitor.context.add_init_script("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    page = visitor.visit()
    fill(page, prompt="a lake")
    page.click("#tab-code")
    program = page.locator("#code").text_content()
    record(page, "#copy-code")
    page.click("#copy-code")
    has_said(page, "#copy-code", "Copied")
    expect(page.locator("#copy-code")).to_be_focused()
    page.focus("#negative_prompt")
    page.keyboard.press("Control+V")
    assert page.input_value("#negative_prompt") == program
