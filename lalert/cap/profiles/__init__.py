"""National profiles: what a country asks of an alert beyond the standard. Another country's is another module and a line in `PROFILES`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Final

from lalert.cap.places import places
from lalert.cap.profiles import jp
from lalert.cap.profiles.base import Finding as Finding
from lalert.cap.profiles.base import Lookup, Placed, Profile
from lalert.errors import Problem
from lalert.model import Alert

CAP: Final = Profile("cap", "the standard alone", "CAP標準のみ", {}, lambda _alert, _lookup: ())

CODES: Final = Profile(
    "codes",
    "municipality codes that cannot be read",
    "読み取れない市区町村コード",
    jp.PROFILE.rules,
    lambda alert, _lookup: jp.unreadable_codes(alert),
)
"""What a hub asks of codes whatever its profile is: by one that it cannot read, nobody would be found and no jurisdiction checked."""

PROFILES: Final[Mapping[str, Profile]] = {profile.name: profile for profile in (CAP, jp.PROFILE)}


def judge(
    alert: Alert, profile: Profile, lookup: Lookup | None = None, placed: Placed | None = None
) -> tuple[Problem, ...]:
    """Return what a profile finds in an alert, each with its path and, where the alert has its document (`raw`), its line."""
    return profile.problems(alert, lookup, partial(places, alert.raw), placed)
