"""Durable delivery to addressed targets: lanes, schedule, journal, and the guarded way out."""

from lalert.dispatch.audience import Audience, Bar, MaySee, Wants
from lalert.dispatch.dispatcher import ChannelStats, Dispatcher, DispatchSettings
from lalert.dispatch.lanes import delivery_key
from lalert.dispatch.outbound import guarded_session

__all__ = [
    "Audience",
    "Bar",
    "ChannelStats",
    "DispatchSettings",
    "Dispatcher",
    "MaySee",
    "Wants",
    "delivery_key",
    "guarded_session",
]
