"""The hub's own key: made once, private, kept, and never replaced behind anybody's back."""

from __future__ import annotations

import asyncio
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import structlog
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from lalert import cap, config
from lalert.errors import BadRequest, ConfigError, StoreError
from lalert.signing import FILE, Signing
from lalert.testing import FakeClock, make_cap
from tests.signing_kit import signer

NOW = datetime(2026, 11, 24, tzinfo=UTC)
TOWN = signer()


def signing(
    data: Path, key: str = "", certificate: str = "", now: datetime = NOW, name: str = "人吉市"
) -> Signing:
    return Signing(data, FakeClock(now), key_file=key, certificate_file=certificate, name=name)


async def test_a_key_of_its_own_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        first = signing(tmp_path)
        made, again = await asyncio.gather(first.signer(), first.signer())
    finally:
        os.umask(before)
    assert made is again
    assert os.listdir(tmp_path) == [FILE]  # noqa: PTH208  # no drafts are left
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
    kept = (tmp_path / FILE).read_bytes()
    later = await signing(tmp_path, now=NOW + timedelta(days=5000), name="another").signer()
    assert later == made
    assert (tmp_path / FILE).read_bytes() == kept
    certificate = x509.load_pem_x509_certificate(made.certificate.pem.encode())
    key = certificate.public_key()
    assert isinstance(key, rsa.RSAPublicKey)
    assert key.key_size == 3072
    assert made.certificate.subject == "CN=人吉市"
    assert made.certificate.valid_at(NOW - timedelta(minutes=5))
    assert made.certificate.valid_at(NOW + timedelta(days=3649))
    assert "PRIVATE" not in made.published
    assert "PRIVATE" not in repr(made)


@pytest.mark.parametrize("name", ["", " ", "長" * 100, "a,b=c\\"])
def test_any_name_of_a_hub_gives_a_certificate(name: str) -> None:
    key, certificate = cap.make_signer(name, NOW, timedelta(days=1))
    made = cap.signer(key, certificate)
    raw = made.sign(make_cap(sent=NOW))
    assert cap.verify(raw, [certificate], NOW, cap.parse(raw)).signer == made.certificate.fingerprint


@pytest.mark.parametrize(
    "text",
    ["", "nonsense", TOWN.certificate, TOWN.key, TOWN.key + signer("other").certificate, "\u3042"],
    ids=["empty", "nonsense", "no key", "no certificate", "another's certificate", "no ASCII"],
)
async def test_a_damaged_key_is_kept_and_named_with_the_remedy(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text, encoding="utf-8")
    with pytest.raises(StoreError, match=r"signing\.pem.*backup.*move it away"):
        await signing(tmp_path).signer()
    assert (tmp_path / FILE).read_text(encoding="utf-8") == text


@pytest.mark.parametrize("kind", ["rsa", "ec"])
async def test_the_operators_key_is_used_and_its_chain_published(tmp_path: Path, kind: str) -> None:
    own, above = signer("own", kind), signer("above")
    key, chain = tmp_path / "key.pem", tmp_path / "chain.pem"
    key.write_text(own.key)
    chain.write_text(own.certificate + above.certificate)
    used = await signing(tmp_path / "data", str(key), str(chain)).signer()
    assert used.certificate == cap.read_certificate(own.certificate)
    assert used.published == own.certificate + above.certificate
    assert not (tmp_path / "data").exists()


async def test_an_operators_mistake_is_named_by_its_setting(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    with pytest.raises(ConfigError, match=r"hub\.signing_key_file: .*key\.pem cannot be read"):
        await signing(tmp_path, str(key), str(certificate)).signer()
    key.write_text(TOWN.key)
    certificate.write_text("あ", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"hub\.signing_certificate_file: .*no PEM"):
        await signing(tmp_path, str(key), str(certificate)).signer()
    certificate.write_text(signer("other").certificate)
    with pytest.raises(ConfigError, match="not that of the certificate"):
        await signing(tmp_path, str(key), str(certificate)).signer()
    with pytest.raises(ConfigError, match="give both, or neither"):
        config.parse(f'[hub]\nsigning_key_file = "{key}"')


async def test_a_certificate_that_ends_soon_is_said_and_still_used(tmp_path: Path) -> None:
    await signing(tmp_path).signer()
    with structlog.testing.capture_logs() as said:
        await signing(tmp_path, now=NOW + timedelta(days=3649)).signer()
    assert [(line["log_level"], "docs/signatures.md" in line["event"]) for line in said] == [
        ("warning", True)
    ]


def test_a_key_that_cannot_sign_is_refused() -> None:
    for key in ("", TOWN.certificate, signer("ed", "ed25519").key):
        with pytest.raises(BadRequest, match="private key"):
            cap.signer(key, TOWN.certificate)


async def test_nodes_of_one_store_have_no_key_of_their_own(tmp_path: Path) -> None:
    one_of_many = Signing(
        tmp_path, FakeClock(NOW), key_file="", certificate_file="", name="人吉市", shared=True
    )
    with pytest.raises(StoreError, match="sign with the same key"):
        await one_of_many.signer()
    assert not list(tmp_path.iterdir())
