"""Which device stands at which station, and what an uplink of it says there."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from lalert.errors import BadRequest
from lalert.model import Reading
from lalert.uplinks.layouts import READINGS, Found, Layout, decode
from lalert.uplinks.messages import Uplink
from lalert.uplinks.plain import LARGEST

LOW_PERCENT: Final = 20.0
"""Below this a battery is low, where its layout says no other."""


@dataclass(frozen=True, slots=True)
class Device:
    """A device of an organisation; `offset_m` is added to its levels: how high it hangs is its own, not its type's."""

    id: str
    org: str
    station: str
    layout: Layout
    offset_m: float = 0.0


class Devices(Protocol):
    """Where devices are looked up."""

    def device(self, id: str, time: datetime, org: str) -> Device | None:
        """Return an organisation's device with this devEui or Sigfox id, in any case of letters, as it was at a time: what is late belongs where it then stood."""
        ...


@dataclass(frozen=True, slots=True)
class Battery:
    """How a device's battery is, in `%` or `V`."""

    worth: float
    unit: str
    low: bool

    def __str__(self) -> str:
        return f"{self.worth:g}%" if self.unit == "%" else f"{self.worth:g} V"


class DeviceStatus(Protocol):
    """Who wants to know how devices are."""

    def note(self, device: Device, battery: Battery | None, uplink: Uplink) -> bool:
        """Hear of a device; returns whether its battery has just become low."""
        ...


class DeviceTable:
    """Devices that are known from the start."""

    def __init__(self, devices: Iterable[Device] = ()) -> None:
        self._devices = {device.id.lower(): device for device in devices}

    def device(self, id: str, time: datetime, org: str) -> Device | None:  # noqa: ARG002  # these have always stood there
        found = self._devices.get(id.lower())
        return found if found is not None and found.org == org else None


@dataclass(frozen=True, slots=True)
class Signs:
    """What an uplink says: readings, and how the device's battery is."""

    readings: tuple[Reading, ...]
    battery: Battery | None


def signs_of(uplink: Uplink, device: Device) -> Signs:
    """Return what an uplink says of its device's station; raises `BadRequest` as `decode` does, and with `bad-time`, `bad-value`.

    The same uplink gives the same readings, whenever and however often it comes.
    """
    battery = _percent(device, uplink.battery) if uplink.battery is not None else None
    if uplink.silent:
        return Signs((), battery)
    records = decode(device.layout, uplink.port, uplink.payload, uplink.fields)
    readings = tuple(
        reading for age, found in enumerate(records) for reading in _readings(uplink, device, age, found)
    )
    return Signs(readings, _battery(device, records[0]) or battery if records else battery)


def _battery(device: Device, found: Found) -> Battery | None:
    if "battery_percent" in found:
        return _percent(device, found["battery_percent"])
    volts, low = found.get("battery_v"), device.layout.low_battery
    return Battery(volts, "V", low is not None and volts < low) if volts is not None else None


def _percent(device: Device, worth: float) -> Battery:
    volts = any(value.quantity == "battery_v" for value in device.layout.values)
    low = device.layout.low_battery
    return Battery(worth, "%", worth < (LOW_PERCENT if low is None or volts else low))


def _readings(uplink: Uplink, device: Device, age: int, found: Found) -> Iterable[Reading]:
    time, seq = _time(uplink, found), _seq(uplink, age)
    periods = {value.quantity: value.period_s for value in device.layout.values}
    for quantity in READINGS:
        if quantity in found:
            worth = found[quantity] + (device.offset_m if quantity == "level_m" else 0.0)
            if not abs(worth) < LARGEST:
                raise BadRequest(f"payload: {quantity} must be a number below {LARGEST:g}", code="bad-value")
            yield Reading(
                station=device.station,
                time=time,
                seq=seq,
                by=None,
                period_s=periods[quantity],
                **{quantity: round(worth, 6)},
            )


def _time(uplink: Uplink, found: Found) -> datetime:
    try:
        since = timedelta(seconds=found.get("age_s", 0.0))
        if "time_s" in found:
            return datetime.fromtimestamp(found["time_s"], UTC) - since
        return uplink.time - since
    except (OverflowError, OSError, ValueError) as error:
        raise BadRequest("payload: its time is outside the calendar", code="bad-time") from error


def _seq(uplink: Uplink, age: int) -> int:
    """Return a number of 53 bits that only the same record of the same uplink has.

    The counter alone begins anew when a device joins again, and two devices of one station count each for themselves.
    """
    life = zlib.crc32(f"{uplink.device} {uplink.session}".encode()) & 0x7FFF
    return life << 38 | uplink.counter << 6 | age
