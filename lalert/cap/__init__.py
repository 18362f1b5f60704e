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
from lalert.cap.parse import has_errors as has_errors
from lalert.cap.parse import parse as parse
from lalert.cap.profiles import CODES as CODES
from lalert.cap.profiles import PROFILES as PROFILES
from lalert.cap.profiles import judge as judge
from lalert.cap.profiles.base import Profile as Profile
from lalert.cap.profiles.jp.kinds import KINDS as KINDS
from lalert.cap.profiles.jp.mail import UrgentMail as UrgentMail
from lalert.cap.profiles.jp.mail import urgent_mail as urgent_mail
from lalert.cap.profiles.jp.reading import JIS_GEOCODE_NAMES as JIS_GEOCODE_NAMES
from lalert.cap.profiles.jp.reading import Damage as Damage
from lalert.cap.profiles.jp.reading import Headquarters as Headquarters
from lalert.cap.profiles.jp.reading import Order as Order
from lalert.cap.profiles.jp.reading import Rainfall as Rainfall
from lalert.cap.profiles.jp.reading import RiverLevel as RiverLevel
from lalert.cap.profiles.jp.reading import Shelter as Shelter
from lalert.cap.profiles.jp.reading import as_of as as_of
from lalert.cap.profiles.jp.reading import damages as damages
from lalert.cap.profiles.jp.reading import declared_code as declared_code
from lalert.cap.profiles.jp.reading import equivalent_level as equivalent_level
from lalert.cap.profiles.jp.reading import headquarters as headquarters
from lalert.cap.profiles.jp.reading import kind as kind
from lalert.cap.profiles.jp.reading import level as level
from lalert.cap.profiles.jp.reading import orders as orders
from lalert.cap.profiles.jp.reading import rainfalls as rainfalls
from lalert.cap.profiles.jp.reading import readings as readings
from lalert.cap.profiles.jp.reading import river_levels as river_levels
from lalert.cap.profiles.jp.reading import shelters as shelters
from lalert.cap.profiles.jp.reading import topic as topic
from lalert.cap.render import render as render
from lalert.cap.signature import Verification as Verification
from lalert.cap.signature import sign as sign
from lalert.cap.signature import verify as verify
