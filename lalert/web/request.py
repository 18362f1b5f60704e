"""Reading a request at the door: who calls, which type, how much, and which of several forms is wanted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
from aiohttp import hdrs, web
from aiohttp.typedefs import Middleware

from lalert.clock import Clock
from lalert.errors import BadRequest, TooLarge, Unauthenticated, Unavailable, UnsupportedType
from lalert.tenancy import ANONYMOUS, Caller, KeyRing

BODY_SECONDS = 30.0
"""How long a body may take to arrive; a sender on a slow line still gets 1 MB through at 35 kB/s."""

BODIES_BYTES = 32 * 1024 * 1024
"""How many bytes of bodies may be on their way in, from the first of them to the answer. What is made of one while it is judged and waits to be stored is up to six times as large."""

BODIES = 2_048
"""How many bodies may be, and how many of each key half of that: as with the bytes, no key takes all of it, however slowly it sends."""

ANYBODYS_BYTES = 262_144
"""The most that any address takes of somebody without a key, and what a body counts for that does not say how long it is."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Room:
    """Bounds what is being received or worked on, in all and for each who sends."""

    def __init__(self, total: int = BODIES_BYTES, bodies: int = BODIES) -> None:
        self._total = total
        self._bodies = bodies
        self._guests: dict[str, list[Guest]] = {}
        self.used = 0
        self.number = 0

    @contextmanager
    def guest(self, who: str) -> Iterator[Guest]:
        """Admit one body of somebody's until the block ends; raises `Unavailable` when there are too many."""
        others = self._guests.setdefault(who, [])
        guest = Guest(self, others)
        others.append(guest)
        self.number += 1
        try:
            if self.number > self._bodies or len(others) > self._bodies // 2:
                raise _crowded()
            yield guest
        finally:
            self.number -= 1
            self.used -= guest.used
            others.remove(guest)
            if not others:
                self._guests.pop(who, None)

    def take(self, guest: Guest, others: Sequence[Guest], size: int) -> None:
        self.used += size
        guest.used += size
        if self.used > self._total or sum(each.used for each in others) > self._total // 2:
            raise _crowded()


class Guest:
    """One body's part of the room."""

    __slots__ = ("_others", "_room", "used")

    def __init__(self, room: Room, others: Sequence[Guest]) -> None:
        self._room = room
        self._others = others
        self.used = 0

    def take(self, size: int) -> None:
        """Make room for so many bytes more; raises `Unavailable`."""
        self._room.take(self, self._others, size)


GUEST = web.RequestKey("guest", Guest)


def _crowded() -> Unavailable:
    return Unavailable("too much is coming in at once: send it again in a moment", retry_after=1.0)


def identify(request: web.Request, keyring: KeyRing, clock: Clock) -> Caller:
    """Return who calls, from `Authorization: Bearer KEY`; raises `Unauthenticated` for a key that is not good, even where none is needed."""
    header = request.headers.get(hdrs.AUTHORIZATION)
    if header is None:
        return ANONYMOUS
    scheme, _, secret = header.partition(" ")
    if scheme.lower() != "bearer" or not secret.strip():
        raise Unauthenticated("the Authorization header must read `Bearer KEY`")
    return keyring.identify(secret.strip(), clock.now())


def check_type(request: web.Request, accepted: Sequence[str]) -> None:
    """Raise `UnsupportedType` unless the body is declared as one of `accepted` and is not encoded."""
    declared = request.headers.get(hdrs.CONTENT_TYPE)
    if declared is None or request.content_type not in accepted:
        raise UnsupportedType(
            f"Content-Type is {declared or 'missing'}; this address takes {', '.join(accepted)}"
        )
    encoding = request.headers.get(hdrs.CONTENT_ENCODING, "identity")
    if encoding.lower() != "identity":
        raise UnsupportedType(f"Content-Encoding {encoding} is not taken here; send the body as it is")


def bounded(room: Room, anybody: Room, holder: Callable[[web.Request], str | None]) -> Middleware:
    """Return the middleware that admits requests with a body, as far as there is room: `holder` names who has a good key, all others have a room of their own.

    What anybody may post to (a form, a browser's subscription, a platform's webhook) never takes the room that alerts need, however slowly it comes.
    """

    @web.middleware
    async def admit(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not request.can_read_body:
            return await handler(request)
        who = holder(request)
        with (room if who else anybody).guest(who or request.remote or "") as guest:
            if who is None:
                # Taken before it comes: what adapters read, they read by themselves.
                length = request.content_length
                guest.take(min(ANYBODYS_BYTES if length is None else length, ANYBODYS_BYTES))
            request[GUEST] = guest
            return await handler(request)

    return admit


async def read_body(request: web.Request, max_bytes: int) -> bytes:
    """Return the body; raises `TooLarge` as soon as it is known to be over `max_bytes`, `BadRequest` when it does not arrive in time, `Unavailable` when there is no room."""
    if request.content_length is not None and request.content_length > max_bytes:
        raise _too_large(max_bytes)
    chunks: list[bytes] = []
    size = 0
    guest = request.get(GUEST)
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.content.iter_chunked(65_536):
                size += len(chunk)
                if size > max_bytes:
                    raise _too_large(max_bytes)
                if guest is not None:
                    guest.take(len(chunk))
                chunks.append(chunk)
    except TimeoutError as error:
        raise BadRequest(
            f"the body did not arrive within {BODY_SECONDS:.0f} seconds", code="slow-body"
        ) from error
    return b"".join(chunks)


async def read_json(request: web.Request, kind: type[Any], max_bytes: int = 65_536) -> Any:  # noqa: ANN401  # the caller names `kind`
    """Return a JSON body as `kind`; raises `BadRequest` naming the place, `UnsupportedType`, `TooLarge`."""
    check_type(request, ("application/json",))
    body = await read_body(request, max_bytes)
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"body: {error}") from error
    except RecursionError as error:
        raise BadRequest("body: nested too deeply") from error


def preferred(request: web.Request, offered: Sequence[str]) -> str:
    """Return which of `offered` the Accept header likes best, the first where it does not care (RFC 9110, 12.5.1).

    Raises 406 where it accepts none.
    """
    header = request.headers.get(hdrs.ACCEPT, "").strip()
    if not header:
        return offered[0]
    ranges = [_range(part) for part in header.split(",")[:50]]
    best = max(offered, key=lambda media: (_quality(media, ranges), -offered.index(media)))
    if _quality(best, ranges) <= 0:
        raise web.HTTPNotAcceptable(reason=f"this address offers {', '.join(offered)}")
    return best


def _range(part: str) -> tuple[str, float]:
    media, *parameters = (piece.strip() for piece in part.split(";"))
    quality = 1.0
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            try:
                quality = min(1.0, max(0.0, float(value)))
            except ValueError:
                quality = 0.0
    return media.lower(), quality


def _quality(media: str, ranges: Sequence[tuple[str, float]]) -> float:
    kind = media.partition("/")[0]
    for wanted in (media, f"{kind}/*", "*/*"):
        for name, quality in ranges:
            if name == wanted:
                return quality
    return 0.0


def _too_large(max_bytes: int) -> TooLarge:
    return TooLarge(f"the body is larger than {max_bytes} bytes")
