"""What becomes of an alert at its receivers: who has confirmed it, and how long each hop took."""

from __future__ import annotations

from lalert.receivers.confirming import Receivers as Receivers
from lalert.receivers.figures import HOPS as HOPS
from lalert.receivers.figures import receiver_json as receiver_json
