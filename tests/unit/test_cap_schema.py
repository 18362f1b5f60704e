"""The schemas, the reader's own grammar and a second schema processor agree on what is an alert."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path

import pytest
import xmlschema
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree

from lalert import cap, resources
from lalert.cap.grammar import NAMESPACES, XMLDSIG, grammar

DATA = Path(__file__).parents[1] / "data" / "cap"
XS = "{http://www.w3.org/2001/XMLSchema}"
DOCUMENTS = {
    version: (DATA / "good" / name).read_bytes()
    for version, name in (("1.2", "everything.xml"), ("1.1", "1.1.xml"), ("1.0", "1.0.xml"))
}


@cache
def libxml2(version: str) -> etree.XMLSchema:
    return etree.XMLSchema(etree.fromstring(resources.schema(f"cap-{version}.xsd")))


@cache
def oracle(version: str) -> xmlschema.XMLSchema:
    return xmlschema.XMLSchema(resources.schema(f"cap-{version}.xsd").decode())


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_the_grammar_and_the_schema_have_the_same_elements_in_the_same_order(namespace: str) -> None:
    known = grammar(namespace)
    schema = etree.fromstring(resources.schema(f"cap-{known.version}.xsd"))
    types = {t.get("name"): t for t in schema.iterfind(f"{XS}complexType")}
    for content in (
        known.alert,
        known.info,
        known.resource,
        known.area,
        *([known.pair] if known.pairs else []),
    ):
        elements = types[content.name].findall(f"{XS}sequence/{XS}element")
        found = [(e.get("name") or (e.get("ref") or "").removeprefix("cap:")) for e in elements]
        assert [slot.name for slot in content.slots.values()] == found
        assert [slot.rank for slot in content.slots.values()] == list(range(len(found)))
        for element, slot in zip(elements, content.slots.values(), strict=True):
            assert slot.repeats == (element.get("maxOccurs") == "unbounded"), slot.name
            assert (slot.name in content.required) == (element.get("minOccurs") != "0"), slot.name


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_the_grammar_and_the_schema_have_the_same_values(namespace: str) -> None:
    known = grammar(namespace)
    schema = etree.fromstring(resources.schema(f"cap-{known.version}.xsd"))
    values = {
        simple.get("name"): {e.get("value") for e in simple.iter(f"{XS}enumeration")}
        for simple in schema.iterfind(f"{XS}simpleType")
        if simple.get("name") != "time"
    }
    assert values == {name: set(words) for name, words in known.values.items()}


def test_the_schema_does_not_repeat_the_comma_of_the_standard_s_pattern() -> None:
    text = DOCUMENTS["1.2"].decode()
    sent = "<sent>2026-07-04T02:20:00+09:00</sent>"
    assert text.count(sent) == 1
    assert libxml2("1.2").validate(etree.fromstring(text.encode()))
    assert not libxml2("1.2").validate(etree.fromstring(text.replace(sent, sent.replace("+", ",")).encode()))


VALUES = st.sampled_from(
    [
        "",
        " ",
        "x",
        "Actual",
        "Met",
        "Unknown",
        "12",
        "-0.5",
        "2026-07-04T02:20:00+09:00",
        "ja",
        "避難",
        "a,b",
        "32.2,130.7",
    ]
)
NAMES = st.sampled_from(
    [
        "identifier",
        "sent",
        "scope",
        "info",
        "event",
        "area",
        "polygon",
        "value",
        "valueName",
        "resource",
        "extra",
    ]
)


@st.composite
def mutants(draw: st.DrawFn) -> tuple[str, etree._Element]:
    version = draw(st.sampled_from(sorted(DOCUMENTS)))
    root = copy.deepcopy(etree.fromstring(DOCUMENTS[version]))
    namespace = etree.QName(root).namespace
    for _ in range(draw(st.integers(1, 3))):
        elements = list(root.iter())
        element = elements[draw(st.integers(1, len(elements) - 1)) if len(elements) > 1 else 0]
        parent = element.getparent()
        change = draw(st.integers(0, 9))
        if change == 0 and parent is not None:
            parent.remove(element)
        elif change == 1 and parent is not None:
            element.addnext(copy.deepcopy(element))
        elif change == 2 and (following := element.getnext()) is not None:
            following.addnext(element)
        elif change == 3:
            element.tag = f"{{{namespace}}}{draw(NAMES)}"
        elif change == 4:
            element.text = draw(VALUES)
        elif change == 5:
            element.tail = draw(VALUES)
        elif change == 6:
            element.set(
                draw(st.sampled_from(["a", "{urn:x}b", "{http://www.w3.org/XML/1998/namespace}lang"])), "ja"
            )
        elif change == 7:
            etree.SubElement(element, f"{{{namespace}}}{draw(NAMES)}").text = draw(VALUES)
        elif change == 8:
            etree.SubElement(element, draw(st.sampled_from(["{urn:x}b", f"{{{XMLDSIG}}}Signature", "b"])))
        elif parent is not None:
            parent.insert(0, element)
    return version, root


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(mutants())
def test_two_schema_processors_and_the_reader_agree_on_every_mutant(
    mutant: tuple[str, etree._Element],
) -> None:
    version, root = mutant
    valid = libxml2(version).validate(root)
    report = cap.examine(etree.tostring(root, encoding="UTF-8", xml_declaration=True))
    found = {problem.rule for problem in report.problems}
    # The one thing on which the two processors differ is how strictly they take xs:anyURI; the reader is as strict as the stricter.
    assert oracle(version).is_valid(root) == valid or found & {"CAP-WEB", "CAP-URI"}
    assert not (report.valid and not valid)
    # Whatever the schema refuses, the reader can name: its own message is never needed.
    assert "CAP-SCHEMA" not in found, report.problems


def test_the_oracle_refuses_something() -> None:
    root = etree.fromstring(DOCUMENTS["1.2"])
    assert oracle("1.2").is_valid(root)
    root.remove(root[0])
    assert not oracle("1.2").is_valid(root)
