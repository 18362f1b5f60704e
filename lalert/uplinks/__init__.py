"""What sensors and their networks send -> readings: plain JSON and CSV, and the uplinks of LPWA networks. Pure: bytes and tables in, values out.

Everything that does not read is a `BadRequest` whose code docs/errors.md explains and whose detail names the place.
"""

from lalert.uplinks.devices import Battery, Device, Devices, DeviceStatus, DeviceTable, Signs, signs_of
from lalert.uplinks.heard import Gateway, Heard, LastHeard
from lalert.uplinks.layouts import QUANTITIES, Form, Layout, Value, layout_mistakes
from lalert.uplinks.messages import NETWORKS, Uplink, read_uplink
from lalert.uplinks.plain import MAX_READINGS, Item, read_csv, read_json

REJECTED = frozenset(
    {
        "unknown-device",
        "station-not-yours",
        "simulated-uplink",
        "bad-payload",
        "no-declared-value",
        "bad-value",
        "bad-time",
    }
)
"""Codes of uplinks that read as such, but say nothing that can be kept."""

__all__ = [
    "MAX_READINGS",
    "NETWORKS",
    "QUANTITIES",
    "REJECTED",
    "Battery",
    "Device",
    "DeviceStatus",
    "DeviceTable",
    "Devices",
    "Form",
    "Gateway",
    "Heard",
    "Item",
    "LastHeard",
    "Layout",
    "Signs",
    "Uplink",
    "Value",
    "layout_mistakes",
    "read_csv",
    "read_json",
    "read_uplink",
    "signs_of",
]
