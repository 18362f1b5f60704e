"""The block of configuration, and the two secrets that it names."""

from __future__ import annotations

import unicodedata
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

import msgspec

from lalert.errors import ConfigError
from lalert.model import Severity

Code = Annotated[str, msgspec.Meta(pattern="^[0-9]{2}([0-9]{4})?$")]

MAX_CHOICES: Final = 100
MAX_WORD: Final = 20
"""So many words of so many characters fit into the one text message that lists them."""


class LineConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[adapters.NAME] of type line."""

    token_file: str
    """A file with the channel access token; read again when the platform refuses the one at hand."""
    secret_file: str = ""
    """A file with the channel secret, which turns the address for the platform's webhook on."""
    areas: tuple[Code, ...] = ()
    """What a new friend is subscribed to; empty subscribes nobody by themselves."""
    groups: bool = False
    """Also a group or room that invites the account: each alert then costs a message for everybody in it, whoever invited."""
    choices: dict[str, Code] = {}
    """Words by which a friend chooses an area of their own, each with its code."""
    min_severity: Severity | None = None
    lang: Annotated[str, msgspec.Meta(pattern="^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8}){0,3}$")] | None = None
    """The language of what friends and groups are sent."""
    warn_percent: Annotated[int, msgspec.Meta(ge=1, le=100)] = 80
    timeout_s: Annotated[float, msgspec.Meta(ge=1, le=19)] = 15.0
    """Seconds that one call may take, connecting included."""
    api: str = "https://api.line.me"

    def __post_init__(self) -> None:
        url = urlsplit(self.api)
        if url.scheme != "https" and not (url.scheme == "http" and _is_loopback(url.hostname or "")):
            raise ValueError("api: must be an https address: the token goes there")
        if url.path or url.query or url.fragment or "@" in url.netloc:
            raise ValueError("api: must be a host alone, as in https://api.line.me")
        if self.groups and not self.areas:
            raise ValueError("groups: needs areas, which is what a group is told of")
        if (self.areas or self.choices) and not self.secret_file:
            raise ValueError("areas and choices need secret_file: friends are heard of by the webhook alone")
        for code in (*self.areas, *self.choices.values()):
            _check_digit(code)
        if len(self.choices) > MAX_CHOICES:
            raise ValueError(f"choices: at most {MAX_CHOICES} words")
        for word in self.choices:
            if not 1 <= len(word) <= MAX_WORD or word != plain(word) or not word.isprintable():
                raise ValueError(
                    f"choices: {word[:MAX_WORD]!r} must be 1 to {MAX_WORD} characters without full-width letters, capitals or spaces around"
                )


def plain(text: str) -> str:
    """Return what somebody typed as choices are compared: width, case and spaces around do not matter."""
    return unicodedata.normalize("NFKC", text).strip().casefold()


def read_secret(name: str, key: str, file: str) -> str:
    """Return the one line of printable ASCII in a file; raises `ConfigError` naming the key."""
    try:
        text = Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"adapters.{name}.{key}: {file} cannot be read ({error})"]) from error
    if not text.isascii() or not text.isprintable() or not text or " " in text:
        raise ConfigError([f"adapters.{name}.{key}: {file} must hold one word of ASCII and nothing else"])
    return text


def _check_digit(code: str) -> None:
    # JIS X 0402: with a slip of the pen nobody would be told anything.
    total = sum(weight * int(digit) for weight, digit in zip((6, 5, 4, 3, 2), code[:5], strict=False))
    if len(code) == 6 and int(code[5]) != (11 - total % 11) % 10:
        raise ValueError(f"areas and choices: the check digit of {code[:5]} is {(11 - total % 11) % 10}")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
