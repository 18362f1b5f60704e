"""What a national profile is: rules beyond the standard, and a pure judgement of a finished alert by them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from lalert.cap.catalogue import RULES, Rule
from lalert.errors import Problem, ProblemSeverity
from lalert.geo import Place
from lalert.model import Alert, Area

MAX_FINDINGS: Final = 200
"""As many findings of one profile are reported, the errors first."""

Lookup = Callable[[str], Place | None]
"""What is known of a municipality code, as `normalise_code` spells it: a gazetteer's `place`."""

Placed = Callable[[Area], bool]
"""Says of an area whether the hub knows exactly where it is by what no profile reads: an operator's own geocodes."""

Places = Callable[[Iterable[str]], Mapping[str, tuple[str, int]]]
"""Element paths to what stands there in the document: the path of the element (or of the nearest one around it) and its line."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule that an alert breaks, the path of the element concerned, and what fills the rule's messages."""

    rule: str
    path: str
    args: Mapping[str, str] = field(default_factory=dict)


def finding(rule: str, path: str, /, **args: str) -> Finding:
    """Return a finding; `args` fill the messages and the helps of the rule."""
    return Finding(rule, path, args)


@dataclass(frozen=True, slots=True)
class Profile:
    """What one country asks of an alert beyond CAP. Another country's is another module with one of these.

    `judge` takes an alert that the standard finds no error in, and a look-up of municipality codes, or None where there is none to ask. It
    is pure, and may find any number of things; `problems` keeps the gravest. Its rules' helps are templates too. `unforgiven` are the errors that
    no policy tolerates; of any other, `repair` says that the alert can be taken as it stands. `placeless` say of an area that nobody can be found by it.
    """

    name: str
    title: str
    title_ja: str
    rules: Mapping[str, Rule]
    judge: Callable[[Alert, Lookup | None], Iterable[Finding]]
    unforgiven: frozenset[str] = frozenset()
    placeless: frozenset[str] = frozenset()

    def problems(
        self, alert: Alert, lookup: Lookup | None, places: Places, placed: Placed | None = None
    ) -> tuple[Problem, ...]:
        """Return what is found, in the order of the document; `places` is asked only when there is something to report."""
        found = list(self.judge(alert, lookup))
        if placed is not None:
            found = [f for f in found if f.rule not in self.placeless or not placed(_area_at(alert, f.path))]
        if not found:
            return ()
        dropped = len(found) > MAX_FINDINGS
        if dropped:
            found.sort(key=lambda f: (f.rule not in self.unforgiven, _WEIGHTS[self.rules[f.rule].severity]))
            del found[MAX_FINDINGS:]
        known = places({f.path for f in found})
        listed = [self._problem(f, *known.get(f.path, (f.path, 0))) for f in found]
        listed.sort(key=lambda problem: problem.line)
        return (*listed, _too_many()) if dropped else tuple(listed)

    def _problem(self, found: Finding, path: str, line: int) -> Problem:
        rule = self.rules[found.rule]
        forgiven = rule.severity is ProblemSeverity.ERROR and rule.id not in self.unforgiven
        repair, repair_ja = _AS_IT_STANDS if forgiven else ("", "")
        return replace(
            rule.finding(path, line, **found.args),
            help=rule.help.format_map(found.args),
            help_ja=rule.help_ja.format_map(found.args),
            repair=repair,
            repair_ja=repair_ja,
        )


def table(*rules: Rule) -> Mapping[str, Rule]:
    """Return rules by their ids; raises ValueError where two have the same."""
    by_id = {rule.id: rule for rule in rules}
    if len(by_id) < len(rules):
        raise ValueError("two rules of a profile have the same id")
    return by_id


def _area_at(alert: Alert, path: str) -> Area:
    info, area = map(int, re.findall(r"\[([0-9]+)\]", path))
    return alert.infos[info - 1].areas[area - 1]


_AS_IT_STANDS: Final = ("it was taken as it stands", "そのまま受け付けました")
_WEIGHTS: Final = {severity: weight for weight, severity in enumerate(ProblemSeverity)}


def _too_many() -> Problem:
    return RULES["CAP-TOO-MANY"].finding("/alert", shown=MAX_FINDINGS)
