"""Where in a document the element of a path stands: asked only when there is something to report."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from lxml import etree

from lalert.cap.opening import open_document
from lalert.cap.trees import line_of

_STEP: Final = re.compile(r"([A-Za-z]+)(?:\[([0-9]+)\])?")


def places(raw: bytes, paths: Iterable[str]) -> Mapping[str, tuple[str, int]]:
    """Return for each path (`/alert/info[1]/area[2]`) the path and the line of its element, or of the nearest one around it that is there.

    `raw` is a document that has been read before; without one (b"") nothing is known of any path. Raises NotXml for what cannot be read.
    """
    if not raw:
        return {}
    root, _ = open_document(raw)
    walker = _Walker()
    return {path: walker.place(root, path) for path in paths}


class _Walker:
    """Goes down paths, and remembers the children of every element that it has passed: paths of one document share their beginnings."""

    def __init__(self) -> None:
        self._children: dict[etree._Element, dict[str, list[etree._Element]]] = {}

    def place(self, root: etree._Element, path: str) -> tuple[str, int]:
        element, reached = root, "/" + etree.QName(root).localname
        for step in path.split("/")[2:]:
            found = self._child(element, step)
            if found is None:
                break
            element, reached = found, f"{reached}/{step}"
        return reached, line_of(element)

    def _child(self, parent: etree._Element, step: str) -> etree._Element | None:
        match = _STEP.fullmatch(step)
        if match is None:
            return None
        alike = self._of(parent).get(match[1], [])
        number = int(match[2] or 1)
        return alike[number - 1] if 0 < number <= len(alike) else None

    def _of(self, parent: etree._Element) -> dict[str, list[etree._Element]]:
        known = self._children.get(parent)
        if known is None:
            known = self._children[parent] = {}
            for child in parent.iterchildren("*"):
                known.setdefault(etree.QName(child).localname, []).append(child)
        return known
