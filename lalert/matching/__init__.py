"""Which filters want an alert, and why. Pure: no I/O, no clock; docs/matching.md states the rules."""

from __future__ import annotations

from lalert.matching.facts import declared_codes as declared_codes
from lalert.matching.facts import drawn_geometry as drawn_geometry
from lalert.matching.facts import facts_of as facts_of
from lalert.matching.facts import located_geocodes as located_geocodes
from lalert.matching.facts import placed_exactly as placed_exactly
from lalert.matching.index import FilterIndex as FilterIndex
from lalert.matching.query import filter_pairs as filter_pairs
from lalert.matching.query import parse_filter as parse_filter
from lalert.matching.reasons import Reason as Reason
from lalert.matching.reasons import Rule as Rule
from lalert.matching.reasons import explain as explain
from lalert.matching.reasons import hindrances as hindrances
from lalert.matching.rules import wants as wants
