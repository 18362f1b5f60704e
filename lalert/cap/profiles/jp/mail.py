"""緊急速報メール: whether an alert fits into the message that the carriers show on every telephone of a municipality.

The limits are those that the carriers set for municipalities; they have been changed before, so that they are arguments.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from lalert.cap import rules
from lalert.cap.profiles.base import Finding, finding
from lalert.cap.profiles.jp.reading import JIS_GEOCODE_NAMES, named, variety
from lalert.model import Alert, Info, MsgType

_LINK = re.compile(
    r"https?[:：]//|www\.|[\w.+-]{1,64}[@＠][\w-]{1,63}\.[\w.-]|(?<![a-z0-9-])[a-z0-9-]{1,63}\.(?:jp|com|net|org)(?![a-z0-9])",
    re.IGNORECASE,
)


_HALF_KANA = re.compile(r"[｡-ﾟ]")
_MAPPED = {ord(character): "-" for character in "～－―∥￠￡￢"}


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a mail may be, in characters of full width; a line break counts as `newline` of them."""

    title: int = 15
    body: int = 200
    newline: int = 2


CARRIERS: Final = Limits()


@dataclass(frozen=True, slots=True)
class UrgentMail:
    """What would be sent, as far as it can be said of an alert, and everything that speaks against sending it."""

    title: str
    body: str
    problems: tuple[Finding, ...]

    @property
    def fits(self) -> bool:
        """Say whether it may be sent as it is."""
        return not self.problems


def urgent_mail(alert: Alert, limits: Limits = CARRIERS) -> UrgentMail:
    """Return the mail of an alert: its first info in plain Japanese.

    Title and body are the parameters `jp:urgent_mail_title` and `jp:urgent_mail_body`; where they are not given, the headline (or
    event), and description and instruction.
    """
    at = next((n for n, info in enumerate(alert.infos) if variety(info.language) == "ja"), None)
    if at is None:
        return UrgentMail("", "", (finding("JP-URGENT-MAIL-EMPTY", "/alert"),))
    info, path = alert.infos[at], f"/alert/info[{at + 1}]"
    title, body = _texts(info)
    return UrgentMail(title, body, tuple(_problems(alert, info, path, title, body, limits)))


def length(text: str, limits: Limits = CARRIERS) -> int:
    """Return how many characters of a mail a text takes; a line break written in two characters is one break."""
    plain = text.replace("\r\n", "\n")
    return len(plain) + plain.count("\n") * (limits.newline - 1)


def _texts(info: Info) -> tuple[str, str]:
    said = named(info)
    title = said.get("urgent_mail_title") or info.headline or info.event
    paragraphs = [text.strip() for text in (info.description, info.instruction) if text and text.strip()]
    return title.strip(), (said.get("urgent_mail_body") or "\n".join(paragraphs)).strip()


def _problems(
    alert: Alert, info: Info, path: str, title: str, body: str, limits: Limits
) -> Iterator[Finding]:
    if alert.msg_type is not MsgType.ALERT:
        yield finding("JP-URGENT-MAIL-NEW", "/alert/msgType", msg_type=alert.msg_type.value)
    if length(title, limits) > limits.title:
        args = {"length": str(length(title, limits)), "limit": str(limits.title)}
        yield finding("JP-URGENT-MAIL-TITLE", f"{path}/headline", **args)
    if not body:
        yield finding("JP-URGENT-MAIL-EMPTY", path)
    if length(body, limits) > limits.body:
        args = {"length": str(length(body, limits)), "limit": str(limits.body)}
        yield finding("JP-URGENT-MAIL-BODY", f"{path}/description", **args)
    if link := _LINK.search(f"{title}\n{body}"):
        yield finding("JP-URGENT-MAIL-LINK", path, text=rules.shown(link[0]))
    if foreign := _not_shown(title + body):
        yield finding("JP-URGENT-MAIL-CHARACTER", path, text=rules.shown(foreign))
    codes = [g.value for area in info.areas for g in area.geocodes if g.name in JIS_GEOCODE_NAMES]
    if not any(len(code) > 2 for code in codes):
        yield finding("JP-URGENT-MAIL-AREA", path)


def _not_shown(text: str) -> str | None:
    """Return the first character that is not in JIS X 0208, which is all that every telephone can show; kana of half width are not either."""
    if half := _HALF_KANA.search(text):
        return half[0]
    try:
        # Some of these are mapped to their look-alikes by other systems and not by Python.
        text.translate(_MAPPED).encode("shift_jis")
    except UnicodeEncodeError as error:
        return text[error.start]
    return None
