"""What `flux-endpoint verify` says of files, and its exit codes."""

import importlib.util
import json

import pytest

from flux_endpoint import __version__
from flux_endpoint.core.marks import MADE_BY_A_MODEL
from tests.certificates import Authority

pytestmark = pytest.mark.usefixtures("empty_place")
DRAW = ["generate", "a lake\x1b[2J", "--model", "fake", "--width", "256", "--seed", "7", "-o", "lake.png"]


@pytest.fixture
def authority(tmp_path):
    return Authority.made(tmp_path)


def draw_signed(run, authority):
    certificate, key = authority.issue()
    assert run(*DRAW, "--c2pa-cert", str(certificate), "--c2pa-key", str(key))[0] == 0


def test_a_signed_picture(run, authority):
    draw_signed(run, authority)
    code, out, _ = run("verify", "lake.png")
    assert code == 0
    assert "\x1b" not in out
    lines = {line[2:22].strip(): line[23:] for line in out.splitlines()[1:]}
    assert lines["prompt"] == r"a lake\x1b[2J"
    assert (lines["source type"], lines["signed source type"]) == ("trainedAlgorithmicMedia",) * 2
    assert lines["signature"] == "holds: unchanged since it was signed; whether to trust the signer is not checked"
    assert (lines["signed by"], lines["seed"]) == ("Pictures Ltd, Pictures Ltd's server", "7")
    code, out, _ = run("verify", "lake.png", "--trust", str(authority.anchors), "--json")
    told = json.loads(out)
    assert (code, told["source_type"], told["parameters"]["seed"]) == (0, MADE_BY_A_MODEL, 7)
    assert told["c2pa"] == {
        "state": "trusted",
        "issuer": "Pictures Ltd",
        "name": "Pictures Ltd's server",
        "generator": f"flux-endpoint {__version__}",
        "source_type": MADE_BY_A_MODEL,
        "problems": [],
    }


def test_one_that_somebody_else_signed_or_has_changed(run, authority, tmp_path):
    draw_signed(run, authority)
    (tmp_path / "others").mkdir()
    strangers = Authority.made(tmp_path / "others").anchors
    code, out, _ = run("verify", "lake.png", "--trust", str(strangers), "--json")
    assert (code, json.loads(out)["c2pa"]["state"]) == (1, "untrusted")
    picture = tmp_path / "lake.png"
    picture.write_bytes(picture.read_bytes().replace(b"a lake", b"a cake"))
    code, out, _ = run("verify", "lake.png")
    assert code == 1
    assert "does not hold: changed since it was signed" in out
    assert "assertion.dataHash.mismatch" in out


def test_one_that_is_not_signed(run):
    run(*DRAW)
    code, out, _ = run("verify", "lake.png")
    assert code == 3
    assert "none: nobody vouches for what the file says" in out
    assert json.loads(run("verify", "lake.png", "--json")[1])["c2pa"] == {"state": "none"}


def test_without_the_extra_nothing_is_checked_or_signed(run, authority, monkeypatch):
    draw_signed(run, authority)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    code, out, _ = run("verify", "lake.png")
    assert code == 4
    assert "pip install 'flux-endpoint[c2pa]'" in out
    assert "trainedAlgorithmicMedia" in out
    certificate, key = authority.issue()
    for command in (["serve", "--model", "fake"], DRAW):
        code, out, err = run(*command, "--c2pa-cert", str(certificate), "--c2pa-key", str(key))
        assert (code, out) == (2, "")
        assert err == (
            "flux-endpoint: C2PA_CERT and C2PA_KEY cannot be used: C2PA needs an extra, which is installed by: "
            "pip install 'flux-endpoint[c2pa]'\n"
        )


def test_what_is_no_picture(run, tmp_path):
    assert run("verify", "nowhere.png") == (2, "", "flux-endpoint: nowhere.png: No such file or directory\n")
    (tmp_path / "text.png").write_text("text")
    assert run("verify", "text.png") == (2, "", "flux-endpoint: text.png is no JPEG, PNG or WEBP\n")


@pytest.mark.parametrize("given", ["--c2pa-cert", "--c2pa-key"])
def test_one_of_certificate_and_key_is_not_enough(run, given):
    code, _, err = run("serve", "--model", "fake", given, "some.pem")
    assert (code, err) == (2, "flux-endpoint: C2PA_CERT and C2PA_KEY must be set both, or neither\n")


def test_a_server_whose_certificate_has_expired_does_not_start(run, authority):
    certificate, key = authority.issue(days=-1)
    code, _, err = run("serve", "--model", "fake", "--c2pa-cert", str(certificate), "--c2pa-key", str(key))
    assert code == 2
    assert err.endswith("the certificate was not valid at time of signing\n")
