"""What a warning stands on, put into it: the water's trend, the levels before it, and their image as a CAP resource. Pure."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from lalert.model import Alert, Info, NamedValue, Resource
from lalert.sensors.rules import Decision
from lalert.sensors.station import Station
from lalert.sensors.trend import Point
from lalert.store import StoredReading
from lalert.texts import hydrograph
from lalert.texts.hydrograph import Hydrograph

STEADY_M_PER_H: Final = 0.05
DESCRIBED: Final = {
    "ja": f"水位の推移(過去{hydrograph.HOURS}時間)",
    "en": f"Water level over the last {hydrograph.HOURS} hours",
}


def with_evidence(
    alert: Alert,
    station: Station,
    decision: Decision,
    readings: Sequence[StoredReading],
    address: str,
    doubted: Collection[datetime] = (),
) -> Alert:
    """Return a warning with its trend, the levels before it and their image; see `with_levels` and `with_image`."""
    return with_image(with_levels(alert, station, decision, readings, doubted), address)


def with_levels(
    alert: Alert,
    station: Station,
    decision: Decision,
    readings: Sequence[StoredReading],
    doubted: Collection[datetime] = (),
) -> Alert:
    """Return what a decision says with its trend and the levels before it; what no water level decided stays as it is.

    Of `readings` those count that came no later than the deciding one, so that the same decision made again later is the same document, and whose device
    time is not among the `doubted`.
    """
    deciding = decision.evidence
    levels = _levels(deciding, readings, doubted)
    if deciding.reading.level_m is None or not levels:
        return alert
    until = deciding.reading.time
    thresholds = {stage.name.lower(): level for stage, level in station.levels.items()}
    graph = Hydrograph(until, hydrograph.thinned(levels, until), thresholds)
    named = (*_trend(decision.outlook.per_hour_m), *hydrograph.parameters(graph))
    infos = tuple(replace(info, parameters=(*info.parameters, *named)) for info in alert.infos)
    return replace(alert, infos=infos)


def with_image(alert: Alert, address: str) -> Alert:
    """Return an alert with the image of the levels in it.

    `address` is the hub's public one (`https://hub.example`), under which the image is found; without one ("") the image goes inside the document.
    """
    return replace(alert, infos=tuple(_shown(alert, info, address) for info in alert.infos))


def image_path(alert_id: str, language: str) -> str:
    """Return where under the hub an alert's image is found."""
    return f"/alerts/{alert_id}/hydrograph.{language}.svg"


def _levels(
    deciding: StoredReading, readings: Sequence[StoredReading], doubted: Collection[datetime]
) -> list[Point]:
    until = deciding.reading.time
    since = until - timedelta(hours=hydrograph.HOURS)
    kept = {stored.number: stored for stored in (*readings, deciding) if stored.number <= deciding.number}
    return sorted(
        (stored.reading.time, stored.reading.level_m)
        for stored in kept.values()
        if stored.reading.level_m is not None
        and since <= stored.reading.time <= until
        and (stored.reading.time not in doubted or stored is deciding)
    )


def _trend(rate: float | None) -> tuple[NamedValue, ...]:
    if rate is None:
        return (NamedValue("trend", "unknown"),)
    word = "steady" if abs(rate) < STEADY_M_PER_H else "rising" if rate > 0 else "falling"
    return (NamedValue("trend", word), NamedValue("rise_m_per_h", f"{rate:.2f}"))


def _shown(alert: Alert, info: Info, address: str) -> Info:
    drawn = hydrograph.image(info)
    if drawn is None:
        return info
    resource = Resource(
        resource_desc=DESCRIBED.get(info.language, DESCRIBED["en"]),
        mime_type=hydrograph.MEDIA_TYPE,
        size=len(drawn),
        uri=f"{address}{image_path(alert.id, info.language)}" if address else None,
        deref_uri=None if address else base64.b64encode(drawn).decode(),
        # CAP 1.2, 3.2.3 asks for SHA-1: it tells a damaged copy, and is no signature.
        digest=hashlib.sha1(drawn, usedforsecurity=False).hexdigest(),
    )
    return replace(info, resources=(*info.resources, resource))
