"""The life of an alert: what a message that refers to others means for what the hub knows. Pure values, no store and no clock."""

from __future__ import annotations

from lalert.lifecycle.changes import changes as changes
from lalert.lifecycle.changes import dropped as dropped
from lalert.lifecycle.corrections import CORRECTION_CODES as CORRECTION_CODES
from lalert.lifecycle.corrections import is_correction as is_correction
from lalert.lifecycle.references import Handling as Handling
from lalert.lifecycle.references import Known as Known
from lalert.lifecycle.references import Message as Message
from lalert.lifecycle.references import ReferencePolicy as ReferencePolicy
from lalert.lifecycle.references import corrects as corrects
from lalert.lifecycle.references import judge as judge
from lalert.lifecycle.references import replaces as replaces
