"""The whole adapter contract: what an adapter is, what it may be able to do, and all that the hub gives it.

An adapter is a class `Adapter(name, config, hub)` found by an entry point in the group `lalert.adapters`; one block of configuration
is one instance. What it can do is found by what it has: `deliver` makes it a `Channel`, `run` a `Source`, `routes` an
`Endpoint`; a channel may also have `health` (`Healthy`), `preview` (`Previewing`) and `canary` (`Canarying`). The constructor stores, `__aenter__`
acquires, `__aexit__` releases.

An adapter classifies a failure (`TemporaryFailure`, `PermanentFailure`, `Gone`); whether, when and how long to retry is the hub's
business alone. The built-in adapters use exactly this.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol, Self, runtime_checkable

from aiohttp import web

from lalert.clock import Clock
from lalert.errors import Problem
from lalert.model import Delivery, Entry, Filter, Outcome, Reading, Subscription

if TYPE_CHECKING:
    import aiohttp

__all__ = [
    "CANARY_NOTE",
    "CANARY_TITLE",
    "Access",
    "Adapter",
    "ByHand",
    "Canarying",
    "Channel",
    "Endpoint",
    "Health",
    "Healthy",
    "HubApi",
    "Limits",
    "Listing",
    "Observed",
    "PagePart",
    "Part",
    "Preview",
    "Previewing",
    "Receipt",
    "Room",
    "Route",
    "Source",
    "State",
    "Text",
    "full_width",
    "utf8",
    "utf16",
]


CANARY_TITLE: Final = "【動作確認】CHECK"
"""What a canary begins with, wherever a person may see it."""

CANARY_NOTE: Final = (
    "警報を届ける経路の動作確認です。警報でも訓練でもありません。何もする必要はありません。\n"
    "A check of the way that alerts take. This is neither an alert nor a drill; nothing needs to be done."
)


@dataclass(frozen=True, slots=True)
class Receipt:
    """The answer to a submission, given only once the alert is durable; `fresh` is False for an exact repeat.

    `warnings` are what intake found worth telling the sender, such as a reference that this hub does not know.
    """

    entry: Entry
    fresh: bool
    warnings: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class Observed:
    """The answer to readings, given only once they are durable: how many were new, how many known, and (index, code) of those refused.

    `details` says of some of these, by index, what is wrong with them and where.
    """

    accepted: int
    duplicate: int
    rejected: tuple[tuple[int, str], ...] = ()
    details: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Text:
    """What a person reads, already carrying the drill mark where one is due; `lang` is the language it is in.

    `template_failed` names the template that the alert's own words stand in for, because it did not become a text.
    """

    title: str
    body: str
    lang: str
    template_failed: str = ""


@dataclass(frozen=True, slots=True)
class Room:
    """What a channel has room for: `title` and `body` in units of `measure`, None where there is no limit; `urls` False where a text may hold none.

    `mixed` is False where all of a text must be in one language, as for a voice. `measure` counts at least one for each character, as `len`, `full_width`, `utf16` and `utf8` do.
    """

    title: int | None = None
    body: int | None = None
    measure: Callable[[str], int] = len
    urls: bool = True
    mixed: bool = True


def full_width(text: str) -> int:
    """Return the length in characters as 緊急速報メール counts them: each is one, a line break two."""
    plain = text.replace("\r\n", "\n")
    return len(plain) + plain.count("\n")


def utf16(text: str) -> int:
    """Return the length in UTF-16 code units, as LINE and JavaScript count: an emoji is two or more."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def utf8(text: str) -> int:
    """Return the length in bytes of UTF-8."""
    return len(text.encode("utf-8", "surrogatepass"))


@dataclass(frozen=True, slots=True)
class Limits:
    """What a channel can bear: deliveries under way at once per target and in all, and seconds that one may take."""

    per_target: int = 1
    in_flight: int = 64
    timeout: float = 15.0


@dataclass(frozen=True, slots=True)
class Health:
    """How an adapter sees itself; `detail` says what is wrong and what to do."""

    ok: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """One part of what a receiver gets, such as `subject` or `body`, just as it will be written.

    `used` of at most `limit` `unit`s, where the channel has a limit; None where it has none.
    """

    name: str
    text: str
    used: int | None = None
    limit: int | None = None
    unit: str = "characters"


@dataclass(frozen=True, slots=True)
class Preview:
    """What a channel would send, part by part in the order in which a receiver meets them; `lang` is the language of its texts."""

    parts: tuple[Part, ...]
    lang: str


class Access(StrEnum):
    """Who may call an endpoint's route."""

    PUBLIC = "public"
    SENDER = "sender"
    RECEIVER = "receiver"
    SENSOR = "sensor"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Route:
    """One address under the hub's HTTP, with who may call it."""

    method: str
    path: str
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    access: Access


class State(Protocol):
    """A small durable store of one adapter instance's own: values of at most 64 kB under keys of at most 200 characters."""

    async def get(self, key: str) -> bytes | None: ...

    async def put(self, key: str, value: bytes) -> None: ...

    async def delete(self, key: str) -> None: ...


class HubApi(Protocol):
    """All that the hub gives to one adapter instance."""

    @property
    def base_url(self) -> str:
        """Return the public address of this hub, without a trailing slash."""
        ...

    @property
    def clock(self) -> Clock: ...

    @property
    def http(self) -> aiohttp.ClientSession:
        """Return the guarded session: it refuses non-public addresses, follows no redirect and takes no proxy from the environment."""
        ...

    @property
    def state(self) -> State: ...

    async def submit(self, raw: bytes) -> Receipt:
        """Hand in a CAP document in the name of the organisation that this instance is configured for; raises `Refused`, `Unavailable`."""
        ...

    async def observe(self, readings: Sequence[Reading]) -> Observed:
        """Hand in readings; answers once they are durable. Raises `Unavailable`."""
        ...

    async def take(self, form: str, raw: bytes, *, station: str | None = None, event: str = "up") -> Observed:
        """Hand in readings as they came: `json` or `csv` as at `/v1/readings`, or an uplink of `tts`, `chirpstack` or `sigfox`.

        `station` is that of readings which name none, `event` ChirpStack's word for what its message is. Answers once they are durable. Raises `BadRequest` where the whole does not read, `Refused`, `Unavailable`.
        """
        ...

    def subscribe(
        self, filter: Filter, after: str | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[Entry]]:
        """Follow what `filter` wants, after a position (None: from now on), in position order without a gap; raises `UnknownPosition`.

        A follower that falls more than 1,000 entries behind is cut off with `Unavailable` and follows again from its last position.
        """
        ...

    def ended(self, filter: Filter) -> AbstractAsyncContextManager[AsyncIterator[Entry]]:
        """Follow what `filter` was told of and what ends by itself, within a second of its end; never what was cancelled or replaced.

        Ends while nobody follows are not told later. Raises `Unavailable` as `subscribe`.
        """
        ...

    async def recent(self, filter: Filter, limit: int = 100) -> list[Entry]:
        """Return the newest entries that `filter` wants, newest first."""
        ...

    async def save_subscription(self, subscription: Subscription) -> None:
        """Keep a subscription of this instance's own (its `channel` is this instance's name)."""
        ...

    async def drop_subscription(self, subscription_id: str) -> bool: ...

    async def subscription(self, subscription_id: str) -> Subscription | None:
        """Return one of this instance's own, None where there is none with that id; it costs no more where there are very many."""
        ...

    async def subscriptions(self) -> list[Subscription]: ...

    async def confirm(self, key: str) -> None:
        """Note that the far end has confirmed the delivery with this key, or has seen the canary with this token."""
        ...

    def text(self, entry: Entry, lang: str | None = None, room: Room | None = None) -> Text:
        """Return what a person reads of an alert, in `lang` where the alert or a template has it, with the drill mark; 【訂正】 only of a correction that is one.

        It fits into `room`: cut by sentence, what people must do first. Where not even the mark fits, it is empty.
        """
        ...

    def body(self, entry: Entry, format: str = "json", lang: str | None = None) -> bytes:
        """Return an entry as `json`, `cap` (the document as received), `edxl` (the same in an EDXL-DE 1.0 envelope) or `geojson`.

        The bytes are made once for all who ask the same.
        """
        ...


class Adapter(Protocol):
    """The base: constructed from its name, its checked configuration and the hub; an async context manager.

    `Config` is a msgspec.Struct with defaults; unknown keys are refused for it.
    """

    Config: ClassVar[type[Any]]
    name: str

    def __init__(self, name: str, config: Any, hub: HubApi) -> None: ...  # noqa: ANN401  # each adapter narrows this to its own Config

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exc: object) -> None: ...


@runtime_checkable
class Channel(Protocol):
    """Delivers to addressed targets."""

    drill_safe: ClassVar[bool]
    limits: ClassVar[Limits]

    def check_subscription(self, subscription: Subscription) -> Subscription:
        """Return the subscription as it shall be kept, with what the channel itself adds (a signing secret); asked once, before it is saved.

        Raises `BadRequest` if the target or an option does not hold. Checking what was returned changes nothing more.
        """
        ...

    async def deliver(self, delivery: Delivery) -> Outcome:
        """Hand one alert to one target. `delivery.key` is the same on every attempt. Raises `TemporaryFailure`, `PermanentFailure`, `Gone`."""
        ...


@runtime_checkable
class Healthy(Protocol):
    """Knows how it fares."""

    def health(self) -> Health:
        """Return at once what was last seen of the far end, and call nobody; well as long as nothing was seen."""
        ...


@runtime_checkable
class Previewing(Protocol):
    """Can show what it would send."""

    def preview(self, entry: Entry, lang: str | None) -> Preview:
        """Return what `deliver` would send of an entry in a language, drill mark included; sends nothing and keeps nothing.

        `entry` may have no position yet. For what is each receiver's own, such as an address or a key, nothing is shown.
        """
        ...


@runtime_checkable
class Canarying(Protocol):
    """Can show that its far end is reached, with a note that is no alert."""

    async def canary(self, target: str, token: str) -> None:
        """Send a note that begins with `CANARY_TITLE` and holds `token`, to a recipient that is kept for it; raises as `deliver`.

        To return means that the next hop took it. A channel that sees it at the far end, there or later, says so by `HubApi.confirm(token)`.
        `token` is up to 120 ASCII letters, digits, `-` and `_`, another one each time.
        """
        ...


@runtime_checkable
class ByHand(Protocol):
    """A channel behind which people work: what it has taken is open until somebody ticks it at `/v1/checklist`, which confirms it."""

    by_hand: ClassVar[bool]


@runtime_checkable
class Source(Protocol):
    """Brings alerts or readings in by itself."""

    async def run(self) -> None:
        """Work until cancelled."""
        ...


@runtime_checkable
class Endpoint(Protocol):
    """Answers HTTP under the hub's own address."""

    def routes(self) -> Sequence[Route]: ...


@runtime_checkable
class Listing(Protocol):
    """Shows alerts at addresses under the hub's own, such as feeds."""

    def listed_at(self, entry: Entry, lineage: Sequence[Entry], places: Collection[str]) -> Sequence[str]:
        """Return the paths that an entry would be shown at, or take something from, that is in no log yet.

        `lineage` are the earlier entries that it continues, `places` the codes whose followers it is told to.
        """
        ...


@runtime_checkable
class PagePart(Protocol):
    """Has something of its own on the page of a place, such as a button."""

    @property
    def place_script(self) -> str:
        """Return the path of an ES module, at a route of its own, that the page loads.

        It may add to the section below the heading `#follow`; the language is in the JSON of `#page`, the place's code at the end of the page's path.
        """
        ...
