"""Which endpoints have their prompts counted, and by what."""

import sys
from importlib.machinery import BuiltinImporter
from typing import Any

import pytest

from flux_endpoint.settings import Settings
from flux_endpoint.wiring.token_counters import token_counters
from tests.servers import DEV, SCHNELL


def counters(**values: Any) -> Any:
    return token_counters(Settings(_env_file=None, **values))


def test_the_embedded_model_is_counted_with_its_own_tokenizers_and_real_weights_with_those_of_flux_1() -> None:
    demo, real = counters(model="demo"), counters(model="someone/a-flux", schnell_model="someone/a-schnell")
    assert (demo[DEV]("a lake").t5_limit, demo[SCHNELL]("a lake").t5_limit) == (64, 64)
    assert (real[DEV]("a lake").t5_limit, real[SCHNELL]("a lake").t5_limit) == (512, 256)


def test_nothing_is_counted_for_a_model_without_text_encoders() -> None:
    assert counters(model="fake") == {}


def test_a_gateway_without_tokenizers_counts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(_env_file=None, model="demo")
    # As where the extra `engine` is not installed.
    monkeypatch.delitem(sys.modules, "tokenizers", raising=False)
    monkeypatch.setattr(sys, "meta_path", [BuiltinImporter])
    assert token_counters(settings) == {}
