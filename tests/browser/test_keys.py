"""Signing in: which key the page takes, what it asks, and what it writes into a shell."""

import subprocess

import pytest
from playwright.sync_api import Dialog, Page, expect

from tests.browser.actions import has_said, record
from tests.browser.conftest import Visitor
from tests.servers import Server, run_command

ODD_KEY = 'it\'s-"$HOME"-`ls`-\\-#&;|!'
STORED = "localStorage.getItem('flux-endpoint.key')"


def answer(page: Page, *, accept: bool) -> list[str]:
    """Answer the next question; what it said is in the list."""
    asked: list[str] = []

    def on_dialog(dialog: Dialog) -> None:
        asked.append(dialog.message)
        dialog.accept() if accept else dialog.dismiss()

    page.once("dialog", on_dialog)
    return asked


@pytest.mark.parametrize("accept", [False, True])
@pytest.mark.parametrize("place", ["", "usage"])
def test_a_link_with_another_key_asks_before_it_replaces_the_one_that_is_kept(
    visitor: Visitor, accept: bool, place: str
) -> None:
    page = visitor.visit()
    asked = answer(page, accept=accept)
    page.goto(f"{visitor.server.url}/{place}#key=fxe_of-somebody-else")
    page.wait_for_function("!location.hash.includes('key=')")
    assert len(asked) == 1
    assert "another API key (…else)" in asked[0]
    assert page.evaluate(STORED) == ("fxe_of-somebody-else" if accept else visitor.api_key)
    assert visitor.api_key not in asked[0]


def test_a_link_with_the_key_that_is_kept_asks_nothing(visitor: Visitor) -> None:
    page = visitor.visit()
    asked = answer(page, accept=False)
    page.goto(f"{visitor.server.url}/#key={visitor.api_key}")
    page.wait_for_function("!location.hash.includes('key=')")
    assert (asked, page.evaluate(STORED)) == ([], visitor.api_key)


@pytest.mark.parametrize("key", ["fxe_plain", ODD_KEY])
def test_the_copied_line_gives_a_shell_the_very_key(visitor: Visitor, key: str) -> None:
    page = visitor.visit(signed_in=False)
    page.evaluate("(key) => localStorage.setItem('flux-endpoint.key', key)", key)
    page.click("#tab-code")
    record(page, "#copy-key")
    page.click("#copy-key")
    has_said(page, "#copy-key", "Copied")
    line = page.evaluate("navigator.clipboard.readText()")
    done = subprocess.run(["bash", "-c", f'{line}\nprintf %s "$RUNPOD_API_KEY"'], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == (key, "")


def test_a_key_for_another_endpoint_than_the_first_signs_in(visitor: Visitor, server: Server) -> None:
    done = run_command("keys", "create", "guest", "--endpoint", "echo", cwd=server.folder, **server.settings)
    guest = done.stdout.split()[-1]
    page = visitor.visit(signed_in=False)
    page.click("#key-button")
    page.fill("#key-input", "fxe_wrong")
    page.keyboard.press("Enter")
    expect(page.locator("#key-error")).to_contain_text("unknown API key")
    page.fill("#key-input", guest)
    page.keyboard.press("Enter")
    expect(page.locator("#key-state")).to_have_text("Signed in")
    expect(page.locator("#key-dialog")).to_be_hidden()
    assert page.evaluate(STORED) == guest


def test_a_job_that_no_worker_will_take_is_told_so(visitor: Visitor) -> None:
    page = visitor.visit("endpoint=echo&input=%7B%22text%22%3A%22hello%22%7D")
    page.click("#run")
    expect(page.locator("#badge-text")).to_have_text("Waiting: no worker serves this endpoint")
    page.click("#cancel")
    expect(page.locator("#badge-text")).to_have_text("Cancelled")
