"""Certificates that an operator pins: read from PEM, checked with the remedy in every refusal, and named by their SHA-256."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from lalert.errors import BadRequest

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

MAX_CERTIFICATES: Final = 20
MAX_PEM: Final = 65_536
MIN_RSA_BITS: Final = 2048

_BLOCK: Final = re.compile(r"-----BEGIN CERTIFICATE-----[^-]{1,32768}-----END CERTIFICATE-----")


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate as people and programs read of it; `fingerprint` is the SHA-256 of its DER, in hexadecimal."""

    pem: str
    fingerprint: str
    subject: str
    begins: datetime
    ends: datetime
    authority: bool = False
    """It may issue others' (RFC 5280, 4.2.1.9): pinning it is to trust whomever it does."""

    def valid_at(self, moment: datetime) -> bool:
        """Say whether the moment lies within the certificate's life, both ends included (RFC 5280, 4.1.2.5)."""
        return self.begins <= moment <= self.ends


def read_certificates(texts: Iterable[str]) -> tuple[Certificate, ...]:
    """Return every certificate in PEM texts, each once, in their order.

    Raises `BadRequest` for a text without one, for what is no certificate, a private key, or a key too weak to sign with.
    """
    found: dict[str, Certificate] = {}
    for number, text in enumerate(texts, 1):
        if len(text) > MAX_PEM:
            raise BadRequest(
                f"certificate {number}: has {len(text)} characters; {MAX_PEM} are the most that is read"
            )
        if "PRIVATE KEY-----" in text:
            raise BadRequest(
                f"certificate {number}: holds a private key, which nobody but its owner may have; give the certificate alone"
            )
        blocks = _BLOCK.findall(text)
        if not blocks:
            raise BadRequest(
                f"certificate {number}: no PEM certificate in it; it begins with -----BEGIN CERTIFICATE-----"
            )
        for block in blocks:
            certificate = read_certificate(block)
            found[certificate.fingerprint] = certificate
    if len(found) > MAX_CERTIFICATES:
        raise BadRequest(f"certificates: {len(found)} of them; {MAX_CERTIFICATES} are the most that is kept")
    return tuple(found.values())


@lru_cache(maxsize=256)
def read_certificate(pem: str) -> Certificate:
    """Return one certificate of a PEM text that is nothing but it; raises `BadRequest`."""
    from cryptography.hazmat.primitives.serialization import Encoding

    loaded = load(pem)
    return Certificate(
        pem=loaded.public_bytes(Encoding.PEM).decode(),
        fingerprint=hashlib.sha256(loaded.public_bytes(Encoding.DER)).hexdigest(),
        subject=loaded.subject.rfc4514_string()[:200],
        begins=loaded.not_valid_before_utc,
        ends=loaded.not_valid_after_utc,
        authority=_is_authority(loaded),
    )


def _is_authority(loaded: x509.Certificate) -> bool:
    from cryptography import x509

    try:
        return loaded.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def issued_by(
    leaf: Certificate, between: Iterable[Certificate], authorities: Sequence[Certificate], at: datetime
) -> bool:
    """Say whether pinned authorities vouch for a certificate at a time, directly or by others that go with it (RFC 5280, 6).

    It must be allowed to sign, if it says what it is for. Whether it has been revoked is not asked: unpinning is the remedy.
    """
    from cryptography import x509
    from cryptography.x509 import verification

    policies = verification.ExtensionPolicy
    own = policies.permit_all().may_be_present(x509.KeyUsage, verification.Criticality.AGNOSTIC, _may_sign)
    builder = (
        verification.PolicyBuilder()
        .store(verification.Store([load(each.pem) for each in authorities]))
        .time(at)
        .extension_policies(ee_policy=own, ca_policy=policies.webpki_defaults_ca())
    )
    try:
        builder.build_client_verifier().verify(load(leaf.pem), [load(each.pem) for each in between])
    except (verification.VerificationError, ValueError):
        return False
    return True


def _may_sign(_policy: object, _certificate: object, usage: x509.KeyUsage | None) -> None:
    if usage is not None and not usage.digital_signature:
        raise ValueError("its key is not for signatures")


@lru_cache(maxsize=256)
def load(pem: str) -> x509.Certificate:
    """Return a PEM certificate that a signature can be checked with; raises `BadRequest`."""
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    try:
        loaded = x509.load_pem_x509_certificate(pem.encode())
        key = loaded.public_key()
        loaded.subject.rfc4514_string()
        _is_authority(loaded)
    except Exception as error:  # whatever the parser of a stranger's DER makes of it, it is no certificate
        raise BadRequest(
            "certificate: what stands between BEGIN and END is no X.509 certificate; export it again as PEM"
        ) from error
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < MIN_RSA_BITS:
            raise BadRequest(
                f"certificate: an RSA key of {key.key_size} bits can be forged; use {MIN_RSA_BITS} bits or more"
            )
    elif not (isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _CURVES):
        raise BadRequest(
            "certificate: its key is neither RSA nor ECDSA on P-256, P-384 or P-521; use one of these"
        )
    return loaded


@lru_cache(maxsize=4)
def load_key(pem: str) -> rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey:
    """Return a private key to sign with; raises `BadRequest`."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise BadRequest(
            "private key: is none, or is protected by a password; write it as plain PEM"
        ) from error
    if not isinstance(key, (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey)):
        raise BadRequest("private key: is neither RSA nor ECDSA; use one of these")
    return key


def make_signer(name: str, now: datetime, lifetime: timedelta) -> tuple[str, str]:
    """Return a new RSA key of 3072 bits and its self-signed certificate, both PEM; takes some tenths of a second."""
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = rsa.generate_private_key(65537, 3072)
    # RFC 5280, appendix A.1: a common name has 1 to 64 characters; the library counts bytes.
    common = name.strip().encode()[:64].decode(errors="ignore") or "lalert"
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SLOW_CLOCKS)
        .not_valid_after(now + lifetime)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=False,
                crl_sign=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .sign(key, SHA256())
    )
    return (
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
        certificate.public_bytes(Encoding.PEM).decode(),
    )


_SLOW_CLOCKS: Final = timedelta(days=1)
_CURVES: Final = frozenset({"secp256r1", "secp384r1", "secp521r1"})
