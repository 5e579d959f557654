"""Signed pictures: what signs them, what is refused, and what a manifest is worth."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, x25519

from flux_endpoint import __version__
from flux_endpoint.core.catalog import FLUX_DEV
from flux_endpoint.core.errors import SettingsError, SigningFailed
from flux_endpoint.core.image_formats import IMAGE_FORMATS, JPEG, PNG, WEBP, ImageFormat
from flux_endpoint.core.marks import MADE_BY_A_MODEL, infotext_in, parameters_in, source_type_in
from flux_endpoint.engine.credentials import Credential, PictureSigner, credential_in
from flux_endpoint.engine.engine import FluxEngine
from flux_endpoint.engine.fake import FakeEngine
from flux_endpoint.engine.parameters import FileRules
from tests.certificates import Authority, key_as_pem, other_kinds_of_key
from tests.engine.conftest import draw, make_request


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.made(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def signer(authority: Authority) -> PictureSigner:
    return PictureSigner(*authority.issue())


def picture(image_format: ImageFormat, rules: FileRules) -> bytes:
    return draw(FakeEngine(FLUX_DEV, rules=rules), make_request(image_format=image_format)).data


@pytest.mark.parametrize("image_format", IMAGE_FORMATS.values(), ids=IMAGE_FORMATS)
def test_a_signed_picture_holds_and_keeps_its_marks(
    image_format: ImageFormat, signer: PictureSigner, authority: Authority
) -> None:
    rules = FileRules(sign=signer.sign)
    signed = picture(image_format, rules)
    assert credential_in(signed, image_format, authority.anchors.read_bytes()) == Credential(
        "trusted", "Pictures Ltd", "Pictures Ltd's server", f"flux-endpoint {__version__}", MADE_BY_A_MODEL
    )
    assert parameters_in(signed)["seed"] == make_request().seed
    assert infotext_in(signed)
    assert source_type_in(signed) == MADE_BY_A_MODEL
    assert picture(image_format, rules) != signed
    assert len(signed) - len(picture(image_format, FileRules())) < 6_000


def test_the_engine_with_a_model_signs_too(
    demo_engine: FluxEngine, signer: PictureSigner, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = make_request(num_inference_steps=1, image_format=WEBP)
    assert credential_in(draw(demo_engine, request).data, WEBP) is None
    monkeypatch.setattr(demo_engine, "_rules", FileRules(sign=signer.sign))
    found = credential_in(draw(demo_engine, request).data, WEBP)
    assert found is not None
    assert found.state == "valid"


def test_who_signed_counts_only_where_it_is_asked(signer: PictureSigner, tmp_path: Path) -> None:
    signed = picture(PNG, FileRules(sign=signer.sign))
    found = credential_in(signed, PNG)
    assert found is not None
    assert (found.state, found.problems) == ("valid", ())
    found = credential_in(signed, PNG, Authority.made(tmp_path).anchors.read_bytes())
    assert found is not None
    assert (found.state, found.problems) == ("untrusted", ("signingCredential.untrusted",))


@pytest.mark.parametrize("image_format", [JPEG, PNG], ids=str)
def test_a_changed_picture_does_not_hold(image_format: ImageFormat, signer: PictureSigner) -> None:
    signed = picture(image_format, FileRules(sign=signer.sign))
    changed = signed.replace(b"mountain", b"fountain")
    assert changed != signed
    found = credential_in(changed, image_format)
    assert found is not None
    assert (found.state, found.issuer) == ("invalid", "Pictures Ltd")
    assert "assertion.dataHash.mismatch" in found.problems


def test_a_broken_manifest_does_not_hold(signer: PictureSigner) -> None:
    signed = bytearray(picture(PNG, FileRules(sign=signer.sign)))
    signed[signed.find(b"caBX") + 40] ^= 255
    found = credential_in(bytes(signed), PNG)
    assert found is not None
    assert found.state == "invalid"
    assert found.problems


def test_an_unsigned_picture_has_none() -> None:
    assert credential_in(picture(PNG, FileRules()), PNG) is None


def test_keys_of_other_kinds_and_forms_sign(authority: Authority) -> None:
    for name, key in other_kinds_of_key().items():
        PictureSigner(*authority.issue(key, name=name))
    PictureSigner(*authority.issue(name="form", form=serialization.PrivateFormat.TraditionalOpenSSL))


def test_what_cannot_sign_is_refused_at_the_start(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.issue(name="right")
    odd = tmp_path / "odd.key"

    def refused(certificate: Path, key: Path) -> str:
        with pytest.raises(SettingsError, match=r"^C2PA_CERT and C2PA_KEY cannot be used: ") as caught:
            PictureSigner(certificate, key)
        return str(caught.value)

    assert "the certificate was not valid at time of signing" in refused(*authority.issue(name="old", days=-1))
    assert "does not match" in refused(certificate, authority.issue(name="other")[1])
    assert "no private key" in refused(certificate, certificate)
    assert "the certificate is invalid" in refused(key, key)
    assert f"{tmp_path / 'none'}: No such file or directory" in refused(tmp_path / "none", key)
    odd.write_bytes(key_as_pem(x25519.X25519PrivateKey.generate()))
    assert "C2PA takes keys for P-256" in refused(certificate, odd)
    secret = serialization.BestAvailableEncryption(b"secret")
    odd.write_bytes(key_as_pem(ec.generate_private_key(ec.SECP256R1()), encryption=secret))
    assert "the key has a password" in refused(certificate, odd)


def test_a_picture_that_cannot_be_signed_is_none(signer: PictureSigner) -> None:
    rules = FileRules(sign=lambda data, image_format: signer.sign(b"cut" + data, image_format))
    with pytest.raises(SigningFailed, match=r"^the picture could not be signed: "):
        picture(PNG, rules)


def test_anchors_must_be_certificates(signer: PictureSigner) -> None:
    with pytest.raises(SettingsError, match="no certificates"):
        credential_in(picture(PNG, FileRules(sign=signer.sign)), PNG, b"nobody")


def test_signing_makes_another_kind_of_worker(signer: PictureSigner) -> None:
    assert "files signed" in FakeEngine(FLUX_DEV, rules=FileRules(sign=signer.sign)).info.fingerprint
