"""Stations that an organisation sets up while the hub runs: who may set up what, and lists of them."""

from lalert.stations.desk import Desk, KnownDevices, merged
from lalert.stations.table import Row, read_table

__all__ = ["Desk", "KnownDevices", "Row", "merged", "read_table"]
