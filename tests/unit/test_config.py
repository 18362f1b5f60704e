from __future__ import annotations

from pathlib import Path

import pytest

from lalert import config, registry
from lalert.errors import ConfigError


def mistakes_of(text: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        config.parse(text)
    return caught.value.mistakes


def test_an_empty_file_is_a_good_configuration() -> None:
    settings = config.parse("")
    assert settings == config.Settings()
    assert (settings.hub.host, settings.hub.port) == ("127.0.0.1", 8080)


def test_every_mistake_is_reported_at_once_with_its_place() -> None:
    mistakes = mistakes_of(
        """
        [hub]
        prot = 8081
        port = "eighty"
        [live]
        heartbeat_s = "often"
        [[stations]]
        id = "a"
        [outbound]
        allow = 7
        """
    )
    text = "\n".join(mistakes)
    assert "hub.prot: unknown key, did you mean port?" in mistakes
    assert "hub.port: Expected `int`, got `str`" in mistakes
    assert "live.heartbeat_s: " in text
    assert "outbound.allow: " in text
    for missing in ("name", "org", "sender", "codes", "lon", "lat"):
        assert f"stations[1].{missing}: is missing" in mistakes


def test_an_unknown_section_is_named() -> None:
    assert mistakes_of("[outbond]\nx = 1\n")[0].startswith("outbond: unknown key, did you mean outbound?")


def test_what_is_no_toml_says_where() -> None:
    assert "line 2" in mistakes_of("[hub]\nport = \n")[0]


STATION = """
[[stations]]
id = "{id}"
name = "人吉"
org = "o"
sender = "s@example"
codes = ["432032"]
lon = {lon}
lat = {lat}
{more}
"""


def station(id: str = "a", lon: float = 130.7, lat: float = 32.2, more: str = "") -> str:
    return STATION.format(id=id, lon=lon, lat=lat, more=more)


def test_a_station_must_hold() -> None:
    assert config.parse(station()).stations[0].name == "人吉"
    assert "'a' stands twice" in mistakes_of(station() + station())[0]
    assert "are they swapped?" in mistakes_of(station(lon=32.2, lat=130.7))[0]
    assert "must rise" in mistakes_of(station(more="thresholds = {caution_m = 3.0, danger_m = 2.0}"))[0]
    assert "must rise" in mistakes_of(station(more="thresholds = {caution_m = 3.0, danger_m = 3.0}"))[0]
    assert "Actual, Exercise or Test" in mistakes_of(station(more='status = "Draft"'))[0]
    assert "1 to 100 readings" in mistakes_of(station(more="rule = {hold = 0}"))[0]


@pytest.mark.parametrize(
    ("more", "place"),
    [
        ("thresholds = {caution_m = nan}", "thresholds: must rise"),
        ("thresholds = {caution_m = inf}", "thresholds: must rise"),
        ("rule = {hysteresis_m = -0.1}", "rule.hysteresis_m: -0.1 must be"),
        ("rule = {hysteresis_m = nan}", "rule.hysteresis_m: nan must be"),
        ("rule = {hysteresis_m = 11}", "must be 0 to 10"),
        ("rule = {hold = 3, of = 2}", "rule.of: 2 must be 0, or rule.hold"),
        ("rule = {propose_from = 2}", "rule.propose_from: 2 must be 3, 4 or 5"),
        ("rule = {rises = [{metres = 0}]}", "rule.rises[1]: metres must be above 0"),
        ('rule = {rain = [{window = "1h", mm = 0}]}', "rule.rain[1].mm: must be above 0"),
        ('rule = {rain = [{window = "2h", mm = 10}]}', "stations[1].rule.rain[1].window: "),
        ("rule = {holds = 2}", "rule.holds: unknown key, did you mean hold?"),
        ("quality = {stale_h = inf}", "quality.stale_h: inf must be a number"),
        ("quality = {lowest_m = 2, highest_m = 1}", "highest_m: must be above"),
    ],
)
def test_a_level_that_could_never_warn_or_lift_is_a_mistake(more: str, place: str) -> None:
    assert [place in mistake for mistake in mistakes_of(station(more=more))] == [True]


@pytest.mark.parametrize("id", ["", "gauge 1", "a,b", "a<b", "a&b", "a" * 65])
def test_a_station_that_no_warning_could_name_is_a_mistake(id: str) -> None:
    assert ["stations[1].id: " in mistake for mistake in mistakes_of(station(id=id))] == [True]


def test_a_code_that_is_none_is_found_before_anything_starts() -> None:
    assert "stations[1].codes: " in mistakes_of(station().replace("432032", "432033"))[0]


@pytest.mark.parametrize(
    "line",
    [
        "live.heartbeat_s = 0",
        "live.heartbeat_s = nan",
        "live.max_connections = 0",
        "live.stall_s = -1",
        "intake.future_s = inf",
        "intake.past_s = 0",
        "intake.profile = 'jpn'",
        "intake.border_buffer_m = -1",
        "retention.days = -1",
        "retention.readings_days = 36501",
    ],
)
def test_a_bound_that_stops_the_hub_from_working_is_a_mistake(line: str) -> None:
    assert [line.partition(" ")[0] in mistake for mistake in mistakes_of(line)] == [True]


def test_an_alert_may_not_be_older_than_what_is_still_recognised() -> None:
    [mistake] = mistakes_of("[intake]\npast_s = 172801\n[retention]\ndays = 2")
    assert mistake.startswith("intake.past_s: 172801 must not be more than retention.days (172800)")
    assert config.parse("[intake]\npast_s = 172800\n[retention]\ndays = 2").retention.days == 2


def test_networks_are_checked() -> None:
    assert [str(n) for n in config.parse('[outbound]\nallow = ["10.1.0.0/16"]').networks] == ["10.1.0.0/16"]
    assert "outbound.allow[1]" in mistakes_of('[outbound]\nallow = ["10.1.0.1/16"]')[0]


def test_a_file_that_cannot_be_read_is_a_mistake(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("config")
    with pytest.raises(ConfigError, match="cannot be read"):
        config.load(folder / "missing.toml")
    (folder / "sjis.toml").write_bytes("# 人吉".encode("shift_jis"))
    with pytest.raises(ConfigError, match="not UTF-8"):
        config.load(folder / "sjis.toml")


def test_the_default_adapters_are_on_and_can_be_turned_off() -> None:
    assert registry.plan({}).names() == ["webhook", "feeds"]
    assert registry.plan({"feeds": {"enabled": False}}).names() == ["webhook"]


def test_mistakes_in_adapter_blocks_are_reported_at_once_with_the_nearest_word() -> None:
    with pytest.raises(ConfigError) as caught:
        registry.plan({"webhook": {"timout": 3}, "hook2": {"type": "webhok"}})
    assert caught.value.mistakes == (
        "adapters.webhook.timout: unknown key, did you mean timeout_s?",
        "adapters.hook2: no adapter 'webhok' is installed, did you mean webhook?",
    )


def test_nodes_of_one_store_that_have_gauges_need_the_same_key_to_sign_with() -> None:
    station = STATION.format(id="a", lon=130.7, lat=32.2, more="")
    shared = '[store]\nurl = "redis://127.0.0.1:6379"\n'
    files = '[hub]\nsigning_key_file = "/k.pem"\nsigning_certificate_file = "/c.pem"\n'
    [mistake] = mistakes_of(shared + station)
    assert mistake.startswith("hub.signing_key_file: ")
    for good in (files + shared + station, shared, station):
        config.parse(good)


def test_a_canary_is_the_hubs_to_read_and_every_mistake_in_it_is_named() -> None:
    block = {"canary": {"target": "https://watch.example/", "every_s": 300}}
    planned = registry.plan({"webhook": block}).canaries["webhook"]
    assert (planned.every_s, planned.within_s, planned.observe) == (300, 60, False)
    with pytest.raises(ConfigError) as caught:
        registry.plan(
            {
                "webhook": {"canary": {"every": 300}},
                "two": {"type": "webhook", "canary": {"target": "x", "every_s": 60, "within_s": 61}},
                "three": {"type": "webhook", "canary": {"target": "x", "every_s": 1}},
                "four": {"type": "webhook", "canary": "https://watch.example/"},
                "six": {"type": "webhook", "canary": {"every_s": 60}},
                "seven": {"type": "webhook", "canary": {"target_file": "/nowhere"}},
                "feeds": {"canary": {"target": "x"}},
            }
        )
    said = "\n".join(caught.value.mistakes)
    for mistake in (
        "adapters.webhook.canary.every: unknown key, did you mean every_s?",
        "adapters.six.canary.target: give it, or target_file",
        "adapters.seven.canary.target_file: /nowhere: cannot be read",
        "adapters.two.canary.within_s: must not be more than every_s",
        "adapters.three.canary.every_s: ",
        "adapters.four.canary: must be a table",
        "adapters.feeds.canary: this adapter has no canary to send",
    ):
        assert mistake in said


def test_a_canarys_target_may_stand_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "target"
    file.write_text("https://watch.example/token\n")
    planned = registry.plan({"webhook": {"canary": {"target_file": str(file)}}}).canaries
    assert planned["webhook"].target == "https://watch.example/token"
    file.write_text("\n")
    with pytest.raises(ConfigError, match="holds nothing"):
        registry.plan({"webhook": {"canary": {"target_file": str(file)}}})
