"""Content Credentials (C2PA): a signed manifest in a picture's file, and what a file's manifest is worth.

The only file that knows the libraries for it, which are an optional part of the installation.
"""

import importlib
import importlib.util
import io
import zlib
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from flux_endpoint import __version__
from flux_endpoint.core.errors import SettingsError, SigningFailed
from flux_endpoint.core.image_formats import PNG, ImageFormat
from flux_endpoint.core.marks import MADE_BY_A_MODEL, source_type_in
from flux_endpoint.core.text import printable
from flux_endpoint.engine.png import SIGNATURE, png_chunk, png_header

NOT_INSTALLED: Final = "C2PA needs an extra, which is installed by: pip install 'flux-endpoint[c2pa]'"
TRUSTED, VALID, UNTRUSTED, INVALID = "trusted", "valid", "untrusted", "invalid"

_GENERATOR: Final = {"name": "flux-endpoint", "version": __version__}
# By default the library puts a thumbnail of 45 kB into the file, and asks other servers for manifests kept there.
_SETTINGS: Final = {"builder": {"thumbnail": {"enabled": False}}, "verify": {"remote_manifest_fetch": False}}
_CURVES: Final = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}
# What a manifest lacks whose signer was not looked for among those that are trusted.
_NOT_AMONG_TRUSTED: Final = "signingCredential.untrusted"
# The smallest picture there is.
_SAMPLE: Final = (
    SIGNATURE + png_header(1, 1, 8, 0) + png_chunk(b"IDAT", zlib.compress(bytes(2))) + png_chunk(b"IEND", b"")
)


def is_installed() -> bool:
    """Whether manifests can be written and checked here."""
    return importlib.util.find_spec("c2pa") is not None


class PictureSigner:
    """Signs pictures' files with one certificate.

    Args:
        certificate: PEM of the certificate, and of those between it and its authority after it.
        key: PEM of its private key, without a password.

    Raises:
        SettingsError: the libraries are not installed, or the files are none with which pictures can be signed: a
            sample has been.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        _library()
        try:
            self._certificates = certificate.read_bytes()
            self._key, self._algorithm = _read_key(key.read_bytes())
            self.sign(_SAMPLE, PNG)
        except OSError as error:
            problem = f"{error.filename}: {error.strerror}"
        except (SigningFailed, ValueError) as error:
            problem = f"{certificate} and {key}: {error}"
        else:
            return
        raise SettingsError(f"C2PA_CERT and C2PA_KEY cannot be used: {problem}") from None

    def sign(self, data: bytes, image_format: ImageFormat) -> bytes:
        """A file with a signed manifest that binds all of its other bytes; each call gives other bytes.

        Raises:
            SigningFailed: it cannot be signed, or the certificate has expired.
        """
        c2pa = _library()
        signed = io.BytesIO()
        try:
            info = c2pa.C2paSignerInfo(self._algorithm.encode(), self._certificates, self._key, None)
            with (
                c2pa.Signer.from_info(info) as signer,
                c2pa.Context(settings=c2pa.Settings.from_dict(_SETTINGS)) as context,
                c2pa.Builder(_manifest(data), context=context) as builder,
            ):
                builder.sign(signer, image_format.media_type, io.BytesIO(data), signed)
        except c2pa.C2paError as error:
            raise SigningFailed(f"the picture could not be signed: {printable(str(error))}") from error
        return signed.getvalue()


@dataclass(frozen=True, slots=True)
class Credential:
    """What the manifest of a file is worth.

    Attributes:
        state: unchanged since somebody signed it who is among those that are trusted (`TRUSTED`), or is not
            (`UNTRUSTED`), or was not looked for (`VALID`); `INVALID`: changed, or never right.
        issuer: organisation that the certificate names; None where there is none.
        name: whom it was issued to.
        generator: program that made the manifest.
        source_type: IPTC's DigitalSourceType of what was created.
        problems: codes of C2PA, or words.
    """

    state: str
    issuer: str | None = None
    name: str | None = None
    generator: str | None = None
    source_type: str | None = None
    problems: tuple[str, ...] = ()


def credential_in(data: bytes, image_format: ImageFormat, anchors: bytes | None = None) -> Credential | None:
    """Check the manifest of a file, asking nobody; None where it has none.

    Args:
        data: the file.
        image_format: its format.
        anchors: PEM of the certificates of those who are trusted; None to look for nobody.

    Raises:
        SettingsError: `anchors` are no certificates.
    """
    c2pa = _library()
    trust = {} if anchors is None else {"trust": {"trust_anchors": _certificates(anchors)}}
    with c2pa.Context(settings=c2pa.Settings.from_dict(_SETTINGS | trust)) as context:
        try:
            reader = c2pa.Reader.try_create(image_format.media_type, io.BytesIO(data), context=context)
        except c2pa.C2paError as error:
            return Credential(INVALID, problems=(str(error),))
        if reader is None:
            return None
        with reader:
            return _credential(reader, is_trust_asked=anchors is not None)


def _manifest(data: bytes) -> dict[str, Any]:
    """What is signed of a file: it came into being with us, as its XMP says."""
    created = {
        "action": "c2pa.created",
        "digitalSourceType": source_type_in(data) or MADE_BY_A_MODEL,
        "softwareAgent": _GENERATOR,
    }
    assertion = {"label": "c2pa.actions", "data": {"actions": [created]}}
    return {"claim_generator_info": [_GENERATOR], "assertions": [assertion]}


def _credential(reader: Any, *, is_trust_asked: bool) -> Credential:
    manifest = reader.get_active_manifest() or {}
    results = (reader.get_validation_results() or {}).get("activeManifest", {})
    problems = [failure["code"] for failure in results.get("failure", ())]
    state = str(reader.get_validation_state()).lower()
    if is_trust_asked:
        state = UNTRUSTED if state == VALID else state
    else:
        problems = [code for code in problems if code != _NOT_AMONG_TRUSTED]
    signature = manifest.get("signature_info", {})
    generators = [f"{info.get('name', '')} {info.get('version', '')}" for info in manifest["claim_generator_info"]]
    actions = [
        action
        for assertion in manifest.get("assertions", ())
        if assertion["label"].startswith("c2pa.actions")
        for action in assertion["data"]["actions"]
    ]
    types = [action["digitalSourceType"] for action in actions if "digitalSourceType" in action]
    return Credential(
        state=state,
        issuer=signature.get("issuer"),
        name=signature.get("common_name"),
        generator=generators[0].strip() if generators else None,
        source_type=types[0] if types else None,
        problems=tuple(problems),
    )


def _library() -> ModuleType:
    if not is_installed():
        raise SettingsError(f"C2PA_CERT and C2PA_KEY cannot be used: {NOT_INSTALLED}")
    # Here and not above: it takes a third of a second.
    return importlib.import_module("c2pa")


def _certificates(pem: bytes) -> str:
    from cryptography import x509

    try:
        x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise SettingsError("there are no certificates in the file of those who are trusted") from None
    return pem.decode("ascii", "replace")


def _read_key(pem: bytes) -> tuple[bytes, str]:
    """A private key in the one form that the library reads, and the name of the algorithm that it is for."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except TypeError:
        raise ValueError("the key has a password") from None
    except ValueError:
        raise ValueError("there is no private key in the file") from None
    match key:
        case ec.EllipticCurvePrivateKey() if key.curve.name in _CURVES:
            algorithm = _CURVES[key.curve.name]
        case ed25519.Ed25519PrivateKey():
            algorithm = "ed25519"
        case rsa.RSAPrivateKey():
            algorithm = "ps256"
        case _:
            raise ValueError("C2PA takes keys for P-256, P-384, P-521, Ed25519 and RSA")
    plain = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain), algorithm
