"""The elements of CAP 1.0, 1.1 and 1.2 as data: what may stand where, in which order, how often, with which values.

The same as the schemas say (tests hold the two against each other), in a form that can name every fault instead of the first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final, NamedTuple

NAMESPACES: Final[Mapping[str, str]] = {
    "urn:oasis:names:tc:emergency:cap:1.2": "1.2",
    "urn:oasis:names:tc:emergency:cap:1.1": "1.1",
    "http://www.incident.com/cap/1.0": "1.0",
}
XMLDSIG: Final = "http://www.w3.org/2000/09/xmldsig#"
VERY_LIKELY: Final = "Very Likely"

_STATUS = frozenset({"Actual", "Exercise", "System", "Test", "Draft"})
_MSG_TYPE = frozenset({"Alert", "Update", "Cancel", "Ack", "Error"})
_SCOPE = frozenset({"Public", "Restricted", "Private"})
_CATEGORY = frozenset(
    {
        "Geo",
        "Met",
        "Safety",
        "Security",
        "Rescue",
        "Fire",
        "Health",
        "Env",
        "Transport",
        "Infra",
        "CBRNE",
        "Other",
    }
)
_RESPONSE = frozenset(
    {"Shelter", "Evacuate", "Prepare", "Execute", "Avoid", "Monitor", "Assess", "AllClear", "None"}
)
_URGENCY = frozenset({"Immediate", "Expected", "Future", "Past", "Unknown"})
_SEVERITY = frozenset({"Extreme", "Severe", "Moderate", "Minor", "Unknown"})
_CERTAINTY = frozenset({"Observed", "Likely", "Possible", "Unlikely", "Unknown"})


class Slot(NamedTuple):
    """The place of an element in its container: its position in the sequence, its name, and whether it may be repeated."""

    rank: int
    name: str
    repeats: bool


@dataclass(frozen=True, slots=True)
class Content:
    """What may stand in one container: qualified tag -> slot, and the names that must be there.

    `single` and `repeated` part the tags of what stands once at most from those of what may stand again; they map them to names.
    """

    name: str
    slots: Mapping[str, Slot]
    required: frozenset[str]
    single: Mapping[str, str]
    repeated: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Grammar:
    """One version of CAP.

    `values` maps the names of enumerated elements to their values, `containers` those of elements that hold elements to their content; `schema` is the file of its schema; `pairs` is false where a valueName and its value are written
    `name=value` in one element (CAP 1.0).
    """

    version: str
    namespace: str
    alert: Content
    info: Content
    resource: Content
    area: Content
    pair: Content
    pairs: bool
    values: Mapping[str, frozenset[str]]
    containers: Mapping[str, Content]
    schema: str


PAIRS: Final = ("eventCode", "parameter", "geocode")


@cache
def grammar(namespace: str) -> Grammar:
    """Return the grammar of a CAP namespace; raises KeyError for any other."""
    version = NAMESPACES[namespace]
    alert = _content(namespace, "alert", _alert(version))
    info = _content(namespace, "info", _info(version))
    resource = _content(namespace, "resource", _resource(version))
    area = _content(
        namespace, "area", ("areaDesc!", "polygon*", "circle*", "geocode*", "altitude", "ceiling")
    )
    pair = _content(namespace, "pair", ("valueName!", "value!"))
    pairs = version != "1.0"
    containers = {"alert": alert, "info": info, "resource": resource, "area": area}
    return Grammar(
        version=version,
        namespace=namespace,
        alert=alert,
        info=info,
        resource=resource,
        area=area,
        pair=pair,
        pairs=pairs,
        values=_values(version),
        containers=containers | dict.fromkeys(PAIRS, pair) if pairs else containers,
        schema=f"cap-{version}.xsd",
    )


def _alert(version: str) -> Iterable[str]:
    yield from ("identifier!", "sender!", "sent!", "status!", "msgType!")
    if version == "1.0":
        yield "password"
    yield from ("source", "scope" if version == "1.0" else "scope!", "restriction", "addresses", "code*")
    yield from ("note", "references", "incidents", "info*")


def _info(version: str) -> Iterable[str]:
    yield from ("language", "category*" if version == "1.0" else "category+", "event!")
    if version != "1.0":
        yield "responseType*"
    yield from (
        "urgency!",
        "severity!",
        "certainty!",
        "audience",
        "eventCode*",
        "effective",
        "onset",
        "expires",
    )
    yield from ("senderName", "headline", "description", "instruction", "web", "contact")
    yield from ("parameter*", "resource*", "area*")


def _resource(version: str) -> Iterable[str]:
    yield from ("resourceDesc!", "mimeType!" if version == "1.2" else "mimeType", "size", "uri")
    if version != "1.0":
        yield "derefUri"
    yield "digest"


def _values(version: str) -> Mapping[str, frozenset[str]]:
    values = {
        "status": _STATUS,
        "msgType": _MSG_TYPE,
        "scope": _SCOPE,
        "category": _CATEGORY,
        "responseType": _RESPONSE,
        "urgency": _URGENCY,
        "severity": _SEVERITY,
        "certainty": _CERTAINTY,
    }
    if version == "1.1":
        values["responseType"] = _RESPONSE - {"Avoid", "AllClear"}
    if version == "1.0":
        values["status"] = _STATUS - {"Draft"}
        values["category"] = _CATEGORY - {"CBRNE"}
        values["certainty"] = _CERTAINTY - {"Observed"} | {VERY_LIKELY}
        del values["responseType"]
    return values


def _content(namespace: str, container: str, names: Iterable[str]) -> Content:
    """Build a content from names with `!` for exactly one, `+` for one or more, `*` for any number."""
    slots = {}
    required = []
    for rank, spec in enumerate(names):
        name = spec.rstrip("!+*")
        slots[f"{{{namespace}}}{name}"] = Slot(rank, name, spec[-1] in "+*")
        if spec[-1] in "!+":
            required.append(name)
    single = {tag: slot.name for tag, slot in slots.items() if not slot.repeats}
    repeated = {tag: slot.name for tag, slot in slots.items() if slot.repeats}
    return Content(container, slots, frozenset(required), single, repeated)


GRAMMARS: Final[Mapping[str, Grammar]] = {
    f"{{{namespace}}}alert": grammar(namespace) for namespace in NAMESPACES
}
"""The grammar by the qualified tag of the root."""

ALL_VALUES: Final[Mapping[str, frozenset[str]]] = {
    name: frozenset().union(*(grammar.values.get(name, frozenset()) for grammar in GRAMMARS.values()))
    for name in _values("1.2")
}
"""The values of each enumerated element in any version: what an author of another version would have written."""
