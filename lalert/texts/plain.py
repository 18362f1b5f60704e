"""Makes a stranger's text safe to hand on as text, without changing what it says."""

from __future__ import annotations

import re
from typing import Final

# What XML 1.0 (2.2) or UTF-8 cannot carry, and the control codes by which a text could steer a terminal; tab and line ends stay.
_CONTROLS: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
# Overrides and isolates could show the words of a warning in another order ("Trojan Source"); the plain marks LRM, RLM and ALM cannot.
_REORDERING: Final = re.compile("[\u202a-\u202e\u2066-\u2069]")


def clean(text: str) -> str:
    """Return a text without control codes and what cannot be encoded."""
    return _CONTROLS.sub("", text)


def readable(text: str) -> str:
    """Return a text for people: clean, in its written order, without space around."""
    return _REORDERING.sub("", clean(text)).strip()
