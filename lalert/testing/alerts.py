"""A good alert with everything that a test may want to be otherwise, as a value and as a document."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, Final, TypeAlias
from uuid import uuid4

from lalert import cap
from lalert.model import (
    JST,
    UNKNOWN_INSTANT,
    Alert,
    Area,
    Certainty,
    Circle,
    Entry,
    Facts,
    Info,
    MsgType,
    NamedValue,
    Reference,
    Resource,
    Ring,
    Scope,
    Severity,
    Status,
    Urgency,
)

HITOYOSHI: Final = "432032"
SENDER: Final = "bousai@hitoyoshi.example"
GEOCODE_NAME: Final = "JISX0402"

CITY_CENTRE: Final[Ring] = (
    (130.74, 32.19),
    (130.78, 32.19),
    (130.78, 32.23),
    (130.74, 32.23),
    (130.74, 32.19),
)
"""A square of about 4 km around the city hall of 人吉市."""


class Default(Enum):
    """Stands for "as usual" where None has a meaning of its own."""

    USUAL = "usual"


USUAL: Final = Default.USUAL

Time: TypeAlias = datetime | str


def make_alert(
    *,
    identifier: str | None = None,
    sender: str = SENDER,
    sent: Time | None = None,
    status: Status | str = Status.ACTUAL,
    msg_type: MsgType | str = MsgType.ALERT,
    scope: Scope | str = Scope.PUBLIC,
    source: str | None = None,
    restriction: str | None = None,
    addresses: Iterable[str] = (),
    alert_codes: Iterable[str] = (),
    note: str | Default | None = USUAL,
    references: Iterable[Alert | Entry | Reference] = (),
    incidents: Iterable[str] = (),
    language: str = "ja-JP",
    category: str | Iterable[str] = "Safety",
    event: str = "避難指示",
    response: str | Iterable[str] = "Evacuate",
    urgency: Urgency | str = Urgency.IMMEDIATE,
    severity: Severity | str = Severity.SEVERE,
    certainty: Certainty | str = Certainty.LIKELY,
    effective: datetime | None = None,
    onset: datetime | None = None,
    expires: datetime | Default | None = USUAL,
    sender_name: str | None = "人吉市",
    headline: str | None = "人吉市に避難指示を発令しました",
    description: str | None = "球磨川の水位が上がっています。",
    instruction: str | None = "危険な場所から全員避難してください。",
    web: str | None = None,
    contact: str | None = "人吉市防災課",
    level: int | None = 4,
    parameters: Iterable[tuple[str, str]] = (),
    resources: Iterable[Resource] = (),
    area_desc: str = "人吉市",
    codes: Iterable[str] | Default = USUAL,
    polygon: Ring | Default | None = USUAL,
    circle: Circle | None = None,
    areas: Iterable[Area] | None = None,
    infos: Iterable[Info] | None = None,
    version: str = "1.2",
    raw: bytes | None = None,
) -> Alert:
    """Return an alert that is valid unless an argument makes it otherwise: an evacuation order of 人吉市, sent now, over in six hours.

    Identifiers are unique. `level` is the 警戒レベル (None: not said), `codes` are municipality codes, `polygon` is a ring of (lon, lat); the usual
    polygon goes only with the usual codes. `areas` takes the place of those three, `infos` of everything below <alert>. `references` may be alerts or
    entries. `sent` may be the text itself. `raw` is the document rendered from all this, unless given.
    """
    sent_text, moment = _sent(sent)
    status = Status(status)
    if isinstance(note, Default):
        # CAP 1.2, 3.2.1 <status>: an Exercise should say in the note which exercise it is.
        note = "防災訓練" if status is Status.EXERCISE else None
    if isinstance(polygon, Default):
        polygon = CITY_CENTRE if codes is USUAL else None
    if areas is None:
        areas = (
            Area(
                area_desc=area_desc,
                polygons=() if polygon is None else (polygon,),
                circles=() if circle is None else (circle,),
                geocodes=tuple(
                    NamedValue(GEOCODE_NAME, code)
                    for code in ((HITOYOSHI,) if isinstance(codes, Default) else codes)
                ),
            ),
        )
    if infos is None:
        said = [("警戒レベル", str(level))] if level is not None else []
        infos = (
            Info(
                event=event,
                categories=_several(category),
                urgency=Urgency(urgency),
                severity=Severity(severity),
                certainty=Certainty(certainty),
                language=language,
                response_types=_several(response),
                effective=effective,
                onset=onset,
                expires=moment + timedelta(hours=6) if isinstance(expires, Default) else expires,
                sender_name=sender_name,
                headline=headline,
                description=description,
                instruction=instruction,
                web=web,
                contact=contact,
                parameters=tuple(NamedValue(name, value) for name, value in (*said, *parameters)),
                resources=tuple(resources),
                areas=tuple(areas),
            ),
        )
    alert = Alert(
        identifier=identifier or f"test-{uuid4()}",
        sender=sender,
        sent=moment,
        status=status,
        msg_type=MsgType(msg_type),
        scope=Scope(scope),
        sent_text=sent_text,
        version=version,
        source=source,
        restriction=restriction,
        addresses=tuple(addresses),
        codes=tuple(alert_codes),
        note=note,
        references=tuple(_reference(reference) for reference in references),
        incidents=tuple(incidents),
        infos=tuple(infos),
    )
    return replace(alert, raw=cap.render(alert) if raw is None else raw)


def make_cap(**changes: Any) -> bytes:  # noqa: ANN401  # what `make_alert` takes
    """Return the document of `make_alert(**changes)`."""
    return make_alert(**changes).raw


def revive(raw: bytes, jurisdiction: frozenset[str]) -> tuple[Alert, Facts]:
    """Do for a store under test what the hub does with the gazetteer: parse the document and say which codes it concerns."""
    alert = cap.parse(raw)
    return alert, declared_facts(alert, jurisdiction)


def declared_facts(alert: Alert, jurisdiction: frozenset[str] = frozenset()) -> Facts:
    """Return facts from declared codes alone, without a gazetteer."""
    codes = frozenset(
        geocode.value
        for info in alert.infos
        for area in info.areas
        for geocode in area.geocodes
        if geocode.name in cap.JIS_GEOCODE_NAMES
    )
    found = codes or jurisdiction
    return Facts(
        codes=found,
        reach=found | {code[:2] for code in found},
        level=cap.level(alert),
        kind=cap.kind(alert),
        nowhere=not codes,
    )


def _sent(sent: Time | None) -> tuple[str, datetime]:
    if isinstance(sent, str):
        return sent, datetime.fromisoformat(sent)
    moment = (datetime.now(JST) if sent is None else sent).replace(microsecond=0)
    text = moment.isoformat()
    # CAP 1.2, 3.3.2: UTC is written -00:00.
    return (f"{text[:-6]}-00:00" if moment.utcoffset() == timedelta(0) else text), moment


def _reference(of: Alert | Entry | Reference) -> Reference:
    if isinstance(of, Reference):
        return of
    alert = of.alert if isinstance(of, Entry) else of
    return Reference(alert.sender, alert.identifier, alert.sent_text, alert.sent)


def timeless(of: Alert | Entry) -> Reference:
    """Return a reference as CAP 1.0 makes it, by sender and identifier alone."""
    alert = of.alert if isinstance(of, Entry) else of
    return Reference(alert.sender, alert.identifier, "", UNKNOWN_INSTANT)


def _several(words: str | Iterable[str]) -> tuple[str, ...]:
    return (words,) if isinstance(words, str) else tuple(words)
