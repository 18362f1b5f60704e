"""The bytes of an entry in each format, made once for all who ask the same."""

from __future__ import annotations

from typing import Final

import orjson

from lalert import cap
from lalert.errors import BadRequest
from lalert.model import Entry
from lalert.texts.kept import Kept
from lalert.texts.languages import chosen
from lalert.texts.public import alert_geojson, alert_json

FORMATS: Final = ("json", "json+cap", "cap", "edxl", "geojson")


class Bodies:
    """Makes bodies and keeps the last ones, within bounds; for all threads. What it returns depends on nothing but what it is given."""

    def __init__(self, max_entries: int = 4_096, max_bytes: int = 64 * 2**20) -> None:
        self._kept = Kept[bytes](max_entries, max_bytes)

    def __call__(self, entry: Entry, format: str = "json", lang: str | None = None) -> bytes:
        """Return an entry as `json`, `json+cap` (with the document as text in it), `cap` (the document as received) or `geojson`.

        Raises BadRequest for another format.
        """
        if format == "cap":
            return entry.alert.raw
        # By what is shown, not by what is asked for: a thousand invented languages are one body.
        key = (entry.position, format, tuple(info.language for info in chosen(entry.alert.infos, lang)))
        kept = self._kept.get(key, entry)
        if kept is not None:
            return kept
        body = _encoded(entry, format, lang)
        self._kept.put(key, entry, body, len(body))
        return body


body: Final = Bodies()
"""Bodies for whoever keeps none of their own."""


def _encoded(entry: Entry, format: str, lang: str | None) -> bytes:
    if format == "edxl":
        return cap.wrap(entry.alert)
    if format == "geojson":
        return orjson.dumps(alert_geojson(entry))
    if format in {"json", "json+cap"}:
        return orjson.dumps(alert_json(entry, lang=lang, with_cap=format == "json+cap"))
    raise BadRequest(f"format: {format[:20]!r} must be one of {', '.join(FORMATS)}")
