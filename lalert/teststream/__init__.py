"""The permanent test stream: a marked Test alert every few seconds, for whoever builds a receiver. None of it is ever in the hub's log."""

from __future__ import annotations

from lalert.teststream.log import TestLog as TestLog
from lalert.teststream.log import play as play
from lalert.teststream.script import EVERY_SECONDS as EVERY_SECONDS
