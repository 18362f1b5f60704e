"""LINE: one push per alert and person or group, and who adds or blocks the account (docs/adapters/line.md)."""

from __future__ import annotations

from lalert_adapters.line.channel import Line as Line
from lalert_adapters.line.config import LineConfig as LineConfig
