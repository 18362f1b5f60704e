"""Keys and certificates for tests: made once per process, because making an RSA key takes longer than all that is done with it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from lalert import cap

BEGINS = datetime(2026, 1, 1, tzinfo=UTC)
ENDS = datetime(2030, 1, 1, tzinfo=UTC)

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


@dataclass(frozen=True, slots=True)
class Signer:
    """A private key with its certificate, both as PEM texts."""

    key: str
    certificate: str


@cache
def signer(
    name: str = "town", kind: str = "rsa", begins: datetime = BEGINS, ends: datetime = ENDS, bits: int = 2048
) -> Signer:
    """Return a self-signed signer, the same for the same arguments."""
    private = private_key(name, kind, bits)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .sign(private, None if isinstance(private, ed25519.Ed25519PrivateKey) else SHA256())
    )
    return Signer(
        private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
        certificate.public_bytes(Encoding.PEM).decode(),
    )


class Signs:
    """A hub's signing key without its file."""

    async def signer(self) -> cap.Signer:
        made = signer("hub")
        return cap.signer(made.key, made.certificate)


@cache
def private_key(name: str, kind: str, bits: int) -> PrivateKey:
    match kind:
        case "rsa":
            return rsa.generate_private_key(65537, bits)
        case "ec":
            return ec.generate_private_key(ec.SECP256R1())
        case _:
            return ed25519.Ed25519PrivateKey.generate()


@cache
def authority(name: str = "authority", by: Signer | None = None, path_length: int | None = None) -> Signer:
    """Return a signer that may issue certificates, its own or `by` another's authority."""
    return _issue(name, by, BEGINS, ENDS, ca=True, signs=False, path_length=path_length)


@cache
def member(
    name: str, by: Signer, begins: datetime = BEGINS, ends: datetime = ENDS, signs: bool = True
) -> Signer:
    """Return a signer whose certificate an authority has issued; `signs` says whether its key is for signatures."""
    return _issue(name, by, begins, ends, ca=False, signs=signs)


def _issue(
    name: str,
    by: Signer | None,
    begins: datetime,
    ends: datetime,
    *,
    ca: bool,
    signs: bool,
    path_length: int | None = None,
) -> Signer:
    private = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    above = x509.load_pem_x509_certificate(by.certificate.encode()) if by else None
    issuing = load_pem_private_key(by.key.encode(), None) if by else private
    assert isinstance(issuing, ec.EllipticCurvePrivateKey)
    usage = x509.KeyUsage(signs, False, not ca, False, False, ca, ca, False, False)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(above.subject if above else subject)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca, path_length), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(private.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuing.public_key()), critical=False
        )
        .sign(issuing, SHA256())
    )
    return Signer(
        private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
        certificate.public_bytes(Encoding.PEM).decode(),
    )
