"""From a gauge's reading to a warning: quality, then rules, then a CAP alert through the same door as everybody else.

A sensor warns of what it measures; an evacuation is ordered by a mayor, never by a gauge.
"""

from lalert.sensors.engine import Engine
from lalert.sensors.proposals import Proposals
from lalert.sensors.roster import Roster
from lalert.sensors.station import STAGES, Stage, Station

__all__ = ["STAGES", "Engine", "Proposals", "Roster", "Stage", "Station"]
