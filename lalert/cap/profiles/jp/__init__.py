"""The Japanese profile: L-Alert's kinds of information in CAP, 警戒レベル, municipality codes, and what officers and broadcasters rely on."""

from __future__ import annotations

from typing import Final

from lalert.cap.profiles.base import Profile
from lalert.cap.profiles.jp.codes import unreadable_codes as unreadable_codes
from lalert.cap.profiles.jp.judge import judge
from lalert.cap.profiles.jp.table import RULES

# Whether an alert is real must never be in doubt, whoever sends it.
_UNFORGIVEN: Final = frozenset({"JP-DRILL-IN-ACTUAL"})

PROFILE: Final = Profile(
    "jp", "Japanese profile", "日本プロファイル", RULES, judge, _UNFORGIVEN, frozenset({"JP-AREA-PLACE"})
)
