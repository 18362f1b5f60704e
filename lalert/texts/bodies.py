"""The bytes of an entry in each format, made once for all who ask the same."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

import orjson

from lalert import cap
from lalert.errors import BadRequest
from lalert.model import Entry
from lalert.texts.languages import chosen
from lalert.texts.public import alert_geojson, alert_json

_Key = tuple[str, str, tuple[str, ...]]

FORMATS: Final = ("json", "json+cap", "cap", "edxl", "geojson")


class Bodies:
    """Makes bodies and keeps the last ones, within bounds; for all threads. What it returns depends on nothing but what it is given."""

    def __init__(self, max_entries: int = 4_096, max_bytes: int = 64 * 2**20) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._kept: OrderedDict[_Key, _Kept] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def __call__(self, entry: Entry, format: str = "json", lang: str | None = None) -> bytes:
        """Return an entry as `json`, `json+cap` (with the document as text in it), `cap` (the document as received), `edxl` (the same in an EDXL-DE 1.0 envelope) or `geojson`.

        Raises BadRequest for another format.
        """
        if format == "cap":
            return entry.alert.raw
        # By what is shown, not by what is asked for: a thousand invented languages are one body.
        key = (entry.position, format, tuple(info.language for info in chosen(entry.alert.infos, lang)))
        with self._lock:
            kept = self._kept.get(key)
            # Positions are unique within one store, but a process may hold several: only the very same entry is the same.
            if kept is not None and kept.entry is entry:
                self._kept.move_to_end(key)
                return kept.body
        body = _encoded(entry, format, lang)
        with self._lock:
            self._keep(key, _Kept(entry, body))
        return body

    def _keep(self, key: _Key, new: _Kept) -> None:
        old = self._kept.pop(key, None)
        self._kept[key] = new
        self._bytes += new.size - (old.size if old else 0)
        while self._bytes > self._max_bytes or len(self._kept) > self._max_entries:
            self._bytes -= self._kept.popitem(last=False)[1].size


body: Final = Bodies()
"""Bodies for whoever keeps none of their own."""


@dataclass(frozen=True, slots=True)
class _Kept:
    entry: Entry
    body: bytes

    @property
    def size(self) -> int:
        return len(self.body) + len(self.entry.alert.raw)


def _encoded(entry: Entry, format: str, lang: str | None) -> bytes:
    if format == "edxl":
        return cap.wrap(entry.alert)
    if format == "geojson":
        return orjson.dumps(alert_geojson(entry))
    if format in {"json", "json+cap"}:
        return orjson.dumps(alert_json(entry, lang=lang, with_cap=format == "json+cap"))
    raise BadRequest(f"format: {format[:20]!r} must be one of {', '.join(FORMATS)}")
