"""What networks and devices send reads as declared, and nothing that they send raises anything but the one error."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lalert import config
from lalert.errors import BadRequest, ConfigError
from lalert.model import Reading
from lalert.uplinks import (
    NETWORKS,
    Battery,
    Device,
    Form,
    LastHeard,
    Layout,
    Uplink,
    Value,
    layout_mistakes,
    read_csv,
    read_json,
    read_uplink,
    signs_of,
)
from lalert.uplinks.layouts import CAYENNE, decode

NOON = datetime(2026, 6, 3, 3, 0, tzinfo=UTC)
EUI = "0004A30B001C0530"
ULTRASONIC = Layout(
    "ultrasonic",
    Form.CAYENNE,
    (
        Value("level_m", channel=1, type="distance", scale=-1.0),
        Value("battery_v", channel=2, type="analog_input"),
    ),
)
RAW = bytes([1, 130]) + (2_860).to_bytes(4, "big") + bytes([2, 2]) + (355).to_bytes(2, "big")


def device(layout: Layout = ULTRASONIC, **more: Any) -> Device:
    return Device(EUI.lower(), "hitoyoshi", "hitoyoshi", layout, **more)


def tts(**message: Any) -> dict[str, Any]:
    return {
        "end_device_ids": {"device_id": "dev1", "dev_eui": EUI, "dev_addr": "00BCB929"},
        "received_at": "2026-06-03T03:00:02.5Z",
        "uplink_message": {
            "f_port": 2,
            "f_cnt": 7,
            "frm_payload": base64.b64encode(RAW).decode(),
            "rx_metadata": [
                {"rssi": -110},
                {"rssi": -97.5},
                {"gateway_ids": {"gateway_id": "gtw1"}},
                {"gateway_ids": 1},
            ],
            "received_at": "2026-06-03T03:00:00.123456789Z",
        }
        | message,
    }


def chirpstack(**more: Any) -> dict[str, Any]:
    return {
        "deduplicationId": "3ac7e3c4-4401-4b8d-9386-a5c902f9202d",
        "time": "2026-06-03T12:00:00.123456789+09:00",
        "deviceInfo": {"devEui": EUI.lower(), "deviceName": "x"},
        "devAddr": "00bcb929",
        "fCnt": 7,
        "fPort": 2,
        "data": base64.b64encode(RAW).decode(),
        "object": None,
        "rxInfo": [{"gatewayId": "0016c001f153a14c", "rssi": -57}],
    } | more


def sigfox(**more: Any) -> dict[str, Any]:
    return {"device": "1A2B3C", "data": RAW.hex(), "time": "1780455600", "seqNumber": "7"} | more


def read(network: str, body: object, event: str = "up") -> Uplink | None:
    return read_uplink(network, json.dumps(body).encode(), event)


def uplink(payload: bytes = RAW, **more: Any) -> Uplink:
    return Uplink(EUI.lower(), NOON, 7, "00bcb929", 2, payload, **more)


def code_of(network: str, body: object) -> str:
    with pytest.raises(BadRequest) as caught:
        read(network, body)
    return f"{caught.value.error_code} {caught.value.detail.split(':')[0]}"


@pytest.mark.parametrize(("network", "body"), [("tts", tts()), ("chirpstack", chirpstack())])
def test_the_same_uplink_by_two_networks_is_the_same(network: str, body: object) -> None:
    found = read(network, body)
    assert found is not None
    assert found.time == NOON + timedelta(microseconds=123456)
    assert (found.device, found.counter, found.session, found.port, found.payload) == (
        EUI.lower(),
        7,
        "00bcb929",
        2,
        RAW,
    )
    assert found.rssi == (-97.5 if network == "tts" else -57)
    assert found.gateways == (("gtw1",) if network == "tts" else ("0016c001f153a14c",))


def test_sigfox_sends_numbers_as_text() -> None:
    found = read("sigfox", sigfox())
    assert found == Uplink("1a2b3c", NOON, 7, payload=RAW)
    assert read("sigfox", sigfox(time=1780455600, seqNumber=7)) == found


def test_what_a_network_leaves_out_is_nothing_or_zero() -> None:
    body = tts()
    body["uplink_message"] = {}
    found = read("tts", body)
    assert found is not None
    assert (found.counter, found.port, found.payload, found.fields, found.rssi) == (0, 0, b"", {}, None)
    assert found.time == NOON + timedelta(seconds=2.5)
    bare = read("chirpstack", {"time": "2026-06-03T03:00:00Z", "deviceInfo": {"devEui": EUI}})
    assert bare == Uplink(EUI.lower(), NOON, port=0)


def test_what_is_no_measurement_is_passed_over() -> None:
    joined = {k: v for k, v in tts().items() if k != "uplink_message"} | {"join_accept": {}}
    assert read("tts", joined) is None
    assert read("chirpstack", chirpstack(), "join") is None


def test_chirpstack_tells_of_the_battery_in_a_message_of_its_own() -> None:
    body = {"time": "2026-06-03T03:00:00Z", "deviceInfo": {"devEui": EUI}, "batteryLevel": 71.5, "margin": 3}
    found = read("chirpstack", body, "status")
    assert found is not None
    assert signs_of(found, device()).readings == ()
    assert str(signs_of(found, device()).battery) == "71.5%"
    unknown = read("chirpstack", body | {"batteryLevelUnavailable": True}, "status")
    assert unknown is not None
    assert unknown.battery is None


def test_what_was_made_up_in_a_console_warns_nobody() -> None:
    assert code_of("tts", tts() | {"simulated": True}).startswith("simulated-uplink")


@pytest.mark.parametrize(
    ("network", "body", "place"),
    [
        ("tts", [], "body"),
        ("tts", {}, "end_device_ids"),
        ("tts", {"end_device_ids": {"dev_eui": "12"}, "uplink_message": {}}, "end_device_ids.dev_eui"),
        ("tts", {"end_device_ids": {}, "uplink_message": {}}, "end_device_ids.dev_eui"),
        ("tts", tts(f_cnt=-1), "uplink_message.f_cnt"),
        ("tts", tts(f_cnt=True), "uplink_message.f_cnt"),
        ("tts", tts(frm_payload="!"), "uplink_message.frm_payload"),
        ("tts", tts(frm_payload="é"), "uplink_message.frm_payload"),
        ("tts", tts(decoded_payload=[]), "uplink_message.decoded_payload"),
        ("tts", tts(received_at="yesterday"), "received_at"),
        ("tts", tts(received_at="2026-06-03T03:00:00"), "received_at"),
        ("chirpstack", chirpstack(time=None), "time"),
        ("chirpstack", chirpstack(fPort=256), "fPort"),
        ("sigfox", sigfox(data="0g"), "data"),
        ("sigfox", sigfox(data="00" * 13), "data"),
        ("sigfox", sigfox(seqNumber=None), "seqNumber"),
        ("sigfox", sigfox(time="99999999999999999999"), "time"),
        ("sigfox", sigfox(device="a/b"), "device"),
    ],
)
def test_what_does_not_read_is_named(network: str, body: object, place: str) -> None:
    assert code_of(network, body) == f"bad-uplink {place}"


def test_a_distance_becomes_a_level_by_the_height_of_the_device() -> None:
    said = signs_of(uplink(rssi=-90), device(offset_m=6.2))
    (reading,) = said.readings
    assert (reading.station, reading.time, reading.level_m) == ("hitoyoshi", NOON, 3.34)
    assert str(said.battery) == "3.55 V"


def test_a_number_is_of_the_device_its_session_and_its_counter() -> None:
    def seq(one: Uplink) -> int | None:
        return signs_of(one, device()).readings[0].seq

    first = seq(uplink())
    assert first is not None
    assert first == seq(uplink())
    assert first < 2**53
    others = [replace(uplink(), counter=8), replace(uplink(), session="1"), replace(uplink(), device="a")]
    assert len({first, *map(seq, others)}) == 4


def test_another_port_carries_something_else() -> None:
    assert signs_of(uplink(b"\xff"), device(replace(ULTRASONIC, port=3))).readings == ()
    assert signs_of(uplink(), device(replace(ULTRASONIC, port=2))).readings


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        (b"\x01", "byte 0"),
        (b"\x01\x82\x00", "byte 2: distance needs 4 bytes, there are 1"),
        (b"\x01\x63\x00", "byte 1: 99 is no Cayenne LPP type"),
        (b"\x03\x67\x01\x10", "there is channel 3 temperature"),
        (b"", "there is nothing"),
    ],
)
def test_a_payload_that_is_not_what_was_declared_says_so(payload: bytes, said: str) -> None:
    with pytest.raises(BadRequest, match=said) as caught:
        signs_of(uplink(payload), device())
    assert caught.value.error_code in ("bad-payload", "no-declared-value")


def test_the_names_of_the_networks_own_decoder_are_taken() -> None:
    layout = Layout(
        "own",
        Form.FIELDS,
        (Value("level_m", field="water.level_cm", scale=0.01), Value("rain_total_mm", field="rain")),
    )
    (level, rain) = signs_of(
        uplink(fields={"water": {"level_cm": 123}, "rain": 4.5}), device(layout)
    ).readings
    assert (level.level_m, rain.rain_total_mm) == (1.23, 4.5)
    for fields, code in (({"water": {"level_cm": "123"}}, "bad-payload"), ({"x": 1}, "no-declared-value")):
        with pytest.raises(BadRequest) as caught:
            signs_of(uplink(fields=fields), device(layout))
        assert caught.value.error_code == code


BATCH = Layout(
    "batch",
    Form.BINARY,
    (
        Value("battery_percent", bits=8, header=True),
        Value("level_m", bits=16, signed=True, scale=0.001, missing=-32768),
    ),
    header_bytes=1,
    record_bytes=2,
    every_s=600,
)


def test_a_batch_is_as_many_readings_with_times_and_numbers_of_their_own() -> None:
    payload = bytes([71]) + b"".join(n.to_bytes(2, "big", signed=True) for n in (1500, -20, -32768, 1300))
    said = signs_of(uplink(payload), device(BATCH))
    assert [(one.time, one.level_m) for one in said.readings] == [
        (NOON, 1.5),
        (NOON - timedelta(minutes=10), -0.02),
        (NOON - timedelta(minutes=30), 1.3),
    ]
    assert len({one.seq for one in said.readings}) == 3
    assert str(said.battery) == "71%"
    turned = signs_of(uplink(payload), device(replace(BATCH, oldest_first=True))).readings
    assert (turned[0].time, turned[0].level_m) == (NOON, 1.3)


def test_the_time_of_the_device_goes_before_that_of_the_network() -> None:
    clock = Value("time_s", bit=16, bits=32)
    layout = Layout("clock", Form.BINARY, (Value("level_m", bits=16, scale=0.01), clock))
    payload = (150).to_bytes(2, "big") + int(NOON.timestamp() - 90).to_bytes(4, "big")
    assert signs_of(uplink(payload), device(layout)).readings[0].time == NOON - timedelta(seconds=90)
    far = replace(layout, values=(layout.values[0], replace(clock, scale=1e6)))
    with pytest.raises(BadRequest) as caught:
        signs_of(uplink(payload), device(far))
    assert caught.value.error_code in ("bad-time", "bad-payload")


@st.composite
def binary_layouts(draw: st.DrawFn) -> tuple[Layout, list[int], bytes]:
    """A layout of quantities side by side, what is measured, and the bytes that say so: made without the code that reads them."""
    big = draw(st.booleans())
    names = draw(
        st.lists(st.sampled_from(["level_m", "rain_total_mm", "battery_v"]), min_size=1, unique=True)
    )
    at, values, raws, whole = draw(st.integers(0, 7)), [], [], 0
    for name in names:
        bits, signed = draw(st.integers(2, 32)), draw(st.booleans())
        low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
        raw = draw(st.integers(low, high))
        values.append(Value(name, bit=at, bits=bits, signed=signed, big=big, scale=0.001))
        raws.append((raw, at, bits))
        at += bits
    size = (at + 7) // 8
    for raw, begin, bits in raws:
        whole |= (raw & ((1 << bits) - 1)) << (8 * size - begin - bits if big else begin)
    layout = Layout("made", Form.BINARY, tuple(values))
    return layout, [raw for raw, *_ in raws], whole.to_bytes(size, "big" if big else "little")


@given(binary_layouts())
@settings(max_examples=60, deadline=None)
def test_what_is_written_by_a_layout_is_read_by_it(made: tuple[Layout, list[int], bytes]) -> None:
    layout, raws, payload = made
    assert layout_mistakes(layout) == []
    (found,) = decode(layout, None, payload, {})
    assert [found[value.quantity] for value in layout.values] == [
        pytest.approx(raw * 0.001, abs=1e-5) for raw in raws
    ]


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_what_is_written_as_cayenne_is_read_as_such(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(["distance", "analog_input", "generic", "percentage", "altitude"]))
    number, size, step, signed = CAYENNE[name]
    raw = data.draw(st.integers(-(1 << 8 * size - 1) if signed else 0, (1 << 8 * size - 1) - 1))
    channel = data.draw(st.integers(0, 255))
    other = bytes([channel ^ 1, 134, *range(6)])
    layout = Layout("made", Form.CAYENNE, (Value("rain_total_mm", channel=channel, type=name),))
    payload = other + bytes([channel, number]) + raw.to_bytes(size, "big", signed=signed)
    (found,) = decode(layout, None, payload, {})
    assert found == {"rain_total_mm": pytest.approx(raw * step)}


ODD: st.SearchStrategy[Any] = st.sampled_from(
    [
        None,
        True,
        -1,
        0,
        1,
        255,
        2**70,
        1e300,
        float("inf"),
        "",
        "7",
        "é",
        "\ud800",
        "2026-06-03T03:00:00Z",
        [],
        [1],
        {},
    ]
) | st.dictionaries(st.sampled_from(["rssi", "value", "dev_eui", "devEui"]), st.none() | st.text(max_size=5))


def _odd_message(network: str, data: st.DataObject) -> bytes:
    whole = {"tts": tts(), "chirpstack": chirpstack(), "sigfox": sigfox()}[network]
    inner = whole["uplink_message"] if network == "tts" and data.draw(st.booleans()) else whole
    inner[data.draw(st.sampled_from(sorted(inner)))] = data.draw(ODD)
    return json.dumps(whole).encode()


def _only_its_error(network: str, event: str, data: st.DataObject) -> None:
    with suppress(BadRequest):
        found = read_uplink(network, _odd_message(network, data), event)
        if found is not None:
            signs_of(found, device())


EVENTS = st.sampled_from(["up", "status", "x"])


@given(st.sampled_from(NETWORKS), EVENTS, st.data())
@settings(max_examples=60, deadline=None)
def test_no_message_raises_anything_but_the_one_error(network: str, event: str, data: st.DataObject) -> None:
    _only_its_error(network, event, data)


@pytest.mark.slow
@given(st.sampled_from(NETWORKS), EVENTS, st.data())
@settings(max_examples=5_000, deadline=None)
def test_no_message_of_thousands_raises_anything_else(network: str, event: str, data: st.DataObject) -> None:
    _only_its_error(network, event, data)


@given(st.sampled_from(NETWORKS), st.binary(max_size=60))
@settings(max_examples=60, deadline=None)
def test_no_bytes_raise_anything_but_the_one_error(network: str, raw: bytes) -> None:
    for reads in (lambda: read_uplink(network, raw), lambda: read_csv(raw), lambda: read_json(raw)):
        with suppress(BadRequest):
            reads()
    for layout in (ULTRASONIC, BATCH):
        with suppress(BadRequest):
            signs_of(uplink(raw), device(layout))


TABLE = """\ufeffseq,level_m,time,station,rain_mm,period_s\r
7,1.5,2026-06-03T12:00:00+09:00,a,,\r
\r
,,2026-06-03T12:10:00+09:00,"a",2.5,600\r
"""


def test_a_table_reads_in_any_order_of_columns() -> None:
    items = read_csv(TABLE.encode())
    assert [(one.index, one.reading) for one in items] == [
        (2, Reading("a", NOON, level_m=1.5, seq=7)),
        (4, Reading("a", NOON + timedelta(minutes=10), rain_mm=2.5, period_s=600)),
    ]


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ("a,2026-06-03T12:00:00+09:00,nan", "bad-value"),
        ("a,2026-06-03T12:00:00+09:00,1_0", "bad-value"),
        ("a,2026-06-03T12:00:00+09:00,1e3", "bad-value"),
        ("a,2026-06-03T12:00:00,1", "bad-time"),
        (",2026-06-03T12:00:00+09:00,1", "bad-station"),
        ("a,2026-06-03T12:00:00+09:00,", "no-single-value"),
        ("a,2026-06-03T12:00:00+09:00", "bad-row"),
    ],
)
def test_a_row_that_says_nothing_is_named_by_its_line(row: str, code: str) -> None:
    (item,) = read_csv(f"station,time,level_m\n{row}\n".encode())
    assert (item.index, item.reading) == (2, None)
    assert item.error is not None
    assert item.error.error_code == code


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("station,time,level\na,b,1\n", "'level' is no column"),
        ("station,station,time\na,b,1\n", "station stands twice"),
        ("station,level_m\na,1\n", "the column time is missing"),
        ('station,time,level_m\n"a,b\n', "line 2"),
        ("station,time,level_m\n", "holds 0 readings"),
        ("", "holds 0 readings"),
        ("station,time,level_m\n" + "a,b,1\n" * 1_001, "holds 1001 readings"),
    ],
)
def test_a_table_that_does_not_read_is_refused(table: str, said: str) -> None:
    with pytest.raises(BadRequest, match=said):
        read_csv(table.encode())
    with pytest.raises(BadRequest, match="byte 0"):
        read_csv(b"\xff")


def test_a_topic_names_the_station_where_a_reading_does_not() -> None:
    raw = b'{"time": "2026-06-03T12:00:00+09:00", "level_m": 1}'
    (item,) = read_json(raw, "a")
    assert item.reading == Reading("a", NOON, level_m=1)
    (other,) = read_json(raw.replace(b"{", b'{"station": "b", '), "a")
    assert other.error is not None
    assert other.error.error_code == "bad-station"


def test_the_last_of_a_device_is_kept_and_what_is_late_does_not_replace_it() -> None:
    status = LastHeard()
    good, other = Battery(71, "%", False), Battery(99, "%", False)
    first = uplink(rssi=-90, gateways=("gw",))
    status.note(device(), good, first)
    status.note(device(), other, replace(first, rssi=-80, time=NOON - timedelta(minutes=1)))
    assert [(one.battery, one.rssi) for one in status.devices("hitoyoshi")] == [(good, -90)]
    status.note(device(), None, replace(first, rssi=-70, time=NOON + timedelta(minutes=1), gateways=()))
    assert [(one.battery, one.rssi) for one in status.devices("hitoyoshi")] == [(good, -70)]
    assert [(one.id, one.time, one.device) for one in status.gateways("hitoyoshi")] == [
        ("gw", NOON, EUI.lower())
    ]
    assert status.devices("kuma") == []
    assert status.gateways("kuma") == []


def test_a_battery_that_becomes_low_is_told_once() -> None:
    status, volts = LastHeard(), device(replace(ULTRASONIC, low_battery=3.6))
    battery = signs_of(uplink(), volts).battery
    assert battery == Battery(3.55, "V", True)
    assert signs_of(uplink(), device()).battery == Battery(3.55, "V", False)
    percent = [signs_of(replace(uplink(), silent=True, battery=n), volts).battery for n in (19.5, 20)]
    assert percent == [Battery(19.5, "%", True), Battery(20, "%", False)]
    minutes = [uplink(), *(replace(uplink(), time=NOON + timedelta(minutes=n)) for n in range(1, 5))]
    told = [
        status.note(volts, one, heard)
        for one, heard in zip([battery, battery, None, percent[1], percent[0]], minutes, strict=True)
    ]
    assert told == [True, False, False, False, True]
    assert status.low() == 1


STATION = """
[[stations]]
id = "g"
name = "x"
org = "o"
sender = "a@b"
codes = ["432032"]
lon = 130.7
lat = 32.2
"""


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ('form = "cayenne"\nvalues = []', "layouts.x.values: name at least one"),
        ('form = "cayene"\nvalues = []', "layouts.x.form: Invalid enum value"),
        (
            'form = "cayenne"\nvalues = [{quantity = "level"}]',
            "layouts.x.values[1].quantity: 'level' is none",
        ),
        ('form = "cayenne"\nvalues = [{quantity = "level_m", typ = "x"}]', "did you mean type?"),
        (
            'form = "cayenne"\nvalues = [{quantity = "level_m", type = "gps"}]',
            "values[1].type: 'gps' is none",
        ),
        ('form = "binary"\nvalues = [{quantity = "level_m", bits = 65}]', "values[1].bits: 1 to 64 bits"),
        ('form = "binary"\nvalues = [{quantity = "level_m", bits = 8, header = true}]', "values[1].header: "),
        ('form = "binary"\nrecord_bytes = 2\nvalues = [{quantity = "level_m", bits = 8}]', "every_s: "),
        ('form = "fields"\nlow_battery = nan\nvalues = []', "layouts.x.low_battery: "),
        ('form = "fields"\nvalues = [{quantity = "level_m"}]', "values[1].field: name it"),
        ('form = "fields"\nvalues = [{quantity = "rain_mm", field = "r"}]', "values[1].period_s: "),
        ('form = "fields"\nvalues = [{quantity = "level_m", field = "r", scale = 0}]', "values[1].scale: "),
        ('form = "fields"\nvalues = [{quantity = "level_m", field = "r", scale = nan}]', "values[1].scale: "),
    ],
)
def test_a_layout_that_cannot_be_is_a_mistake_of_the_configuration(text: str, mistake: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.parse(f"[layouts.x]\n{text}\n")
    assert any(mistake in one for one in caught.value.mistakes), caught.value.mistakes


def test_a_device_stands_at_a_station_and_has_a_layout() -> None:
    layout = '[layouts.x]\nform = "fields"\nvalues = [{quantity = "level_m", field = "r"}]\n'
    one = '[[devices]]\nid = "A1"\nstation = "g"\nlayout = "x"\n'
    found = config.device_table(config.parse(STATION + layout + one)).device("a1", NOON, "o")
    assert found is not None
    assert (found.org, found.station, found.layout.name) == ("o", "g", "x")
    wrong = one.replace('"g"', '"h"').replace('"x"', '"y"').replace("A1", "a1")
    with pytest.raises(ConfigError) as caught:
        config.parse(STATION + layout + one + wrong)
    assert [mistake.split(":")[0] for mistake in caught.value.mistakes] == [
        "devices[2].id",
        "devices[2].station",
        "devices[2].layout",
    ]
