"""What is asked of a parsed document whatever it is: the text, line and name of an element, and what a schema says of the whole."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Protocol, cast

from lxml import etree

from lalert.cap.rules import SPACE, printable
from lalert.resources import schema

_MAX_NAME = 60
_MAX_REASON = 200


def content_of(element: etree._Element) -> str:
    """Return the text of an element without the white space round it."""
    return (element.text or "").strip(SPACE)


def line_of(element: etree._Element) -> int:
    """Return the line that an element begins on, 0 where none is known."""
    return cast(int | None, element.sourceline) or 0


def name_of(element: etree._Element) -> str:
    """Return the local name of an element as it may stand in a message."""
    return printable(etree.QName(element).localname[:_MAX_NAME])


class _Validators(threading.local):
    """The compiled schemas of a thread: a validator keeps the errors of its last document, so no two threads may share one."""

    def __init__(self) -> None:
        self.compiled: dict[str, etree.XMLSchema] = {}


_validators = _Validators()

# With its first schema libxml2 makes tables that all threads share, and takes no care that only one does so: two at once leave a process in which no
# schema can be read any more. So the first is made here, where only one thread can be, and no two are ever made at once.
_COMPILING = threading.Lock()
etree.XMLSchema(etree.fromstring(b'<schema xmlns="http://www.w3.org/2001/XMLSchema"/>'))


def validator(file: str) -> etree.XMLSchema:
    """Return the calling thread's validator of a schema."""
    found = _validators.compiled.get(file)
    if found is None:
        with _COMPILING:
            found = _validators.compiled[file] = etree.XMLSchema(etree.fromstring(schema(file)))
    return found


class _SchemaError(Protocol):
    """An entry of libxml2's log, which the stubs of lxml leave out."""

    message: str
    line: int
    path: str | None


def complaint(file: str, root: etree._Element, namespace: str) -> tuple[str, etree._Element]:
    """Return what a validator has just found wrong first with a document, and where."""
    entry = cast(Sequence[_SchemaError], validator(file).error_log)[0]
    reason = " ".join(entry.message.replace(f"{{{namespace}}}", "").split())[:_MAX_REASON]
    path_of = root.getroottree().getpath
    on_the_line = (element for element in root.iter() if line_of(element) == entry.line)
    return reason, next((element for element in on_the_line if path_of(element) == entry.path), root)
