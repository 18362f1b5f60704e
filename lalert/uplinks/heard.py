"""The last that was heard of each device and gateway: battery, signal, time. In memory, of what came through this node since it started."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from lalert.uplinks.devices import Battery, Device, DeviceStatus
from lalert.uplinks.messages import Uplink

MAX_HEARD: Final = 200_000


@dataclass(frozen=True, slots=True)
class Heard:
    """The last of a device; `battery` is the last that it told of, which need not be of the same uplink."""

    device: str
    org: str
    station: str
    time: datetime
    battery: Battery | None
    rssi: float | None


@dataclass(frozen=True, slots=True)
class Gateway:
    """When a gateway last brought an organisation something, and of which device."""

    id: str
    org: str
    time: datetime
    device: str


class LastHeard:
    """Keeps the last of each; what comes late does not go before what is newer."""

    def __init__(self) -> None:
        self._devices: dict[str, Heard] = {}
        self._gateways: dict[tuple[str, str], Gateway] = {}

    def note(self, device: Device, battery: Battery | None, uplink: Uplink) -> bool:
        """Hear of a device; returns whether its battery has just become low."""
        for name in uplink.gateways:
            self._bring(Gateway(name, device.org, uplink.time, device.id))
        last = self._devices.get(device.id)
        if last is None and len(self._devices) >= MAX_HEARD:
            return False
        if last is not None and uplink.time < last.time:
            return False
        before = last.battery if last is not None else None
        now = battery or before
        self._devices[device.id] = Heard(device.id, device.org, device.station, uplink.time, now, uplink.rssi)
        return now is not None and now.low and not (before is not None and before.low)

    def _bring(self, gateway: Gateway) -> None:
        key = (gateway.org, gateway.id)
        last = self._gateways.get(key)
        if (last is None and len(self._gateways) < MAX_HEARD) or (
            last is not None and last.time <= gateway.time
        ):
            self._gateways[key] = gateway

    def devices(self, org: str) -> list[Heard]:
        """Return the devices of an organisation, by id."""
        return sorted((one for one in self._devices.values() if one.org == org), key=lambda one: one.device)

    def gateways(self, org: str) -> list[Gateway]:
        """Return the gateways that brought an organisation something, by id."""
        return sorted((one for one in self._gateways.values() if one.org == org), key=lambda one: one.id)

    def low(self) -> int:
        """Return how many devices have a battery that is low."""
        return sum(one.battery is not None and one.battery.low for one in self._devices.values())


if TYPE_CHECKING:
    _: type[DeviceStatus] = LastHeard
