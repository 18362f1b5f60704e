"""Real alerts of the world: none makes the reader fail, and the verdicts are those that were looked at one by one."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from lxml import etree

from lalert import cap
from lalert.errors import ProblemSeverity

SAMPLES = Path(__file__).resolve().parents[3] / "shared" / "data" / "cap-samples"

# Every refusal was read: each is one of these faults and really there.
RIGHTLY_REFUSED_FOR = {
    "CAP-CIRCLE-FORM",  # <circle/>, written by a template
    "CAP-ELEMENT-MISSING",  # scope; templates without identifier, sender and sent
    "CAP-ELEMENT-ORDER",
    "CAP-ELEMENT-UNKNOWN",  # elements of <info> directly in <alert>, as in an Atom entry
    "CAP-NAME",
    "CAP-POLYGON-CROSSING",
    "CAP-POLYGON-FORM",  # <polygon/>, written by a template; a point without latitude
    "CAP-REFERENCES-FORM",  # <references/>, written by a template; times with fractions
    "CAP-RESTRICTION-MISSING",
    "CAP-TEXT-EMPTY",
    "CAP-TIME-FORM",  # fractions of a second, no offset
    "CAP-VALUE",
}


def documents() -> Iterator[tuple[str, bytes]]:
    """Yield every alert: files, alerts inside of feeds and envelopes, and those that stand in JSON."""
    for file in sorted(path for path in SAMPLES.rglob("*") if path.is_file()):
        raw = file.read_bytes()
        if file.suffix == ".json" or raw.lstrip().startswith(b"{"):
            yield from (
                (f"{file.name}#{n}", text.encode()) for n, text in enumerate(_in_json(json.loads(raw)))
            )
            continue
        try:
            root = etree.fromstring(raw, etree.XMLParser(resolve_entities=False, no_network=True))
        except etree.XMLSyntaxError:
            yield file.name, raw
            continue
        if etree.QName(root).localname == "alert":
            yield file.name, raw
        else:
            yield from (
                (f"{file.name}#{n}", etree.tostring(alert, with_tail=False))
                for n, alert in enumerate(root.iter("{*}alert"))
            )


def _in_json(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == "capXml":
                yield inner
            else:
                yield from _in_json(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _in_json(inner)


@pytest.mark.shared
def test_no_sample_makes_the_reader_fail_and_the_verdicts_are_those_that_were_judged() -> None:
    verdicts: Counter[tuple[str | None, bool]] = Counter()
    reasons: Counter[str] = Counter()
    for name, raw in documents():
        report = cap.examine(raw)
        verdicts[report.version, report.valid] += 1
        if report.alert is not None:
            cap.level(report.alert)
            cap.kind(report.alert)
            assert cap.parse(cap.render(report.alert), tolerant=not report.valid) == report.alert, name
        elif report.version:
            errors = {p.rule for p in report.problems if p.severity is ProblemSeverity.ERROR}
            reasons.update(errors)
            assert errors <= RIGHTLY_REFUSED_FOR, (name, errors)
    print(dict(verdicts), dict(reasons))
    assert sum(verdicts.values()) >= 190
    assert verdicts["1.2", True] >= 98
    assert verdicts["1.1", True] >= 14
    assert verdicts["1.0", True] >= 4


@pytest.mark.shared
@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2"])
def test_the_examples_of_the_standard_itself_are_valid(version: str) -> None:
    files = sorted(SAMPLES.rglob(f"v1dot{version[-1]}_appendix_adot*.xml"))
    assert len(files) == 4
    for file in files:
        report = cap.examine(file.read_bytes())
        assert report.valid, (file.name, report.problems)
        assert report.version == version


@pytest.mark.shared
def test_a_file_that_is_no_alert_is_told_so() -> None:
    for file in SAMPLES.rglob("*.atom"):
        report = cap.examine(file.read_bytes())
        assert report.valid or report.problems
