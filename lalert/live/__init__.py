"""Live delivery: everybody who listens now hears of an alert as fast as the sockets take it, in order, without a gap."""

from lalert.live.core import Live
from lalert.live.frames import Close
from lalert.live.settings import LiveSettings
from lalert.live.websocket import Ack

__all__ = ["Ack", "Close", "Live", "LiveSettings"]
