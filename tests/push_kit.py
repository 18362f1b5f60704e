"""A browser's half of Web Push, and a push service on loopback: written to RFC 8291 and RFC 8292, with nothing of what the hub uses."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


def base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def unbase64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@dataclass
class Browser:
    """The keys of one subscription, as a browser makes them."""

    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    auth: bytes = field(default_factory=lambda: secrets.token_bytes(16))

    @property
    def point(self) -> bytes:
        return self.key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

    @property
    def keys(self) -> dict[str, str]:
        return {"p256dh": base64url(self.point), "auth": base64url(self.auth)}

    def open(self, body: bytes) -> bytes:
        """Return what a message says (RFC 8291, 3.4 and RFC 8188, 2)."""
        salt, size, length = body[:16], int.from_bytes(body[16:20], "big"), body[20]
        sender, sealed = body[21 : 21 + length], body[21 + length :]
        assert size == 4_096
        assert len(body) <= 4_096, "a push service need not take more"
        assert len(sealed) <= size
        shared = self.key.exchange(
            ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), sender)
        )
        secret = _derived(shared, self.auth, b"WebPush: info\0" + self.point + sender, 32)
        key = _derived(secret, salt, b"Content-Encoding: aes128gcm\0", 16)
        nonce = _derived(secret, salt, b"Content-Encoding: nonce\0", 12)
        plain = AESGCM(key).decrypt(nonce, sealed, None).rstrip(b"\0")
        assert plain.endswith(b"\x02"), "this is not the last record"
        return plain[:-1]


def claims(authorization: str, public_key: str | None = None) -> dict[str, Any]:
    """Return what a hub signed for a push service; fails unless it holds (RFC 8292, 3)."""
    scheme, _, parts = authorization.partition(" ")
    assert scheme == "vapid"
    fields = dict(part.strip().split("=", 1) for part in parts.split(","))
    assert public_key in (None, fields["k"])
    header, body, signature = fields["t"].split(".")
    assert json.loads(unbase64url(header))["alg"] == "ES256"
    raw = unbase64url(signature)
    numbers = [int.from_bytes(half, "big") for half in (raw[:32], raw[32:])]
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), unbase64url(fields["k"]))
    key.verify(utils.encode_dss_signature(*numbers), f"{header}.{body}".encode(), ec.ECDSA(hashes.SHA256()))
    said: dict[str, Any] = json.loads(unbase64url(body))
    return said


@dataclass(frozen=True)
class Pushed:
    """One message as a push service took it."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    claims: Mapping[str, Any]


@dataclass
class PushService:
    """A push service that answers as it is told, and refuses what is not signed for it."""

    status: int = 201
    headers: dict[str, str] = field(default_factory=dict)
    silent: bool = False
    url: str = ""
    pushed: list[Pushed] = field(default_factory=list)
    came: asyncio.Event = field(default_factory=asyncio.Event)

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        said = claims(request.headers["Authorization"])
        assert said["aud"] == self.url
        assert time.time() < said["exp"] <= time.time() + 86_400
        assert urlsplit(said["sub"]).scheme in {"mailto", "https"}
        assert request.headers["Content-Encoding"] == "aes128gcm"
        self.pushed.append(Pushed(request.path, request.headers, body, said))
        self.came.set()
        if self.silent:
            await asyncio.Event().wait()
        return web.Response(status=self.status, headers=self.headers)


@asynccontextmanager
async def push_service() -> AsyncIterator[PushService]:
    service = PushService()
    app = web.Application()
    app.router.add_post("/{tail:.*}", service.take)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        service.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield service
    finally:
        await runner.cleanup()


def _derived(secret: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=length, salt=salt, info=info).derive(secret)
