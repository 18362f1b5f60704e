"""How many signatures a second are verified and made, and what that costs beyond signxml alone.

Run it as `python -m bench.signature`. Both sides are taken in turns in one run, so that a busy machine slows both.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from lxml import etree
from signxml.algorithms import CanonicalizationMethod
from signxml.signer import XMLSigner
from signxml.verifier import SignatureConfiguration, XMLVerifier

from bench.validate import document
from lalert import cap

ROUNDS = 100
CALLS = 5


def main() -> None:
    raw = document()
    alert = cap.parse(raw)
    key, certificate = cap.make_signer("bench", alert.sent, timedelta(days=3650))
    signed = cap.sign(raw, key, certificate)
    root = etree.fromstring(raw)
    private = load_pem_private_key(key.encode(), None)
    assert isinstance(private, RSAPrivateKey)
    loaded = cap.signer(key, certificate)
    expected = SignatureConfiguration(location="./", verification_time=alert.sent)
    plain = XMLSigner(c14n_algorithm=CanonicalizationMethod.EXCLUSIVE_XML_CANONICALIZATION_1_0)
    at = alert.sent.astimezone(UTC) + timedelta(minutes=1)

    def verify() -> None:
        assert cap.verify(signed, [certificate], at, alert).signer == loaded.certificate.fingerprint

    print(f"an alert of {len(raw):,} bytes, RSA 3072, SHA-256 ({datetime.now(UTC):%Y-%m-%d})")
    compare(
        "verify", verify, lambda: XMLVerifier().verify(signed, x509_cert=certificate, expect_config=expected)
    )
    compare("sign", lambda: loaded.sign(raw), lambda: plain.sign(root, key=private, cert=certificate))


def compare(name: str, ours: Callable[[], object], bare: Callable[[], object]) -> None:
    own, others = [], []
    for _ in range(ROUNDS):
        own.append(seconds(ours))
        others.append(seconds(bare))
    mine, theirs = statistics.median(own), statistics.median(others)
    print(
        f"{name:7} {1 / mine:7,.0f} a second ({mine * 1e3:.2f} ms); signxml alone {1 / theirs:7,.0f} ({theirs * 1e3:.2f} ms); "
        f"ratio {mine / theirs:.2f}"
    )


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    for _ in range(CALLS):
        work()
    return (time.perf_counter() - begun) / CALLS


if __name__ == "__main__":
    main()
