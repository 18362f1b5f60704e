"""Encryption for one browser (RFC 8291), and the hub's signature for a push service (RFC 8292)."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections import OrderedDict
from datetime import datetime, timedelta
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from py_vapid import Vapid02
from pywebpush import WebPusher

from lalert.errors import BadRequest, TemporaryFailure
from lalert.plugin import HubApi

KEY: Final = "vapid-key"
VALID: Final = timedelta(hours=12)
"""How long a signature holds; at most 24 h (RFC 8292, 2). It is renewed at half of it."""
AUTH_BYTES: Final = 16
POINT_BYTES: Final = 65
MAX_AUDIENCES: Final = 256


class Vapid:
    """The hub's key for push services: made once, kept in the instance's state. Browsers are bound to it, so that another one reaches none of them."""

    def __init__(self, hub: HubApi, contact: str) -> None:
        self._hub = hub
        self._contact = contact
        self._signer: Vapid02 | None = None
        self._headers: OrderedDict[str, tuple[datetime, str]] = OrderedDict()

    async def prepare(self) -> None:
        """Make the key where there is none."""
        if await self._hub.state.get(KEY) is None:
            fresh = ec.generate_private_key(ec.SECP256R1())
            pem = fresh.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            await self._hub.state.put(KEY, pem)

    async def public(self) -> str:
        """Return the public key as browsers take it: base64url of the uncompressed point."""
        signer = await self._key()
        point = signer.public_key.public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )
        return base64.urlsafe_b64encode(point).rstrip(b"=").decode()

    async def header(self, audience: str, now: datetime) -> str:
        """Return the Authorization header for a push service's origin, made anew twice a day."""
        made, header = self._headers.get(audience, (now - VALID, ""))
        if not header or not timedelta(0) <= now - made < VALID / 2:
            signer = await self._key()
            claims = {"aud": audience, "exp": int((now + VALID).timestamp()), "sub": self._contact}
            header = str(signer.sign(claims)["Authorization"])
            self._headers[audience] = (now, header)
            if len(self._headers) > MAX_AUDIENCES:
                self._headers.popitem(last=False)
        return header

    def forget(self, audience: str) -> None:
        """Sign anew the next time: a push service did not accept this one."""
        self._headers.pop(audience, None)

    async def _key(self) -> Vapid02:
        if self._signer is None:
            # Not the one just made: where two nodes began at once, what is in the store holds for both.
            pem = await self._hub.state.get(KEY)
            if pem is None:
                raise TemporaryFailure("the key for push services is not there yet")
            self._signer = Vapid02.from_pem(pem)
        return self._signer


def sealed(payload: bytes, p256dh: str, auth: str) -> bytes:
    """Return a message that only the browser with these keys can read (aes128gcm). Takes a millisecond."""
    info = {"endpoint": "", "keys": {"p256dh": p256dh, "auth": auth}}
    return bytes(WebPusher(info).encode(payload)["body"])


def check_keys(p256dh: str, auth: str) -> None:
    """Raise `BadRequest` unless they are a browser's public key and its secret, in base64url."""
    point = _decoded(p256dh)
    try:
        ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    except ValueError:
        point = b""
    if len(point) != POINT_BYTES:
        raise BadRequest("options.p256dh: must be a point on P-256, uncompressed, in base64url")
    if len(_decoded(auth)) != AUTH_BYTES:
        raise BadRequest(f"options.auth: must be {AUTH_BYTES} bytes in base64url")


def tag(id: str) -> str:
    """Return 32 letters by which what continues the same is known; they tell a push service nothing (RFC 8030, 5.4)."""
    return base64.urlsafe_b64encode(hashlib.sha256(id.encode()).digest()[:24]).decode()


def _decoded(text: str) -> bytes:
    """Return what base64url says, b"" where it is none."""
    if len(text) > 128 or not text.isascii():
        return b""
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        return b""
