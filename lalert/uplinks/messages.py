"""The messages of three LPWA networks as they come: The Things Stack v3, ChirpStack v4, Sigfox callbacks."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from lalert.errors import BadRequest
from lalert.uplinks.plain import decode_json, instant

MAX_SIGFOX_BYTES: Final = 12
MAX_GATEWAYS: Final = 50
MAX_COUNTER: Final = 2**32 - 1
_DEVICE = re.compile(r"[A-Za-z0-9._-]{1,64}")
_EUI = re.compile(r"[0-9A-Fa-f]{16}")

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Uplink:
    """What a device has sent through its network.

    `device` is the devEui or the Sigfox id in lower case. `time` is when the network heard it; `counter` is the device's own and begins
    anew with each `session`. `battery` is in percent, `rssi` the best gateway's in dBm. `silent` is news of the device without a payload.
    """

    device: str
    time: datetime
    counter: int = 0
    session: str = ""
    port: int | None = None
    payload: bytes = b""
    fields: Object = field(default_factory=dict)
    battery: float | None = None
    rssi: float | None = None
    gateways: tuple[str, ...] = ()
    silent: bool = False


def read_uplink(network: str, raw: bytes, event: str = "up") -> Uplink | None:
    """Return what a network says of one of its devices, or None for what is about no measurement (a join, a downlink, a location).

    `event` is ChirpStack's word for what the message is. Raises `BadRequest` with a code; `simulated-uplink` is what somebody made up in
    The Things Stack's console, and no river has risen.
    """
    body = decode_json(raw)
    return _READERS[network](_object(body, "body"), event)


def _tts(body: Object, _event: str) -> Uplink | None:
    ids = _object(body.get("end_device_ids"), "end_device_ids")
    if body.get("simulated") is True:
        raise BadRequest("simulated: this uplink was made up in a console", code="simulated-uplink")
    if "uplink_message" not in body:
        return None
    where = "uplink_message"
    message = _object(body[where], where)
    heard = _text_of(message, f"{where}.received_at") or _text_of(body, "received_at")
    battery = _optional(message, f"{where}.last_battery_percentage")
    return Uplink(
        device=_eui(ids, "end_device_ids.dev_eui")
        if ids.get("dev_eui")
        else _device(ids.get("device_id"), "end_device_ids.dev_eui"),
        time=_time(heard, "received_at"),
        counter=_whole(message, f"{where}.f_cnt", MAX_COUNTER),
        session=_text_of(ids, "end_device_ids.dev_addr").lower(),
        port=_whole(message, f"{where}.f_port", 255),
        payload=_base64(message, f"{where}.frm_payload"),
        fields=_optional(message, f"{where}.decoded_payload"),
        battery=_percent(battery.get("value")),
        rssi=_best(message, f"{where}.rx_metadata"),
        gateways=_gateways(
            _mappings(row.get("gateway_ids") for row in _rows(message, "rx_metadata")), "gateway_id"
        ),
    )


def _chirpstack(body: Object, event: str) -> Uplink | None:
    if event not in ("up", "status"):
        return None
    device = _eui(_object(body.get("deviceInfo"), "deviceInfo"), "deviceInfo.devEui")
    time = _time(_text_of(body, "time"), "time")
    if event == "status":
        unknown = body.get("batteryLevelUnavailable") is True or body.get("externalPowerSource") is True
        battery = None if unknown else _percent(body.get("batteryLevel", 0.0))
        return Uplink(device, time, battery=battery, silent=True)
    return Uplink(
        device=device,
        time=time,
        counter=_whole(body, "fCnt", MAX_COUNTER),
        session=_text_of(body, "devAddr").lower(),
        port=_whole(body, "fPort", 255),
        payload=_base64(body, "data"),
        fields=_optional(body, "object"),
        rssi=_best(body, "rxInfo"),
        gateways=_gateways(_rows(body, "rxInfo"), "gatewayId"),
    )


def _sigfox(body: Object, _event: str) -> Uplink:
    data = _text_of(body, "data")
    try:
        payload = bytes.fromhex(data)
    except ValueError:
        raise _bad("data", "must be hexadecimal digits") from None
    if len(payload) > MAX_SIGFOX_BYTES:
        raise _bad("data", f"holds {len(payload)} bytes; a Sigfox message has at most {MAX_SIGFOX_BYTES}")
    try:
        time = datetime.fromtimestamp(_whole(body, "time", 2**33, needed=True), UTC)
    except (OverflowError, OSError, ValueError):
        raise _bad("time", "is outside the calendar") from None
    return Uplink(
        device=_device(body.get("device"), "device"),
        time=time,
        counter=_whole(body, "seqNumber", MAX_COUNTER, needed=True),
        payload=payload,
        rssi=_decibels(body.get("rssi")),
    )


_READERS: Final[Mapping[str, Callable[[Object, str], Uplink | None]]] = {
    "tts": _tts,
    "chirpstack": _chirpstack,
    "sigfox": _sigfox,
}
NETWORKS: Final = tuple(_READERS)


def _bad(where: str, what: str) -> BadRequest:
    return BadRequest(f"{where}: {what}", code="bad-uplink")


def _object(value: object, where: str) -> Object:
    if not isinstance(value, Mapping):
        raise _bad(where, "must be an object" if value is not None else "is missing")
    return value


def _optional(parent: Object, where: str) -> Object:
    """Return an object that networks leave out, or send as null, where it holds nothing."""
    value = parent.get(_name(where))
    return {} if value is None else _object(value, where)


def _text_of(parent: Object, where: str) -> str:
    value = parent.get(_name(where))
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _bad(where, "must be text")
    return value


def _whole(parent: Object, where: str, most: int, *, needed: bool = False) -> int:
    """Return a whole number, which may be written as text; what is left out is 0."""
    value = parent.get(_name(where))
    if value is None and not needed:
        return 0
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 20:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise _bad(where, f"must be a whole number, at most {most}" if value is not None else "is missing")
    return value


def _time(text: str, where: str) -> datetime:
    try:
        return instant(text)
    except BadRequest as error:
        raise _bad(where, error.detail) from error


def _device(value: object, where: str) -> str:
    if not isinstance(value, str) or not _DEVICE.fullmatch(value):
        raise _bad(where, "must name the device" if value is not None else "is missing")
    return value.lower()


def _eui(parent: Object, where: str) -> str:
    value = parent.get(_name(where))
    if not isinstance(value, str) or not _EUI.fullmatch(value):
        raise _bad(where, "must be 16 hexadecimal digits" if value is not None else "is missing")
    return value.lower()


def _base64(parent: Object, where: str) -> bytes:
    try:
        return base64.b64decode(_text_of(parent, where), validate=True)
    except (binascii.Error, ValueError):
        raise _bad(where, "must be base64") from None


def _percent(value: object) -> float | None:
    """Return a share of 100; what is none says nothing, for no reading is worth losing over it."""
    good = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 100
    return float(value) if good and isinstance(value, int | float) else None


def _best(parent: Object, where: str) -> float | None:
    rows = _rows(parent, _name(where))
    return max((heard for row in rows if (heard := _decibels(row.get("rssi"))) is not None), default=None)


def _rows(parent: Object, name: str) -> list[Object]:
    listed = parent.get(name)
    return _mappings(listed) if isinstance(listed, list) else []


def _mappings(items: Iterable[object]) -> list[Object]:
    return [item for item in items if isinstance(item, Mapping)]


def _gateways(rows: Iterable[Object], name: str) -> tuple[str, ...]:
    found = (row.get(name) for row in rows)
    return tuple(dict.fromkeys(one for one in found if isinstance(one, str) and _DEVICE.fullmatch(one)))[
        :MAX_GATEWAYS
    ]


def _decibels(value: object) -> float | None:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not -300 <= value <= 300:
        return None
    return float(value)


def _name(where: str) -> str:
    return where.rpartition(".")[2]
