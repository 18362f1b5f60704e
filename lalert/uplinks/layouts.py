"""What the bytes of a type of device mean, as its owner declares it: Cayenne LPP, a binary layout, or the names that the network's own decoder gives."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from lalert.errors import BadRequest

READINGS: Final = ("level_m", "rain_mm", "rain_total_mm")
QUANTITIES: Final = (*READINGS, "battery_v", "battery_percent", "time_s", "age_s")
"""Metres, millimetres, volts, percent; `time_s` is the device's clock in seconds since 1970, `age_s` how long ago it measured."""
MAX_RECORDS: Final = 64
MAX_BITS: Final = 64
LARGEST: Final = 1e12

CAYENNE: Final[Mapping[str, tuple[int, int, float, bool]]] = {
    "digital_input": (0, 1, 1, False),
    "digital_output": (1, 1, 1, False),
    "analog_input": (2, 2, 0.01, True),
    "analog_output": (3, 2, 0.01, True),
    "generic": (100, 4, 1, False),
    "luminosity": (101, 2, 1, False),
    "presence": (102, 1, 1, False),
    "temperature": (103, 2, 0.1, True),
    "humidity": (104, 1, 0.5, False),
    "accelerometer": (113, 6, 0.001, True),
    "barometer": (115, 2, 0.1, False),
    "voltage": (116, 2, 0.01, False),
    "current": (117, 2, 0.001, False),
    "frequency": (118, 4, 1, False),
    "percentage": (120, 1, 1, False),
    "altitude": (121, 2, 1, True),
    "concentration": (125, 2, 1, False),
    "power": (128, 2, 1, False),
    "distance": (130, 4, 0.001, False),
    "energy": (131, 4, 0.001, False),
    "direction": (132, 2, 1, False),
    "unixtime": (133, 4, 1, False),
    "gyrometer": (134, 6, 0.01, True),
    "colour": (135, 3, 1, False),
    "gps": (136, 9, 1, False),
    "switch": (142, 1, 1, False),
}
"""Type, bytes, worth of one step, signed: of the types that myDevices published, and those that the CayenneLPP library of Electronic Cats added."""
SEVERAL: Final = frozenset({"accelerometer", "gyrometer", "colour", "gps"})
"""Passed over: more than one number each."""
_BY_NUMBER: Final = {number: name for name, (number, *_) in CAYENNE.items()}


class Form(StrEnum):
    """How the values of a layout are found: by channel and type, by place in the bytes, or by name."""

    CAYENNE = "cayenne"
    BINARY = "binary"
    FIELDS = "fields"


@dataclass(frozen=True, slots=True)
class Value:
    """One quantity of a layout: what is found, times `scale`, plus `offset`. What is found as `missing` is none.

    A binary value has `bits` from `bit` on: counted from the highest bit of the first byte where `big`, else from the lowest.
    """

    quantity: str
    channel: int = 0
    type: str = ""
    bit: int = 0
    bits: int = 0
    signed: bool = False
    big: bool = True
    header: bool = False
    field: str = ""
    scale: float = 1.0
    offset: float = 0.0
    missing: float | None = None
    period_s: int | None = None


@dataclass(frozen=True, slots=True)
class Layout:
    """What a type of device sends on `port` (None: on any); its battery is low below `low_battery`, volts or percent as the layout has it.

    With `record_bytes` a binary payload is a header and then up to `MAX_RECORDS` records, each `every_s` seconds older than the one before it,
    or younger where `oldest_first`; the values that are not of the `header` are those of each record.
    """

    name: str
    form: Form
    values: tuple[Value, ...] = ()
    port: int | None = None
    header_bytes: int = 0
    record_bytes: int = 0
    every_s: int = 0
    oldest_first: bool = False
    low_battery: float | None = None


def layout_mistakes(layout: Layout) -> list[str]:
    """Return one sentence for each thing that a declaration says wrongly."""
    mistakes = [] if layout.values else ["values: name at least one"]
    mistakes += _record_mistakes(layout)
    if layout.low_battery is not None and not math.isfinite(layout.low_battery):
        mistakes.append("low_battery: must be a number")
    for number, value in enumerate(layout.values, 1):
        mistakes += [f"values[{number}].{mistake}" for mistake in _value_mistakes(layout, value)]
    said = [(value.quantity, value.header) for value in layout.values]
    mistakes += [
        f"values: {name} stands twice" for name, _ in sorted({one for one in said if said.count(one) > 1})
    ]
    return mistakes


def _record_mistakes(layout: Layout) -> Iterator[str]:
    repeated = bool(layout.record_bytes)
    if repeated and layout.form is not Form.BINARY:
        yield "record_bytes: only a binary layout has records"
    if not 0 <= layout.record_bytes <= 64 or not 0 <= layout.header_bytes <= 240:
        yield "record_bytes: at most 64, and header_bytes at most 240"
    if repeated != bool(layout.every_s) or not 0 <= layout.every_s <= 86_400:
        yield "every_s: 1 to 86400 seconds lie between two records; give it with record_bytes"
    if layout.port is not None and not 1 <= layout.port <= 255:
        yield f"port: {layout.port} must be 1 to 255"


def _value_mistakes(layout: Layout, value: Value) -> Iterator[str]:
    if value.quantity not in QUANTITIES:
        yield f"quantity: {value.quantity[:40]!r} is none; known: {', '.join(QUANTITIES)}"
    if (value.quantity == "rain_mm") != (value.period_s is not None) or not 1 <= (
        value.period_s or 1
    ) <= 86_400:
        yield "period_s: 1 to 86400 seconds go with rain_mm, and with nothing else"
    if not (math.isfinite(value.scale) and value.scale and math.isfinite(value.offset)):
        yield "scale: must be a number other than 0, and offset a number"
    if layout.form is Form.CAYENNE and (value.type not in CAYENNE or value.type in SEVERAL):
        yield f"type: {value.type[:40]!r} is none; known: {', '.join(sorted(CAYENNE.keys() - SEVERAL))}"
    if layout.form is Form.CAYENNE and not 0 <= value.channel <= 255:
        yield f"channel: {value.channel} must be 0 to 255"
    if layout.form is Form.FIELDS and not value.field:
        yield "field: name it"
    if layout.form is Form.BINARY:
        yield from _bit_mistakes(layout, value)


def _bit_mistakes(layout: Layout, value: Value) -> Iterator[str]:
    if value.header and not layout.record_bytes:
        yield "header: there is one only where there are records"
    room = 8 * (layout.header_bytes if value.header else layout.record_bytes or 240)
    if not 1 <= value.bits <= MAX_BITS or value.bit < 0 or value.bit + value.bits > room:
        yield f"bits: 1 to {MAX_BITS} bits that lie within the {room} there"


Found = dict[str, float]


def decode(layout: Layout, port: int | None, payload: bytes, fields: Mapping[str, Any]) -> list[Found]:
    """Return what was measured, by quantity: one record, or several with the newest first; none where the port is another's.

    Raises `BadRequest` with `bad-payload` for bytes that cannot be what was declared, and `no-declared-value` where nothing of it is there.
    """
    if layout.port is not None and port is not None and port != layout.port:
        return []
    if layout.form is Form.BINARY:
        return list(_binary(layout, payload))
    raws = _cayenne(payload) if layout.form is Form.CAYENNE else _named(layout, fields)
    found: Found = {}
    seen = False
    for value in layout.values:
        key = (value.channel, value.type) if layout.form is Form.CAYENNE else value.field
        if key in raws:
            seen = True
            _put(found, value, raws[key])
    if not seen:
        there = ", ".join(_written(key) for key in list(raws)[:10]) or "nothing"
        raise BadRequest(
            f"layout {layout.name}: none of its values; there is {there}", code="no-declared-value"
        )
    return [found]


def _written(key: object) -> str:
    return f"channel {key[0]} {key[1]}" if isinstance(key, tuple) else str(key)[:40]


def _put(found: Found, value: Value, raw: float) -> None:
    if value.missing is not None and raw == value.missing:
        return
    worth = raw * value.scale + value.offset
    if not abs(worth) < LARGEST:
        raise _bad(f"{value.quantity}: is beyond what can be measured")
    found[value.quantity] = round(worth, 6)


def _bad(what: str) -> BadRequest:
    return BadRequest(f"payload: {what}", code="bad-payload")


def _cayenne(payload: bytes) -> dict[object, float]:
    found: dict[object, float] = {}
    at = 0
    while at < len(payload):
        if at + 2 > len(payload):
            raise _bad(f"byte {at}: a channel without a type")
        name = _BY_NUMBER.get(payload[at + 1])
        if name is None:
            raise _bad(f"byte {at + 1}: {payload[at + 1]} is no Cayenne LPP type")
        _, size, step, signed = CAYENNE[name]
        raw = payload[at + 2 : at + 2 + size]
        if len(raw) < size:
            raise _bad(f"byte {at + 2}: {name} needs {size} bytes, there are {len(raw)}")
        if name not in SEVERAL:
            found[payload[at], name] = round(int.from_bytes(raw, signed=signed) * step, 6)
        at += 2 + size
    return found


def _binary(layout: Layout, payload: bytes) -> Iterator[Found]:
    if not layout.record_bytes:
        yield _bits(layout.values, payload)
        return
    header, rest = payload[: layout.header_bytes], payload[layout.header_bytes :]
    number, left = divmod(len(rest), layout.record_bytes)
    if left or not 1 <= number <= MAX_RECORDS:
        raise _bad(
            f"{len(payload)} bytes are no header of {layout.header_bytes} and 1 to {MAX_RECORDS} records of {layout.record_bytes}"
        )
    common = _bits(tuple(value for value in layout.values if value.header), header)
    own = tuple(value for value in layout.values if not value.header)
    order = reversed(range(number)) if layout.oldest_first else range(number)
    for age, at in enumerate(order):
        record = _bits(own, rest[at * layout.record_bytes : (at + 1) * layout.record_bytes])
        since = common.get("age_s", 0.0) + record.get("age_s", age * layout.every_s)
        yield common | record | {"age_s": since}


def _bits(values: tuple[Value, ...], raw: bytes) -> Found:
    found: Found = {}
    for value in values:
        end = value.bit + value.bits
        if end > 8 * len(raw):
            raise _bad(f"{value.quantity}: ends at bit {end}, there are {8 * len(raw)}")
        whole = int.from_bytes(raw, "big" if value.big else "little")
        number = whole >> (8 * len(raw) - end if value.big else value.bit) & ((1 << value.bits) - 1)
        if value.signed and number >> (value.bits - 1):
            number -= 1 << value.bits
        _put(found, value, number)
    return found


def _named(layout: Layout, fields: Mapping[str, Any]) -> dict[object, float]:
    found: dict[object, float] = {}
    for value in layout.values:
        at: Any = fields
        for name in value.field.split("."):
            at = at.get(name) if isinstance(at, Mapping) else None
        if at is None:
            continue
        if isinstance(at, bool) or not isinstance(at, int | float) or not abs(at) < LARGEST:
            raise _bad(f"{value.field}: must be a number")
        found[value.field] = float(at)
    return found or dict.fromkeys(list(fields)[:10], 0.0)
