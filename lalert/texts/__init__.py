"""What leaves the hub for people and programs: texts with the drill mark, JSON, GeoJSON."""

from __future__ import annotations

from lalert.texts.bodies import Bodies as Bodies
from lalert.texts.bodies import body as body
from lalert.texts.library import Library as Library
from lalert.texts.loading import checked as checked
from lalert.texts.loading import load as load
from lalert.texts.loading import usual as usual
from lalert.texts.marks import mark as mark
from lalert.texts.marks import marked_word as marked_word
from lalert.texts.prose import alert_text as alert_text
from lalert.texts.public import DEFECTS as DEFECTS
from lalert.texts.public import alert_geojson as alert_geojson
from lalert.texts.public import alert_json as alert_json
