"""The judgement on an alert that reads: may this caller say this, about this place, now? Decided here and nowhere else.

The rules are a table (`POLICY`), judged in its order; docs/adr/0004-intake-policy-table.md says why. Each rule is a pure function of one
`Case`: it raises `Forbidden` or `Unauthenticated` where the caller may not, or yields problems. An error makes the alert invalid, a warning stays with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import lru_cache
from threading import get_ident
from typing import Final

import shapely
from shapely.geometry.base import BaseGeometry

from lalert import lifecycle
from lalert.cap import PROFILES, Profile, Verification, declared_code, has_errors
from lalert.errors import (
    Forbidden,
    InvalidAlert,
    InvalidCode,
    InvalidGeometry,
    Problem,
    ProblemSeverity,
    Unauthenticated,
)
from lalert.findings import HUB
from lalert.geo import Gazetteer, Located, area_geometry
from lalert.lifecycle import ReferencePolicy
from lalert.matching import located_geocodes
from lalert.model import JST, Alert, Area, Entry, Facts, MsgType, Role, SignaturePolicy, Status
from lalert.tenancy import Caller, sender_allowed, sender_tolerated

METRES_PER_DEGREE: Final = 90_000.0
"""Fewer metres than a degree of longitude has south of 36 N or of latitude anywhere: a buffer made with it is never too small there."""

PREFECTURES: Final = frozenset(f"{number:02d}" for number in range(1, 48))


@dataclass(frozen=True, slots=True)
class Policy:
    """What the hub's operator may set.

    `future` is how far ahead of the hub's clock `sent` may lie. `past` is how old it may be, None for any age: a late warning is worth
    more than none, and what has expired is never sent as new. The buffers, in metres, widen a jurisdiction where its border is official or only approximate.
    `profile` is what is asked of every alert beyond CAP.
    """

    future: timedelta = timedelta(minutes=5)
    past: timedelta | None = None
    border_buffer_m: float = 2_000.0
    approximate_buffer_m: float = 20_000.0
    profile: Profile = PROFILES["cap"]
    references: ReferencePolicy = field(default_factory=ReferencePolicy)


@dataclass(frozen=True, slots=True)
class Case:
    """Everything a rule may look at.

    `known` maps the ids that the alert refers to, to their entries, as far as the hub has them, `heads` the same ids to the newest states of
    their chains; `ambiguous` are references that could mean several alerts. `facts` are the alert's own.
    `signature` is what became of the alert's signature, None where nobody is to look at it.
    """

    alert: Alert
    caller: Caller
    now: datetime
    known: Mapping[str, Entry]
    gazetteer: Gazetteer
    policy: Policy
    signature: Verification | None = None
    facts: Facts = field(default_factory=Facts)
    heads: Mapping[str, Sequence[Entry]] = field(default_factory=dict)
    ambiguous: frozenset[str] = frozenset()

    @property
    def message(self) -> lifecycle.Message:
        """Return the case as far as it is about the life of alerts."""
        known = {id: lifecycle.Known(entry, self.heads.get(id, (entry,))) for id, entry in self.known.items()}
        return lifecycle.Message(self.alert, self.facts, self.now, known, self.ambiguous)


Rule = Callable[[Case], Iterator[Problem]]


def judge(case: Case) -> tuple[Problem, ...]:
    """Return the warnings that the sender should hear of; the alert may go out.

    Raises `Unauthenticated`, `Forbidden`, or `InvalidAlert` with every problem found.
    """
    problems: list[Problem] = []
    for rule in POLICY:
        try:
            problems += rule(case)
        except Forbidden:
            # What is wrong with the document comes first: only then can be said what it would do.
            if not has_errors(problems):
                raise
    if has_errors(problems):
        raise InvalidAlert([*problems, *(defect for defect in case.alert.defects if defect not in problems)])
    return tuple(problems)


def found_by_the_log(entry: Entry) -> Iterator[Problem]:
    """Yield what only the log could tell of an alert: it goes to the sender with the rest."""
    if entry.outdated:
        yield HUB["HUB-REVISION-OLD"].finding("/alert/sent")


def jurisdiction(caller: Caller) -> frozenset[str]:
    """Return the codes that an alert without any place concerns: all that its organisation may alert for."""
    if caller.tenant is None:
        return frozenset()
    return PREFECTURES if caller.tenant.everywhere else caller.tenant.codes


def _belongs_to_somebody(case: Case) -> Iterator[Problem]:
    if case.caller.tenant is None:
        raise Unauthenticated("an alert needs a sender key: send it as `Authorization: Bearer KEY`")
    key = case.caller.key
    if key is not None and key.role is not Role.SENDER:
        raise Forbidden(f"a {key.role} key may not submit alerts; use a sender key", code="wrong-role")
    return iter(())


def _speaks_for_itself(case: Case) -> Iterator[Problem]:
    tenant = case.caller.tenant
    assert tenant is not None
    if not sender_allowed(tenant, case.alert.sender):
        allowed = ", ".join(tenant.senders[:5])
        raise Forbidden(
            f"sender {case.alert.sender!r} is not one of this key's senders ({allowed})",
            code="sender-not-yours",
        )
    return iter(())


def _drill_key_drills(case: Case) -> Iterator[Problem]:
    key = case.caller.key
    if key is not None and key.exercise_only and case.alert.status not in (Status.EXERCISE, Status.TEST):
        raise Forbidden(
            f"this key is for exercises only and cannot send status {case.alert.status}; use status Exercise or Test",
            code="exercise-only-key",
        )
    return iter(())


def _conforms(case: Case) -> Iterator[Problem]:
    tenant = case.caller.tenant
    assert tenant is not None
    errors = [problem for problem in case.alert.defects if problem.severity is ProblemSeverity.ERROR]
    # An error without a repair is one that no policy forgives.
    if errors and not (all(p.repair for p in errors) and sender_tolerated(tenant, case.alert.sender)):
        yield from case.alert.defects


def _signed_as_asked(case: Case) -> Iterator[Problem]:
    tenant, found = case.caller.tenant, case.signature
    assert tenant is not None
    assert found is not None or tenant.signatures is SignaturePolicy.IGNORE
    # No tolerance comes into it: a signature that does not hold is not a mistake in writing, it is somebody else's alert.
    if found is None or found.problem is None:
        return
    if found.signed or tenant.signatures is SignaturePolicy.REQUIRE:
        yield found.problem


def _not_a_draft(case: Case) -> Iterator[Problem]:
    # CAP 1.2, 3.2.1 <status>: Draft is "not actionable in its current form", so there is nobody to send it to.
    if case.alert.status is Status.DRAFT:
        yield HUB["HUB-STATUS-DRAFT"].finding("/alert/status")


def _clock_agrees(case: Case) -> Iterator[Problem]:
    sent, now, policy = case.alert.sent, case.now, case.policy
    clock = now.astimezone(JST).isoformat(timespec="seconds")
    if sent > now + policy.future:
        yield HUB["HUB-SENT-FUTURE"].finding("/alert/sent", minutes=_minutes(sent - now), now=clock)
    if policy.past is not None and sent < now - policy.past:
        yield HUB["HUB-SENT-PAST"].finding("/alert/sent", minutes=_minutes(now - sent), now=clock)


def _inside_its_jurisdiction(case: Case) -> Iterator[Problem]:
    tenant = case.caller.tenant
    assert tenant is not None
    if tenant.everywhere:
        return iter(())
    mine = case.gazetteer.today(tenant.codes)
    # What lies inside as a whole, as it nearly always does, need not be drawn once more.
    drawn = case.facts.drawn
    covered = drawn is not None and bool(_home_of(case).covers(drawn))
    for path, area in _areas(case.alert):
        for code in _declared(area):
            if not _is_mine(code, mine, case.gazetteer):
                raise Forbidden(
                    f"{path}: {code} is not one of the places that {tenant.id} may alert for",
                    code="area-not-yours",
                )
        for geocode, located in located_geocodes(area, case.gazetteer):
            if not _is_home(located, mine, case):
                raise Forbidden(
                    f"{path}: {geocode.name[:60]} {geocode.value[:40]} is beyond the places that {tenant.id} may alert for",
                    code="area-not-yours",
                )
        if (area.polygons or area.circles) and not (covered or _covered(area, case)):
            raise Forbidden(
                f"{path}: the drawn area reaches beyond the places that {tenant.id} may alert for",
                code="area-not-yours",
            )
    return iter(())


def _refers_to_its_own(case: Case) -> Iterator[Problem]:
    tenant = case.caller.tenant
    assert tenant is not None
    for reference in case.alert.references:
        entry = case.known.get(reference.id)
        if entry is not None and entry.origin.tenant != tenant.id:
            raise Forbidden(
                f"/alert/references: {reference.identifier} was issued by another organisation",
                code="reference-not-yours",
            )
    return iter(())


def _continues_well(case: Case) -> Iterator[Problem]:
    alert = case.alert
    # What stands for itself, the usual alert, is not looked at any further.
    if alert.references or alert.codes or alert.msg_type is not MsgType.ALERT:
        tenant = case.caller.tenant
        assert tenant is not None
        tolerated = sender_tolerated(tenant, alert.sender)
        for found in lifecycle.judge(case.message, case.policy.references):
            yield _told_as_new(found) if tolerated and found.rule == "HUB-CORRECTION-MAJOR" else found


def _told_as_new(found: Problem) -> Problem:
    """Return what was wrong with a correction that is none, of a sender whose warnings are not lost over a wrong mark."""
    return replace(
        found,
        severity=ProblemSeverity.WARNING,
        repair="it is told to everybody as an ordinary update",
        repair_ja="訂正としてではなく、通常の更新として全員に配信します",
    )


POLICY: Final[tuple[Rule, ...]] = (
    _belongs_to_somebody,
    _speaks_for_itself,
    _drill_key_drills,
    _conforms,
    _signed_as_asked,
    _not_a_draft,
    _inside_its_jurisdiction,
    _refers_to_its_own,
    _continues_well,
    _clock_agrees,
)


def _areas(alert: Alert) -> Iterator[tuple[str, Area]]:
    for i, info in enumerate(alert.infos, 1):
        for a, area in enumerate(info.areas, 1):
            yield f"/alert/info[{i}]/area[{a}]", area


def _declared(area: Area) -> Iterator[str]:
    for geocode in area.geocodes:
        try:
            code = declared_code(geocode)
        except InvalidCode:
            continue  # among the alert's defects already, an error; where that is tolerated, matching passes over it just the same
        if code is not None:
            yield code


def _is_mine(code: str, mine: frozenset[str], gazetteer: Gazetteer) -> bool:
    # Of a code that ended all successors count: the alert reaches whoever follows any of them.
    return not any(mine.isdisjoint(_upwards(heir, gazetteer)) for heir in gazetteer.today([code]))


def _is_home(located: Located, mine: frozenset[str], case: Case) -> bool:
    if located.geometry is not None and not _home_of(case).covers(located.geometry):
        return False
    somewhere = bool(located.codes) or located.geometry is not None
    return somewhere and all(_is_mine(code, mine, case.gazetteer) for code in located.codes)


def _upwards(code: str, gazetteer: Gazetteer) -> frozenset[str]:
    place = gazetteer.place(code)
    parent = {place.parent} if place is not None and place.parent else set()
    return frozenset({code, code[:2], *parent})


def _covered(area: Area, case: Case) -> bool:
    try:
        drawn = area_geometry(replace(area, geocodes=()))
    except InvalidGeometry as error:
        raise Forbidden(f"{area.area_desc}: {error.detail}", code="area-not-yours") from error
    return bool(_home_of(case).covers(drawn))


def _home_of(case: Case) -> BaseGeometry:
    assert case.caller.tenant is not None
    margins = (case.policy.border_buffer_m, case.policy.approximate_buffer_m)
    return _prepared_home(case.gazetteer, case.caller.tenant.codes, margins, get_ident())


@lru_cache(maxsize=256)
def _prepared_home(
    gazetteer: Gazetteer, codes: frozenset[str], margins_m: tuple[float, float], _thread: int
) -> BaseGeometry:
    """Return a territory for one thread alone: large alerts are judged in threads, and two that ask one prepared geometry at once end the process."""
    home = shapely.from_wkb(_home(gazetteer, codes, margins_m))
    shapely.prepare(home)
    return home


@lru_cache(maxsize=256)
def _home(gazetteer: Gazetteer, codes: frozenset[str], margins_m: tuple[float, float]) -> bytes:
    """Return the places' ground with a margin: the first around what has an official border, the second around the rest."""
    leaves = sorted(gazetteer.leaves(codes))
    grounds: list[list[BaseGeometry | None]] = [[], []]
    for leaf in leaves:
        grounds[not gazetteer.within_official(leaf)].append(gazetteer.catchment(leaf))
    # Joined before they are widened: borders inside need no margin.
    home = shapely.union_all(
        [
            shapely.union_all(ground).buffer(metres / METRES_PER_DEGREE)
            for ground, metres in zip(grounds, margins_m, strict=True)
        ]
    )
    wkb: bytes = shapely.to_wkb(home)
    return wkb


def _minutes(span: timedelta) -> str:
    return f"{span.total_seconds() / 60:.0f}"
