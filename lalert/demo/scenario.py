"""The storm that the demo plays: fictional levels and orders, at real places of the Kuma basin (熊本県 人吉・球磨)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from lalert import config
from lalert.model import (
    Alert,
    Area,
    Certainty,
    Info,
    MsgType,
    NamedValue,
    Reference,
    Ring,
    Scope,
    Severity,
    Status,
    Urgency,
)
from lalert.sensors.settings import Rules

STEP_SECONDS: Final = 4.0
"""Seconds between two steps at speed 1; a step stands for ten minutes of the storm."""

HITOYOSHI, NISHIKI, SAGARA, KUMA, ASAGIRI, TARAGI = "432032", "435015", "435104", "435139", "435147", "435058"
ELSEWHERE: Final = "432059"
"""水俣市: another municipality of the prefecture, outside the basin. It must hear of nothing."""


@dataclass(frozen=True, slots=True)
class Org:
    """An organisation of the demo and the CAP senders it uses."""

    id: str
    name: str
    codes: tuple[str, ...]
    sender: str


RIVER: Final = Org(
    "kuma-river",
    "球磨川水位観測(デモ)",
    (HITOYOSHI, NISHIKI, SAGARA, KUMA, ASAGIRI, TARAGI),
    "gauge@kuma-river.example",
)
CITY: Final = Org("hitoyoshi", "人吉市(デモ)", (HITOYOSHI,), "bousai@hitoyoshi.example")
TOWN: Final = Org("nishiki", "錦町(デモ)", (NISHIKI,), "bousai@nishiki.example")
ORGS: Final = (RIVER, CITY, TOWN)

STORM: Final = Rules(quiet_min=0.0)
"""The storm of hours passes in a minute: nothing can wait ten."""

STATIONS: Final = (
    config.Station(
        id="taragi",
        name="多良木",
        name_en="Taragi",
        river="球磨川",
        river_en="Kuma River",
        org=RIVER.id,
        sender=RIVER.sender,
        sender_name=RIVER.name,
        sender_name_en="Kuma River water levels (demo)",
        contact="demo@kuma-river.example",
        codes=(TARAGI, ASAGIRI),
        area="多良木町、あさぎり町の球磨川沿い",
        area_en="Taragi and Asagiri, along the Kuma River",
        lon=130.9336,
        lat=32.2610,
        rule=STORM,
        thresholds=config.Thresholds(1.5, 2.2, 3.0, 3.6, 4.4),
    ),
    config.Station(
        id="yanase",
        name="柳瀬",
        name_en="Yanase",
        river="川辺川",
        river_en="Kawabe River",
        org=RIVER.id,
        sender=RIVER.sender,
        sender_name=RIVER.name,
        sender_name_en="Kuma River water levels (demo)",
        contact="demo@kuma-river.example",
        codes=(SAGARA, NISHIKI),
        area="相良村、錦町の川辺川沿い",
        area_en="Sagara and Nishiki, along the Kawabe River",
        lon=130.7930,
        lat=32.2290,
        rule=STORM,
        thresholds=config.Thresholds(2.0, 3.0, 4.0, 4.6, 5.4),
    ),
    config.Station(
        id="hitoyoshi",
        name="人吉",
        name_en="Hitoyoshi",
        river="球磨川",
        river_en="Kuma River",
        org=RIVER.id,
        sender=RIVER.sender,
        sender_name=RIVER.name,
        sender_name_en="Kuma River water levels (demo)",
        contact="demo@kuma-river.example",
        codes=(HITOYOSHI, KUMA),
        area="人吉市、球磨村の球磨川沿い",
        area_en="Hitoyoshi and Kuma, along the Kuma River",
        lon=130.7620,
        lat=32.2140,
        rule=STORM,
        thresholds=config.Thresholds(1.5, 3.0, 3.2, 3.4, 4.7),
    ),
)

LEVELS: Final[dict[str, tuple[float, ...]]] = {
    "taragi": (0.9, 1.2, 1.7, 2.3, 2.9, 3.2, 3.4, 3.2, 2.8, 2.4, 1.8, 1.4, 1.1, 0.9),
    "yanase": (1.1, 1.3, 1.8, 2.6, 3.2, 3.7, 4.1, 4.0, 3.6, 3.1, 2.6, 2.2, 1.8, 1.5),
    "hitoyoshi": (0.8, 1.0, 1.3, 1.9, 2.6, 3.1, 3.3, 3.6, 3.9, 3.5, 3.0, 2.5, 2.0, 1.6),
}
"""Water levels in metres, one a step, for each station."""

RAIN_MM: Final = (4.0, 8.5, 14.0, 17.5, 16.0, 12.0, 8.0, 3.5, 1.0, 0.5, 0.0, 0.0, 0.0, 0.0)
"""Rain in ten minutes at 人吉, one a step."""

STEPS: Final = len(RAIN_MM)

RIVERSIDE: Final[Ring] = (
    (130.735, 32.205),
    (130.750, 32.221),
    (130.775, 32.224),
    (130.792, 32.214),
    (130.772, 32.203),
    (130.735, 32.205),
)
"""The low land along the river in 人吉市, roughly: (lon, lat)."""


@dataclass(frozen=True, slots=True)
class Order:
    """Something an officer sends at a step. `answers` is the index of the order that it updates or cancels."""

    step: int
    org: Org
    status: Status
    msg_type: MsgType
    level: int | None
    severity: Severity
    urgency: Urgency
    event: str
    event_en: str
    headline: str
    headline_en: str
    instruction: str
    instruction_en: str
    area: Area
    area_en: str
    answers: int | None = None
    note: str | None = None


def _place(described: str, code: str, polygons: tuple[Ring, ...] = ()) -> Area:
    return Area(described, polygons=polygons, geocodes=(NamedValue("JISX0402", code),))


ORDERS: Final[Sequence[Order]] = (
    Order(
        step=3,
        org=TOWN,
        status=Status.EXERCISE,
        msg_type=MsgType.ALERT,
        level=4,
        severity=Severity.SEVERE,
        urgency=Urgency.IMMEDIATE,
        event="避難指示",
        event_en="Evacuation instruction",
        headline="錦町 木上地区に避難指示",
        headline_en="Evacuation instruction for Kinoe, Nishiki",
        instruction="危険な場所から全員避難してください。",
        instruction_en="Everybody: leave dangerous places.",
        area=_place("錦町 木上地区", NISHIKI),
        area_en="Kinoe, Nishiki",
    ),
    Order(
        step=5,
        org=CITY,
        status=Status.ACTUAL,
        msg_type=MsgType.ALERT,
        level=3,
        severity=Severity.SEVERE,
        urgency=Urgency.EXPECTED,
        event="高齢者等避難",
        event_en="Evacuation of the elderly, etc.",
        headline="人吉市 球磨川沿いに高齢者等避難",
        headline_en="Evacuation of the elderly, etc. along the Kuma River, Hitoyoshi",
        instruction="避難に時間のかかる高齢者等は、危険な場所から避難してください。それ以外の方も、避難の準備をしてください。",
        instruction_en="The elderly and all who need time: leave dangerous places. Everybody else: get ready.",
        area=_place("人吉市 球磨川沿いの浸水想定区域", HITOYOSHI, (RIVERSIDE,)),
        area_en="Hitoyoshi, expected flood area along the Kuma River",
    ),
    Order(
        step=7,
        org=CITY,
        status=Status.ACTUAL,
        msg_type=MsgType.UPDATE,
        level=4,
        severity=Severity.EXTREME,
        urgency=Urgency.IMMEDIATE,
        event="避難指示",
        event_en="Evacuation instruction",
        headline="人吉市 球磨川沿いに避難指示",
        headline_en="Evacuation instruction along the Kuma River, Hitoyoshi",
        instruction="危険な場所から全員避難してください。避難場所への移動が危険な場合は、近くの安全な建物の高い階へ移動してください。",
        instruction_en="Everybody: leave dangerous places. If the way is dangerous, go to an upper floor of a strong building nearby.",
        area=_place("人吉市 球磨川沿いの浸水想定区域", HITOYOSHI, (RIVERSIDE,)),
        area_en="Hitoyoshi, expected flood area along the Kuma River",
        answers=1,
    ),
    Order(
        step=STEPS - 1,
        org=CITY,
        status=Status.ACTUAL,
        msg_type=MsgType.CANCEL,
        level=None,
        severity=Severity.MINOR,
        urgency=Urgency.PAST,
        event="避難指示",
        event_en="Evacuation instruction",
        headline="人吉市 避難指示を解除",
        headline_en="Evacuation instruction lifted, Hitoyoshi",
        instruction="自宅へ戻る際は、冠水した道路や増水した水路に近づかないでください。",
        instruction_en="On the way home keep away from flooded roads and swollen channels.",
        area=_place("人吉市 球磨川沿いの浸水想定区域", HITOYOSHI, (RIVERSIDE,)),
        area_en="Hitoyoshi, expected flood area along the Kuma River",
        answers=2,
        note="球磨川の水位が下がり、氾濫のおそれがなくなったため、避難指示を解除します。",
    ),
)


def order_alert(order: Order, number: int, now: datetime, sent: Sequence[Alert]) -> Alert:
    """Return the CAP alert of an order; `sent` are the alerts of the orders before it."""
    instant = now.replace(microsecond=0)
    references: tuple[Reference, ...] = ()
    if order.answers is not None:
        before = sent[order.answers]
        references = (Reference(before.sender, before.identifier, before.sent_text, before.sent),)
    return Alert(
        identifier=f"{order.org.id}-{instant:%Y%m%d%H%M%S}-{number}",
        sender=order.org.sender,
        sent=instant,
        sent_text=instant.isoformat(timespec="seconds"),
        status=order.status,
        msg_type=order.msg_type,
        scope=Scope.PUBLIC,
        note=order.note,
        references=references,
        infos=tuple(_info(order, instant, japanese) for japanese in (True, False)),
    )


def _info(order: Order, instant: datetime, japanese: bool) -> Info:
    level = () if order.level is None else (NamedValue("警戒レベル", str(order.level)),)
    area = (
        order.area
        if japanese
        else Area(order.area_en, order.area.polygons, order.area.circles, order.area.geocodes)
    )
    return Info(
        language="ja" if japanese else "en",
        categories=("Safety",),
        event=order.event if japanese else order.event_en,
        response_types=("AllClear",) if order.msg_type is MsgType.CANCEL else ("Evacuate",),
        urgency=order.urgency,
        severity=order.severity,
        certainty=Certainty.LIKELY,
        effective=instant,
        expires=instant + timedelta(hours=12),
        sender_name=order.org.name if japanese else f"{order.org.id.capitalize()} (demo)",
        contact=order.org.sender,
        headline=order.headline if japanese else order.headline_en,
        instruction=order.instruction if japanese else order.instruction_en,
        parameters=(NamedValue("kind", "evacuation"), *level),
        areas=(area,),
    )
