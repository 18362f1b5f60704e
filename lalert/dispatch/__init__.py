"""Durable delivery to addressed targets: lanes, schedule, journal, and the guarded way out."""

from lalert.dispatch.audience import Bar, MaySee, Reached, Wants
from lalert.dispatch.dispatcher import ChannelStats, Dispatcher, DispatchSettings, StoredTargets
from lalert.dispatch.lanes import delivery_key
from lalert.dispatch.outbound import guarded_session
from lalert.dispatch.trial import Pace, Trial, trial_entry
from lalert.dispatch.turns import Turns

__all__ = [
    "Bar",
    "ChannelStats",
    "DispatchSettings",
    "Dispatcher",
    "MaySee",
    "Pace",
    "Reached",
    "StoredTargets",
    "Trial",
    "Turns",
    "Wants",
    "delivery_key",
    "guarded_session",
    "trial_entry",
]
