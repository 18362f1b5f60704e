"""The Common Alerting Protocol: documents in and out, every rule of the standard, and what alerts mean in Japan."""

from __future__ import annotations

from lalert.cap.catalogue import RULES as RULES
from lalert.cap.catalogue import Rule as Rule
from lalert.cap.certificates import Certificate as Certificate
from lalert.cap.certificates import read_certificate as read_certificate
from lalert.cap.certificates import read_certificates as read_certificates
from lalert.cap.opening import MAX_BYTES as MAX_BYTES
from lalert.cap.parse import Report as Report
from lalert.cap.parse import examine as examine
from lalert.cap.parse import parse as parse
from lalert.cap.profiles import JIS_GEOCODE_NAMES as JIS_GEOCODE_NAMES
from lalert.cap.profiles import kind as kind
from lalert.cap.profiles import level as level
from lalert.cap.render import render as render
