"""The schemas and the reader's own grammar say the same; test_cap_judges.py holds their verdicts against each other."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from lxml import etree

from lalert import resources
from lalert.cap.grammar import NAMESPACES, grammar

DATA = Path(__file__).parents[1] / "data" / "cap"
XS = "{http://www.w3.org/2001/XMLSchema}"
DOCUMENTS = {
    version: (DATA / "good" / name).read_bytes()
    for version, name in (("1.2", "everything.xml"), ("1.1", "1.1.xml"), ("1.0", "1.0.xml"))
}


@cache
def libxml2(version: str) -> etree.XMLSchema:
    return etree.XMLSchema(etree.fromstring(resources.schema(f"cap-{version}.xsd")))


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


_THREADS_BEGIN_TOGETHER = """
import threading, time
from lxml import etree

made, at_once, lock, real = [], [], threading.Lock(), etree.XMLSchema

def slowly(tree):
    with lock:
        made.append(threading.current_thread().name)
        at_once.append(len(made) - len(done))
    time.sleep(0.02)
    try:
        return real(tree)
    finally:
        with lock:
            done.append(1)

done = []
etree.XMLSchema = slowly
from lalert.cap.trees import validator

print(len(made), made[0])
threads = [threading.Thread(target=validator, args=("cap-1.2.xsd",)) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(len(made), max(at_once))
"""


def test_the_first_schema_is_made_by_one_thread_and_never_two_at_once() -> None:
    # Two at once, at first, leave a process in which libxml2 can read no schema any more: seen in one of eight processes whose threads began together.
    done = subprocess.run(
        [sys.executable, "-c", _THREADS_BEGIN_TOGETHER], capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n")[:2] == ["1 MainThread", "9 1"]
