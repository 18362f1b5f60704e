"""Keys and certificates for tests: made once per process, because making an RSA key takes longer than all that is done with it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
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
