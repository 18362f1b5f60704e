"""The protocol of Redis (RESP2) as values: commands to bytes, and bytes to replies, in whatever pieces they come. No I/O.

Why our own: docs/adr/0011.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

from redis.exceptions import (
    AskError,
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    InvalidResponse,
    MasterDownError,
    MovedError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as Lost

Word = bytes | str | int | float
"""One word of a command."""

Reply: TypeAlias = Any
"""What a server replies: bytes, a number, None, or a list of these, or the error that it refuses with; what it is, the command says."""

_ERRORS: Final[Mapping[str, type[RedisError]]] = {
    "ASK": AskError,
    "CLUSTERDOWN": ClusterDownError,
    "LOADING": BusyLoadingError,
    "MASTERDOWN": MasterDownError,
    "MOVED": MovedError,
    "NOAUTH": AuthenticationError,
    "NOPERM": NoPermissionError,
    "NOSCRIPT": NoScriptError,
    "OOM": OutOfMemoryError,
    "READONLY": ReadOnlyError,
    "TRYAGAIN": TryAgainError,
    "WRONGPASS": AuthenticationError,
}
_TOO_MANY: Final = "max number of clients reached"

_ARRAY, _BULK, _NUMBER, _TEXT, _ERROR = b"*$:+-"


def pack(command: Sequence[Word]) -> bytes:
    """Return a command as it goes over the wire; raises `TypeError` for what is no `Word`."""
    parts = [b"*%d\r\n" % len(command)]
    for word in command:
        text = word if isinstance(word, bytes) else _text(word)
        parts.append(b"$%d\r\n%b\r\n" % (len(text), text))
    return b"".join(parts)


class Reader:
    """Makes replies of what has come so far."""

    def __init__(self) -> None:
        self._rest = b""
        # The lists that are not complete yet, the outer ones first, each with its length.
        self._open: list[tuple[list[Reply], int]] = []

    def feed(self, data: bytes) -> list[Reply]:
        """Return the replies that `data` completes; raises `InvalidResponse` for what no Redis says."""
        text = self._rest + data if self._rest else data
        at, open, complete = 0, self._open, []
        while (end := text.find(b"\r\n", at)) >= 0:
            kind = text[at]
            reply: Reply
            if kind == _BULK:
                size = _number(text, at + 1, end)
                if size < 0:
                    reply, at = None, end + 2
                elif len(text) < end + size + 4:
                    break
                else:
                    reply, at = text[end + 2 : end + 2 + size], end + size + 4
            elif kind == _ARRAY:
                size = _number(text, at + 1, end)
                at = end + 2
                if size > 0:
                    open.append(([], size))
                    continue
                reply = [] if size == 0 else None
            elif kind == _NUMBER:
                reply, at = _number(text, at + 1, end), end + 2
            elif kind == _TEXT:
                reply, at = text[at + 1 : end], end + 2
            elif kind == _ERROR:
                reply, at = _error(text[at + 1 : end].decode(errors="replace")), end + 2
            else:
                raise InvalidResponse(f"no answer of a Redis begins with {text[at : at + 20]!r}")
            while open:
                items, size = open[-1]
                items.append(reply)
                if len(items) < size:
                    break
                open.pop()
                reply = items
            else:
                complete.append(reply)
        self._rest = text[at:] if at else text
        return complete


def _number(text: bytes, start: int, end: int) -> int:
    try:
        return int(text[start:end])
    except ValueError as error:
        raise InvalidResponse(f"no answer of a Redis says {text[start:end][:20]!r} for a number") from error


def _error(text: str) -> RedisError:
    code, _, rest = text.partition(" ")
    if kind := _ERRORS.get(code):
        return kind(rest)
    return Lost(text) if text.endswith(_TOO_MANY) else ResponseError(text.removeprefix("ERR "))


def _text(word: str | float) -> bytes:
    if isinstance(word, str):
        return word.encode()
    if isinstance(word, bool) or not isinstance(word, int | float):
        raise TypeError(f"{word!r} is no word of a command")
    return repr(word).encode()
