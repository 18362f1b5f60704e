"""Everything else (SMS, Telegram, pagers, ...): one notification by Apprise for each delivery, off the event loop (docs/adapters/apprise.md)."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, ClassVar, Final, Self

import apprise
import msgspec

from lalert.errors import BadRequest, ConfigError, PermanentFailure, TemporaryFailure
from lalert.model import Delivery, Entry, MsgType, Outcome, Scope, Subscription
from lalert.plugin import (
    CANARY_NOTE,
    CANARY_TITLE,
    Canarying,
    Channel,
    Health,
    Healthy,
    HubApi,
    Limits,
    Part,
    Preview,
    Previewing,
    Room,
)
from lalert_adapters.threads import Threads

FIXED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "bulksms": "api.bulksms.com",
        "clicksend": "rest.clicksend.com",
        "d7sms": "api.d7networks.com",
        "msgbird": "rest.messagebird.com",
        "nexmo": "rest.nexmo.com",
        "plivo": "api.plivo.com",
        "pover": "api.pushover.net",
        "seven": "gateway.seven.io",
        "tgram": "api.telegram.org",
        "threema": "msgapi.threema.ch",
        "twilio": "api.twilio.com",
        "viber": "chatapi.viber.com",
        "vonage": "rest.nexmo.com",
        "whatsapp": "graph.facebook.com",
    }
)
"""The schemes that a subscriber may ever name, and the only host that each calls, whatever else is in the address.

Apprise calls with a session of its own, which checks no address: what could name a host, a file or a command is for the operator's own targets.
"""

MAX_URL: Final = 500
MAX_FILE: Final = 4_096
THREADS: Final = 32
"""Twice as many as deliveries under way: what was given up cannot be cancelled, and must leave room for others."""
ROOM_FOR_LINK: Final = 500
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}")
# No ? and no #: options of an address can turn off TLS, read a file, or name another host.
_URL = re.compile(r"([a-z0-9]{2,20})://[!$-.0-9:;=@A-Z_a-z~/%]{1,470}")
_NOWHERE: Final = logging.NullHandler()
_HTTP_ERROR = re.compile(r"\berror=(\d{3})\b")


class AppriseConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[adapters.apprise]: what may be notified. Without any of the two nothing could be."""

    targets: dict[str, str] = {}
    """Files that hold an Apprise address each, by the name that subscriptions call it by."""
    schemes: tuple[str, ...] = ()
    """Of `FIXED`, those whose addresses a subscription may give itself."""
    timeout_s: Annotated[float, msgspec.Meta(ge=1, le=50)] = 25.0

    def __post_init__(self) -> None:
        unknown = sorted(set(self.schemes) - FIXED.keys())
        if unknown:
            raise ValueError(
                f"schemes: {unknown[0]} is not among those whose host nobody can choose ({', '.join(FIXED)}); give its address as one of targets"
            )
        bad = [name for name in self.targets if not _NAME.fullmatch(name)]
        if bad:
            raise ValueError(f"targets.{bad[0]}: a name is of a-z 0-9 . _ - and at most 40 long")
        if not self.targets and not self.schemes:
            raise ValueError("targets, schemes: give one of them, or nothing can be notified")


class Apprise:
    """Notifies the target of a subscription: a name of `targets`, or an address of one of `schemes`.

    A notification has no key that the far end would know: after a connection that broke at the wrong moment it may come twice.
    """

    Config: ClassVar[type[AppriseConfig]] = AppriseConfig
    drill_safe: ClassVar[bool] = True
    limits: ClassVar[Limits] = Limits(per_target=1, in_flight=16, timeout=60.0)

    def __init__(self, name: str, config: AppriseConfig, hub: HubApi) -> None:
        self.name = name
        self._config = config
        self._hub = hub
        self._urls: dict[str, str] = {}
        self._threads = Threads(f"{name} notifies", THREADS)

    async def __aenter__(self) -> Self:
        # What Apprise says in its log holds tokens and telephone numbers. The histories of the hub say what came of each delivery.
        logger = logging.getLogger("apprise")
        logger.propagate = False
        logger.addHandler(_NOWHERE)
        self._urls = await asyncio.to_thread(self._read_targets)
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Nothing to release; threads that hang end with the process."""

    def check_subscription(self, subscription: Subscription) -> Subscription:
        """Return the subscription as it is; raises `BadRequest` if the target, the format or an option does not hold."""
        if subscription.format != "json" or subscription.options:
            raise BadRequest("format, options: leave them out: a notification is text, and has none")
        target = subscription.target
        if target in self._urls:
            return subscription
        found = _URL.fullmatch(target) if len(target) <= MAX_URL else None
        if found is None or found[1] not in self._config.schemes:
            allowed = [*self._urls, *(f"{scheme}://…" for scheme in self._config.schemes)]
            raise BadRequest(f"target: must be one of {', '.join(allowed)}, without ? and #")
        if _plugin(target) is None:
            raise BadRequest(f"target: is no whole {found[1]}:// address of Apprise with one recipient")
        return subscription

    async def deliver(self, delivery: Delivery) -> Outcome:
        """Notify once. That Apprise reports no success is a `TemporaryFailure`: it does not say for how long."""
        plugin = self._known(delivery.subscription.target)
        title, body = self._words(delivery.entry, delivery.subscription.lang, plugin)
        over = delivery.entry.alert.msg_type is MsgType.CANCEL
        kind = apprise.NotifyType.INFO if over else apprise.NotifyType.WARNING
        await self._notify(plugin, title, body, kind)
        return Outcome("notified")

    def preview(self, entry: Entry, lang: str | None) -> Preview:
        """Return the text where there is room for all of it; a service with less gets it cut by sentence."""
        text = self._hub.text(entry, lang)
        return Preview((Part("title", text.title), Part("body", text.body + self._link(entry))), text.lang)

    async def canary(self, target: str, token: str) -> None:
        """Notify of a check, with its token."""
        plugin = self._known(target)
        body = f"{CANARY_NOTE}\n{self._hub.base_url}/v1/canaries/{token}"
        if len(CANARY_TITLE) + 1 + len(body) > plugin.body_maxlen:
            body = token
        title = CANARY_TITLE
        if plugin.title_maxlen <= 0:
            title, body = "", f"{CANARY_TITLE}\n{body}"
        await self._notify(plugin, title, body, apprise.NotifyType.INFO)

    def health(self) -> Health:
        """Say whether there are threads left to notify with."""
        if self._threads.full:
            return Health(ok=False, detail=f"all {THREADS} threads wait for services that do not answer")
        return Health(ok=True)

    def _read_targets(self) -> dict[str, str]:
        urls: dict[str, str] = {}
        mistakes: list[str] = []
        for name, file in self._config.targets.items():
            where = f"adapters.{self.name}.targets.{name}"
            try:
                with Path(file).open(encoding="utf-8") as opened:
                    urls[name] = opened.read(MAX_FILE).strip()
            except (OSError, UnicodeDecodeError) as error:
                mistakes.append(f"{where}: {file} cannot be read ({type(error).__name__})")
                continue
            if _plugin(urls[name]) is None:
                mistakes.append(
                    f"{where}: {file} holds no address that Apprise can use, or not one recipient without retries"
                )
        # Loads the services now and not with the first alert.
        services = apprise.manager_plugins.NotificationManager()  # type: ignore[no-untyped-call]  # typed by half
        mistakes += [
            f"adapters.{self.name}.schemes: this Apprise has no {scheme}://"
            for scheme in self._config.schemes
            if scheme not in services
        ]
        if mistakes:
            raise ConfigError(mistakes)
        return urls

    def _known(self, target: str) -> apprise.NotifyBase:
        """Return the service of a target that is still allowed; raises `PermanentFailure`."""
        url = self._urls.get(target)
        if url is None:
            found = _URL.fullmatch(target)
            if found is None or found[1] not in self._config.schemes:
                raise PermanentFailure("the target is not in the configuration any more")
            url = target
        plugin = _plugin(url)
        if plugin is None:
            raise PermanentFailure("the target is no address that Apprise can use")
        return plugin

    def _words(self, entry: Entry, lang: str | None, plugin: apprise.NotifyBase) -> tuple[str, str]:
        """Return title and body as they fit into what the service takes; raises `PermanentFailure` if they do not.

        Where the service has no titles, as with SMS, the title is the body's first line.
        """
        separate, limit = plugin.title_maxlen > 0, plugin.body_maxlen
        link = self._link(entry) if limit >= ROOM_FOR_LINK else ""
        title_limit = plugin.title_maxlen if separate else limit
        title = self._hub.text(entry, lang, Room(title_limit, limit)).title
        left = limit - len(link) - (0 if separate else len(title) + 1)
        body = self._hub.text(entry, lang, Room(title_limit, max(left, 0))).body + link
        if not separate:
            title, body = "", f"{title}\n{body}".rstrip("\n")
        if len(title) > title_limit or len(body) > limit or not body + title:
            raise PermanentFailure(
                f"the text does not fit: {len(title)} and {len(body)} characters of at most {title_limit} and {limit}"
            )
        return title, body or title

    def _link(self, entry: Entry) -> str:
        public = entry.alert.scope is Scope.PUBLIC and self._hub.base_url.startswith("https://")
        return f"\n\n{self._hub.base_url}/alerts/{entry.alert.id}" if public else ""

    async def _notify(
        self, plugin: apprise.NotifyBase, title: str, body: str, kind: apprise.NotifyType
    ) -> None:
        limit = self._config.timeout_s
        try:
            async with asyncio.timeout(limit):
                code = await self._threads.run(partial(_notified, plugin, title, body, kind))
        except TimeoutError:
            raise TemporaryFailure(f"no end within {limit:g} s; it may have been sent") from None
        if code:
            raise TemporaryFailure(code)


if TYPE_CHECKING:
    _: type[Channel] = Apprise
    _previewing: type[Previewing] = Apprise
    _canarying: type[Canarying] = Apprise
    _healthy: type[Healthy] = Apprise


def _plugin(url: str) -> apprise.NotifyBase | None:
    """Return the service that an address means, made anew: none of its state outlives a delivery. None where it is none for one recipient, tried once."""
    # Nothing is kept on disk, and no time limit of Apprise's own: that would put it into a pool that the process waits for at its end.
    asset = apprise.AppriseAsset(
        app_id="lalert",
        app_desc="lalert",
        async_mode=False,
        http_redirects=False,
        interpret_emojis=False,
        interpret_escapes=False,
        secure_logging=True,
        service_timeout=0,
        storage_mode=apprise.PersistentStoreMode.MEMORY,
    )
    try:
        plugin = apprise.Apprise.instantiate(url, asset=asset, suppress_exceptions=False)
        # Of several recipients one that fails would have all others told again; and how often to try is the hub's to say.
        return plugin if plugin is not None and len(plugin) == 1 else None
    except Exception:  # noqa: BLE001  # services raise what they like over an address, TypeError most often; it holds a secret
        return None


def _notified(plugin: apprise.NotifyBase, title: str, body: str, kind: apprise.NotifyType) -> str:
    """Send, and return what went wrong, empty if nothing did. Blocks for as long as the service likes."""
    sender = apprise.Apprise(asset=plugin.asset)
    sender.add(plugin)
    result = sender.notify(body=body, title=title, notify_type=kind, body_format=apprise.NotifyFormat.TEXT)
    if result:
        return ""
    said = _HTTP_ERROR.search(" ".join(entry.message for entry in result.logs()))
    return f"the service did not take it: HTTP {said[1]}" if said else "the service did not take it"
