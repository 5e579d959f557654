"""Certificates of an authority of the tests' own, as files."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = timedelta(days=1)
_OPEN = serialization.NoEncryption()


@dataclass(frozen=True)
class Authority:
    """Signs certificates for pictures.

    Attributes:
        folder: for all files.
    """

    folder: Path
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def made(cls, folder: Path) -> "Authority":
        authority = cls(folder, ec.generate_private_key(ec.SECP256R1()))
        authority.anchors.write_bytes(_pem(authority._certificate("Authority", authority.key, days=10)))
        return authority

    @property
    def anchors(self) -> Path:
        return self.folder / "authority.pem"

    def issue(self, key: Any = None, name: str = "Pictures Ltd", days: float = 5, **form: Any) -> tuple[Path, Path]:
        """A certificate with the authority's own behind it, and its key; `days` may be less than none."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        files = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        files[0].write_bytes(_pem(self._certificate(name, key, days)) + self.anchors.read_bytes())
        files[1].write_bytes(key_as_pem(key, **form))
        return files

    def _certificate(self, name: str, key: Any, days: float) -> x509.Certificate:
        is_authority = key is self.key
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(_name("Authority"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 20 * DAY)
            .not_valid_after(now + days * DAY)
            .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
            .add_extension(_usage(is_authority=is_authority), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )
        if not is_authority:
            purpose = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
            builder = builder.add_extension(purpose, critical=False)
        return builder.sign(self.key, hashes.SHA256())


def server_certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate of a server of that name, which signs for itself, and its key."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(_name(name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - DAY)
        .not_valid_after(now + DAY)
        .add_extension(x509.BasicConstraints(True, None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    files = folder / f"{name}.pem", folder / f"{name}.key"
    files[0].write_bytes(_pem(certificate))
    files[1].write_bytes(key_as_pem(key))
    return files


def key_as_pem(key: Any, form: Any = serialization.PrivateFormat.PKCS8, encryption: Any = _OPEN) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, form, encryption)


def other_kinds_of_key() -> dict[str, Any]:
    return {"P-384": ec.generate_private_key(ec.SECP384R1()), "Ed25519": ed25519.Ed25519PrivateKey.generate()}


def _name(organisation: str) -> x509.Name:
    parts = {NameOID.ORGANIZATION_NAME: organisation, NameOID.COMMON_NAME: f"{organisation}'s server"}
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in parts.items()])


def _usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_authority,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
