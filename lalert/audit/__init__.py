"""Who did what and when, written down: what the parts of the hub note, put into the store's audit chain; see docs/audit.md."""

from __future__ import annotations

from lalert.audit.auditor import Auditor as Auditor
from lalert.audit.heads import HEADS_FILE as HEADS_FILE
from lalert.audit.heads import DayHead as DayHead
from lalert.audit.heads import days_json as days_json
from lalert.audit.heads import heads_in as heads_in
from lalert.audit.heads import published as published
from lalert.audit.heads import read_heads as read_heads
from lalert.audit.lines import line_json as line_json
from lalert.audit.lines import line_of as line_of
from lalert.audit.lines import raw_json as raw_json
