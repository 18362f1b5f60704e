"""Where the primary is: asked of the one server, the sentinels or the cluster that `[store] url` names."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import unquote, urlsplit

from redis.crc import key_slot
from redis.exceptions import AuthenticationError, RedisError, ResponseError

from lalert.errors import ConfigError, Unavailable
from lalert.store.redis.wire import Login, Place, Reply, Wire

TAG: Final = "{lalert}"
"""In every key, so that in a cluster all are in one slot: a script may touch no other."""

DEFAULT_PORT: Final = 6379
SENTINEL_PORT: Final = 26379
ASK_SECONDS: Final = 1.0

_SCHEMES: Final[dict[str, tuple[Literal["one", "sentinel", "cluster"], bool]]] = {
    "redis": ("one", False),
    "rediss": ("one", True),
    "redis+sentinel": ("sentinel", False),
    "rediss+sentinel": ("sentinel", True),
    "redis+cluster": ("cluster", False),
    "rediss+cluster": ("cluster", True),
}
_HOST: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]\s]+))(?::([0-9]{1,5}))?", re.ASCII)

Dial = Callable[[Place, Login], Wire]


@dataclass(frozen=True, slots=True)
class Address:
    """What a URL says: which servers to ask, of what kind they are, and how to log in (the password is in a file of its own)."""

    kind: Literal["one", "sentinel", "cluster"]
    places: tuple[Place, ...]
    service: str = ""
    username: str = ""
    db: int = 0
    tls: bool = False


def parse_url(url: str, setting: str = "store.url") -> Address:
    """Return what a URL says; raises `ConfigError` with every mistake. The text never repeats what stands before an `@`."""
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES:
        known = ", ".join(f"{scheme}://" for scheme in _SCHEMES)
        raise ConfigError([f"{setting}: must begin with one of {known}"])
    kind, tls = _SCHEMES[parts.scheme]
    login, _, hosts = parts.netloc.rpartition("@")
    path = unquote(parts.path.strip("/"))
    mistakes = []
    if ":" in login:
        mistakes.append(
            f"{setting}: holds a password, which would be seen in logs and process lists; put it in a file and name that in password_file"
        )
    if parts.query or parts.fragment:
        mistakes.append(f"{setting}: takes nothing after ? or #; leave it out")
    places, wrong = _places(hosts, SENTINEL_PORT if kind == "sentinel" else DEFAULT_PORT)
    mistakes += [f"{setting}: {host!r} is no host:port" for host in wrong]
    if kind == "one" and len(places) > 1:
        mistakes.append(
            f"{setting}: names several servers; use redis+sentinel:// for sentinels or redis+cluster:// for a cluster"
        )
    if kind == "one" and path and not (path.isascii() and path.isdigit()):
        mistakes.append(f"{setting}: after the host comes the number of a database, or nothing, not {path!r}")
    if kind == "sentinel" and (not path or "/" in path):
        mistakes.append(
            f"{setting}: name the service that the sentinels watch after the hosts, such as /mymaster"
        )
    if kind == "cluster" and path:
        mistakes.append(f"{setting}: a cluster has no numbered databases; leave out /{path}")
    if mistakes:
        raise ConfigError(mistakes)
    return Address(
        kind,
        tuple(places),
        service=path if kind == "sentinel" else "",
        username=unquote(login),
        db=int(path or 0) if kind == "one" else 0,
        tls=tls,
    )


class Finder:
    """Finds the primary that an `Address` leads to. `ca_file` names the authorities to trust instead of the system's, for TLS."""

    def __init__(self, address: Address, *, password: str = "", ca_file: str = "", dial: Dial = Wire) -> None:
        self._address = address
        self._login = Login(address.username, password, address.db, address.tls, ca_file)
        self._dial = dial
        self._turn = 0

    @property
    def login(self) -> Login:
        """Return what the primary asks of who comes."""
        return self._login

    async def find(self) -> Place:
        """Return where the primary is; raises `Unavailable` when nobody can say."""
        match self._address.kind:
            case "one":
                return self._address.places[0]
            case "sentinel":
                return await self._first("sentinel", self._ask_sentinel)
            case "cluster":
                return await self._first("node of the cluster", self._ask_cluster)

    async def _first(self, name: str, ask: Callable[[Place], Awaitable[Place | None]]) -> Place:
        answers = []
        places, self._turn = self._address.places, self._turn + 1
        # Each time another one first: whoever is cut off from the rest would lead to a primary that is none any more, again and again.
        start = self._turn % len(places)
        for place in (*places[start:], *places[:start]):
            try:
                found = await ask(place)
            except (RedisError, OSError, TimeoutError) as error:
                answers.append(f"{place}: {error}")
                continue
            if found is not None:
                return found
            answers.append(f"{place}: knows no primary")
        raise Unavailable(f"no {name} says where the primary is ({'; '.join(answers)})", retry_after=5.0)

    async def _ask_sentinel(self, place: Place) -> Place | None:
        question = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._address.service)
        # Sentinels mostly ask for no password of their own; where they do, it is taken to be the same.
        open_login = Login(tls=self._login.tls, ca_file=self._login.ca_file)
        try:
            found = await self._ask(place, open_login, question)
        except (AuthenticationError, ResponseError):
            if not self._login.password:
                raise
            login = Login(self._login.username, self._login.password, 0, self._login.tls, self._login.ca_file)
            found = await self._ask(place, login, question)
        return None if found is None else Place(_text(found[0]), int(found[1]))

    async def _ask_cluster(self, place: Place) -> Place | None:
        slot = key_slot(TAG.encode())
        for first, last, primary, *_ in await self._ask(place, self._login, ("CLUSTER", "SLOTS")):
            if first <= slot <= last:
                # A node that does not know its own name means "the one that you have asked".
                host = _text(primary[0]) if primary[0] else ""
                return Place(place.host if host in ("", "?") else host, int(primary[1]))
        return None

    async def _ask(self, place: Place, login: Login, question: Sequence[str]) -> Reply:
        wire = self._dial(place, login)
        try:
            await wire.open(ASK_SECONDS)
            return await wire.call(*question, seconds=ASK_SECONDS)
        finally:
            await wire.close()


def _places(hosts: str, port: int) -> tuple[list[Place], list[str]]:
    found, wrong = [], []
    for host in hosts.split(","):
        match = _HOST.fullmatch(host)
        if match is None or not 0 < int(match[3] or port) < 65536:
            wrong.append(host)
        else:
            found.append(Place(match[1] or match[2], int(match[3] or port)))
    return found, wrong


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode()
