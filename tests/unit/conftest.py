"""Command lines, run in the test's own process."""

import logging
import os

import pytest

from flux_endpoint.commands.app import main
from flux_endpoint.settings.fields import PREFIX


@pytest.fixture
def empty_place(monkeypatch, tmp_path):
    """An empty folder to be in, and no settings in the environment."""
    for name in list(os.environ):
        if name.upper().startswith(PREFIX):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    # Wide enough for no word to be broken.
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def run(capsys):
    """Runs a command line; returns exit code, standard output and standard error."""
    root = logging.getLogger()
    handlers = root.handlers[:]

    def run_command(*arguments):
        code = 0
        try:
            main(arguments)
        except SystemExit as end:
            code = end.code or 0
        return code, *capsys.readouterr()

    yield run_command
    # A command that logs does so to the standard error of this test, which ends with it.
    root.handlers[:] = handlers


def assert_one_line(code, out, err, expected_code):
    """A mistake is told in one line; returns it."""
    assert code == expected_code
    assert out == ""
    assert err.startswith("flux-endpoint: ")
    assert err.count("\n") == 1
    return err
