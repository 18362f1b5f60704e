"""Texts by template: the right words for every kind, level and language, drills marked, nothing hidden; and no template that could do harm."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from lalert import cap, config, registry, texts
from lalert.cap.profiles.jp.kinds import HAZARDS, SHELTER_STATES
from lalert.errors import ConfigError
from lalert.hub import AdapterHub, Hub
from lalert.model import JST, Area, Entry, Info, MsgType, Origin, OriginKind, PlaceName, Status
from lalert.plugin import HubApi, Room, Text, full_width, utf8, utf16
from lalert.testing import make_alert
from lalert.testing.alerts import declared_facts
from lalert.texts.library import Library
from lalert.texts.loading import load, shipped
from lalert.texts.sandbox import FILTERS, MAX_OUTPUT, MAX_SOURCE, Sandbox, TemplateFailed
from lalert.texts.values import KNOWS, MAX_VALUE, matters, values

SENT = datetime(2026, 11, 23, 9, 5, tzinfo=JST)
HITOYOSHI = PlaceName("432032", "人吉市", "ひとよしし", "Hitoyoshi City")
SAGARA = PlaceName("435104", "相良村", "さがらむら", "Sagara Village")
ALL = tuple(shipped()[0])
ROOMS = {
    "mail": Room(200, 20_000),
    "LINE": Room(None, 5_000, utf16),
    "urgent mail": Room(15, 200, full_width, urls=False),
    "push": Room(60, 240, utf8),
    "chat": Room(150, 3_000),
}
MARKS = {Status.EXERCISE: ("【訓練】", "[EXERCISE]")}


@pytest.fixture(scope="module")
def library() -> Library:
    found, mistakes = load(ALL)
    assert mistakes == []
    return found


def entry(*, correction: bool = False, **changes: Any) -> Entry:
    alert = make_alert(sent=SENT, raw=b"", **{"sender_name": None} | changes)
    facts = replace(declared_facts(alert, frozenset({"432032"})), places=(HITOYOSHI, SAGARA))
    return Entry("e-1", SENT, SENT, alert, Origin(OriginKind.HTTP), alert.id, facts, correction=correction)


def of_kind(kind: str, **changes: Any) -> Entry:
    return entry(**{"level": None, "parameters": [("jp:kind", kind)]} | changes)


def read(library: Library, one: Entry, lang: str, room: Room | None = None, channel: str = "") -> Text:
    text = library.text(one, lang, room, channel)
    assert text.template_failed == ""
    assert text.lang == lang
    return text


# What is shipped


@pytest.mark.parametrize("lang", ALL)
def test_every_shipped_language_is_whole(lang: str) -> None:
    languages, sources = shipped()
    names = {name.partition("/")[2] for name in sources if name.startswith(f"{lang}/")}
    assert names == {name.partition("/")[2] for name in sources if name.startswith("ja/")}
    assert languages[lang].kinds.keys() == cap.KINDS.keys() | {"other"}
    assert languages[lang].hazards.keys() == HAZARDS.keys()
    assert languages[lang].shelter_states.keys() == SHELTER_STATES.keys()
    sandbox = Sandbox(sources, KNOWS)
    assert [f"{name}: {why}" for name in sources for why in sandbox.mistakes(name)] == []


def test_only_languages_that_were_checked_are_on_by_default() -> None:
    assert texts.checked() == config.Texts().languages == ("ja", "en")
    assert ALL == ("ja", "ja-x-easy", "en", "zh", "ko", "vi", "pt")


@pytest.mark.parametrize("lang", ALL)
def test_every_kind_level_and_message_is_said_marked_and_fits_everywhere(library: Library, lang: str) -> None:
    kinds = [*cap.KINDS, "bears"]
    for kind, msg_type, status in itertools.product(
        kinds, [MsgType.ALERT, MsgType.UPDATE, MsgType.CANCEL, MsgType.ERROR], [Status.ACTUAL, Status.EXERCISE]
    ):  # fmt: skip
        for level in [None, 3, 4, 5] if kind == "evacuation" else [None]:
            one = of_kind(kind, level=level, language="fr", msg_type=msg_type, status=status, note="水位低下")
            for name, room in ROOMS.items():
                text = read(library, one, lang, room)
                assert text.title, (name, kind)
                assert text.body, (name, kind)
                assert room.title is None or room.measure(text.title) <= room.title
                assert room.body is None or room.measure(text.body) <= room.body
                for part in (text.title, text.body):
                    assert part.startswith(MARKS.get(status, ""))
                    assert ("訓練】" in part or "EXERCISE" in part) == (status is Status.EXERCISE)


@pytest.mark.parametrize(
    ("level", "title", "act"),
    [
        (5, "警戒レベル5 緊急安全確保", "命の危険があります。直ちに安全を確保してください。"),
        (4, "警戒レベル4 避難指示", "危険な場所から全員避難してください。"),
        (3, "警戒レベル3 高齢者等避難", "高齢者など避難に時間のかかる人は、危険な場所から避難してください。"),
    ],
)
def test_an_order_is_named_as_the_guideline_names_it(
    library: Library, level: int, title: str, act: str
) -> None:
    order = entry(level=level, event="Evacuation", headline="Leave", language="fr")
    text = read(library, order, "ja", Room(15, 200, full_width))
    assert (text.title, text.body.splitlines()[0]) == (title, act)
    for lang in ALL:
        assert str(level) in read(library, order, lang).title


def test_an_order_in_full(library: Library) -> None:
    text = read(
        library,
        entry(area_desc="人吉市 中心部", sender_name="人吉市", parameters=[("jp:hazard", "flood")]),
        "en",
    )
    assert text.title == "Alert Level 4: Evacuation Order (避難指示)"
    assert text.body.split("\n\n") == [
        (
            "Everyone must leave dangerous places now.\n"
            "Areas: Hitoyoshi City (人吉市)\n"
            "Places as named in Japanese: 人吉市 中心部\n"
            "Hazard: flood\n"
            "Until: 2026-11-23 15:05 JST\n"
            "Issued: 人吉市, 2026-11-23 09:05 JST"
        ),
        "人吉市に避難指示を発令しました",
        "危険な場所から全員避難してください。",
        "球磨川の水位が上がっています。",
    ]


def test_plain_japanese_has_the_readings(library: Library) -> None:
    text = read(library, entry(), "ja-x-easy")
    assert text.title == "警戒レベル4 避難指示（みんな 逃げて ください）"
    assert "ところ：人吉市（ひとよしし）\n" in text.body
    own = read(library, entry(area_desc="下町", parameters=[("jp:kana", "下町=したまち")]), "ja-x-easy")
    assert "ところ：下町（したまち）\n" in own.body


def test_a_drill_is_said_in_the_readers_language_too(library: Library) -> None:
    drill = entry(status="Exercise")
    assert read(library, drill, "vi").title.startswith("[EXERCISE] DIỄN TẬP: Mức cảnh giác 4")
    assert read(library, drill, "ja-x-easy").body.startswith("【訓練】これは 練習です。あぶない")
    assert read(library, entry(status="Test"), "ko").title.startswith("[TEST] 시험: 경계 레벨 4")
    assert "\n\n【訓練】人吉市に避難指示を発令しました\n\n" in read(library, drill, "vi").body


def test_what_is_over_is_never_said_to_hold(library: Library) -> None:
    def french(**changes: Any) -> Entry:
        return entry(
            **{"language": "fr", "headline": "x", "description": None, "instruction": None} | changes
        )

    lifted = french(response="AllClear", level=4, msg_type="Update")
    cancelled = french(msg_type="Cancel", note="誤って発令したため")
    for lang in ALL:
        order = read(library, french(), lang)
        act = order.body.splitlines()[0]
        for over in (lifted, cancelled):
            text = read(library, over, lang)
            assert act not in text.title + text.body
            assert order.title not in text.title + text.body
    assert read(library, lifted, "en").title == "Lifted: Evacuation information"
    assert "Until" in read(library, french(), "en").body
    assert "Until" not in read(library, lifted, "en").body + read(library, cancelled, "en").body
    assert (
        read(library, french(response="AllClear", msg_type="Cancel"), "en").title
        == "Lifted: Evacuation information"
    )
    withdrawn = read(library, french(response="AllClear", msg_type="Cancel", note="誤り"), "en")
    assert (withdrawn.title, withdrawn.body.splitlines()[0]) == (
        "Cancelled: Evacuation information",
        "Reason: 誤り",
    )
    reason, then, *_ = read(library, cancelled, "en").body.splitlines()
    assert (reason, then) == ("Reason: 誤って発令したため", "What was announced before has been cancelled.")


def test_an_order_for_a_hazard_without_levels_is_known_by_its_name(library: Library) -> None:
    tsunami = of_kind("evacuation", event="避難指示")
    assert read(library, tsunami, "en").title == "Evacuation Order (避難指示)"
    assert read(library, of_kind("evacuation", event="避難指示解除"), "en").title == "Evacuation information"
    assert (
        read(library, of_kind("evacuation", event="避難指示", response="AllClear"), "en").title
        == "Lifted: Evacuation information"
    )


def info(level: int, code: str, name: str, response: str = "Evacuate") -> Info:
    return make_alert(level=level, codes=[code], area_desc=name, response=response, raw=b"").infos[0]


def test_each_level_is_said_with_its_own_areas(library: Library) -> None:
    infos = (
        info(3, "435104", "相良村"),
        info(4, "432032", "人吉市"),
        info(4, "435104", "下町", response="AllClear"),
    )
    text = read(library, entry(infos=infos, msg_type="Update"), "en")
    lines = text.body.splitlines()
    assert text.title == "Update: Alert Level 4: Evacuation Order (避難指示)"
    assert lines[1] == "Areas: Hitoyoshi City (人吉市)"
    three = lines.index("Alert Level 3: Evacuation of the Elderly, etc. (高齢者等避難)")
    over = lines.index("Lifted: Evacuation information")
    assert lines[three + 2] == "Areas: Sagara Village (相良村)"
    assert lines[over + 2 : over + 4] == [
        "Areas: Sagara Village (相良村)",
        "Places as named in Japanese: 下町",
    ]
    assert 1 < three < over


def test_what_names_no_code_of_its_own_is_not_given_those_of_the_rest(library: Library) -> None:
    nowhere = replace(info(3, "432032", "下町"), areas=(Area("下町"),))
    body = read(library, entry(infos=(info(4, "432032", "人吉市"), nowhere)), "en").body
    assert [line for line in body.splitlines() if line.startswith("Areas")] == [
        "Areas: Hitoyoshi City (人吉市)",
        "Areas: 下町",
    ]
    alone = read(library, entry(infos=(nowhere,)), "en").body
    assert (
        "Areas: Hitoyoshi City (人吉市), Sagara Village (相良村)\nPlaces as named in Japanese: 下町\n"
        in alone
    )


def test_updates_and_corrections_are_announced(library: Library) -> None:
    assert read(library, entry(msg_type="Update"), "pt").title.startswith("Atualização: Nível de alerta 4")
    assert read(library, entry(msg_type="Update", correction=True), "ko").title.startswith(
        "정정: 경계 레벨 4"
    )
    assert (
        read(library, entry(msg_type="Error", note="誤送信"), "en").title == "Error: Evacuation information"
    )


def test_a_message_without_infos_is_said_too(library: Library) -> None:
    text = read(library, entry(infos=(), msg_type="Cancel", note="誤り"), "zh")
    assert (text.title, text.body.splitlines()[0]) == ("取消：防灾信息", "理由：誤り")


def test_shelters_and_rivers_are_told(library: Library) -> None:
    shelters = [
        ("jp:shelter", "name=第一小学校; state=open; kana=だいいちしょうがっこう"),
        ("jp:shelter", "name=公民館; state=full"),
    ]
    body = read(library, of_kind("shelter", parameters=[("jp:kind", "shelter"), *shelters]), "en").body
    assert body.startswith("第一小学校: open\n公民館: full\n")
    said = [
        ("jp:kind", "river-level"),
        ("jp:station", "人吉"),
        ("jp:observed", "2026-11-23T09:00:00+09:00"),
        ("jp:level_m", "3.50"),
        ("警戒レベル相当", "4"),
    ]
    river = read(library, of_kind("river-level", parameters=said), "en")
    assert river.title == "River level 人吉"
    assert river.body.startswith("人吉: 3.5 m\nThis corresponds to Alert Level 4. It is no evacuation order")


def test_places_that_have_no_room_are_counted(library: Library) -> None:
    towns = tuple(
        replace(make_alert().infos[0].areas[0], area_desc=f"第{n}町", geocodes=()) for n in range(40)
    )
    assert "、第29町、另有10处\n" in read(library, entry(areas=towns), "zh").body


# Which words are chosen


def test_a_voice_is_given_one_language_alone(library: Library) -> None:
    english = entry(
        language="en", headline="Leave", description="It rains.", instruction="Go.", area_desc="Hitoyoshi"
    )
    text = read(library, english, "ja", Room(mixed=False))
    assert text.title == "警戒レベル4 避難指示"
    assert not {"Leave", "rains", "Go."} & set(re.split(r"[ \n]", text.body))
    both = replace(english, alert=replace(english.alert, infos=(*english.alert.infos, *entry().alert.infos)))
    off = texts.usual().text(both, "vi", Room(mixed=False))
    assert (off.title, off.lang) == ("Leave", "en")
    assert "危険な場所" not in off.body


def test_the_alerts_own_words_go_before_every_template(library: Library) -> None:
    alert = entry().alert
    english = replace(alert.infos[0], language="en-US", headline="Leave the riverside")
    both = replace(entry(), alert=replace(alert, infos=(*alert.infos, english)))
    assert library.text(both, "en-GB").title == "Leave the riverside"
    assert library.text(both, "ja").title == library.text(both).title == "人吉市に避難指示を発令しました"
    assert library.text(both, "ja-x-easy").title.startswith("警戒レベル4 避難指示（みんな")
    easy = replace(both, alert=replace(alert, infos=(*alert.infos, replace(english, language="ja-x-easy"))))
    assert library.text(easy, "ja-x-easy").title == "Leave the riverside"


def test_a_language_that_is_off_hides_nothing() -> None:
    usual = texts.usual()
    one = entry()
    assert usual.text(one, "vi") == usual.text(one) == texts.alert_text(one.alert)
    assert usual.text(one, "ja-x-easy") == usual.text(one, "ja")
    assert usual.text(one, "en-NZ").lang == "en"
    assert usual.text(entry(msg_type="Ack"), "en").title == "【受信確認】人吉市に避難指示を発令しました"


def test_the_most_special_template_is_chosen(tmp_path: Path) -> None:
    for name in (
        "default",
        "evacuation",
        "evacuation.4",
        "push/default",
        "push/evacuation",
        "push/evacuation.4",
        "push/clear",
        "clear",
    ):
        path = tmp_path / "en" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{name} {{{{ channel }}}}\nx", encoding="utf-8")

    def titles(*names: str) -> list[str]:
        for name in names:
            (tmp_path / "en" / f"{name}.txt").unlink()
        library, mistakes = load(["en"], str(tmp_path))
        assert mistakes == []
        return [
            library.text(one, "en", channel=channel).title
            for channel in ("push", "line")
            for one in (entry(), over)
        ]

    over = entry(response="AllClear")
    assert titles() == ["push/evacuation.4 push", "push/clear push", "evacuation.4 line", "clear line"]
    assert titles("push/evacuation.4", "evacuation.4") == [
        "push/evacuation push",
        "push/clear push",
        "Alert Level 4: Evacuation Order (避難指示)",
        "clear line",
    ]
    assert titles("push/evacuation", "push/clear") == [
        "push/default push",
        "clear push",
        "Alert Level 4: Evacuation Order (避難指示)",
        "clear line",
    ]
    assert titles("push/default")[0] == "Alert Level 4: Evacuation Order (避難指示)"


async def test_a_channel_is_known_by_the_type_of_its_adapter(tmp_path: Path) -> None:
    (tmp_path / "en" / "webhook").mkdir(parents=True)
    (tmp_path / "en" / "webhook" / "default.txt").write_text("for {{ channel }}\nx", encoding="utf-8")
    library = load(["en"], str(tmp_path))[0]
    hub = cast("Hub", SimpleNamespace(texts=library, store=None))
    session = cast("aiohttp.ClientSession", None)
    views: dict[str, HubApi] = {}

    def view(name: str, org: str | None, kind: str) -> HubApi:
        views[name] = AdapterHub(hub, name, org, session, kind)
        return views[name]

    registry.plan({"hook": {"type": "webhook"}, "feeds": {"enabled": False}}).build(view)
    assert {name: hub.text(entry(), "en").title for name, hub in views.items()} == {
        "webhook": "for webhook",
        "hook": "for webhook",
    }


def test_what_was_made_is_kept_for_the_next_reader(library: Library) -> None:
    one = entry()
    assert library.text(one, "en") is library.text(one, "en-GB")
    assert library.text(one, "en") is not library.text(one, "en", Room(20))
    assert library.text(replace(one), "en") is not library.text(one, "en")


@pytest.mark.parametrize(("bound", "most"), [("MAX_KEPT", 3), ("MAX_KEPT_BYTES", 1_000)])
def test_what_is_kept_is_bounded(bound: str, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"lalert.texts.library.{bound}", most)
    library, one = load(["en"])[0], entry()
    first = library.text(one, "en")
    for size in range(3):
        library.text(one, "en", Room(size))
    assert library.text(one, "en") is not first


# What a stranger may write


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("{{ headline.__class__.__mro__ }}", "only a name has fields"),
        ("{{ headline.upper() }}", "Call is not taken"),
        ("{{ headline['x'] }}", "Getitem is not taken"),
        ("{{ headline.format }}", "format: unknown"),
        ("{% for i in range(10**9) %}x{% endfor %}", "a loop is written"),
        ("{% for s in shelters %}{% for t in shelters %}x{% endfor %}{% endfor %}", "a loop holds another"),
        ("{% for s in shelters recursive %}x{% endfor %}", "a loop is written"),
        ("{% import 'rest.txt' as x %}", "Import is not taken"),
        ("{% include '../../secret.txt' %}", "there is no en/../../secret.txt"),
        ("{% include headline %}", "include takes the name"),
        ("{% include 'evacuation.4.txt' %}", "includes something itself"),
        ("{% extends 'rest.txt' %}", "Extends is not taken"),
        ("{% macro f() %}{{ f() }}{% endmacro %}", "Macro is not taken"),
        ("{% set x = headline %}", "Assign is not taken"),
        ("{{ headline * 1000000000 }}", "Mul is not taken"),
        ("{{ headline ~ headline }}", "Concat is not taken"),
        ("{{ headline|replace('a', 'aaaa') }}", "the filter replace"),
        ("{{ headline|attr('__class__') }}", "the filter attr"),
        ("{{ areas|join(headline) }}", "at most 20 characters"),
        ("{{ areas|join('x')|join('x') }}", "join is for a list"),
        ("{{ headlin }}", "headlin: unknown, did you mean headline?"),
        ("{{ self }}", "self: unknown"),
        ("{% for s in shelters %}{{ s.nam }}{% endfor %}", "did you mean name?"),
        ("{% if %}", "line 1"),
        ("{{ " + "not " * 3_000 + "level }}", "is nested too deeply"),
        ("x" * 20_000, "at most 16384"),
        ("{% for s in shelters %}x{% endfor %}" * 9, "at most 8"),
    ],
)  # fmt: skip
def test_a_template_that_could_do_harm_is_a_mistake_of_the_configuration(
    tmp_path: Path, source: str, why: str
) -> None:
    (tmp_path / "en").mkdir()
    (tmp_path / "en" / "general.txt").write_text(source, encoding="utf-8")
    with pytest.raises(ConfigError) as refused:
        config.parse(f'[texts]\ntemplates = "{tmp_path}"')
    assert refused.value.mistakes[0].startswith("texts.templates: en/general.txt: ")
    assert why in refused.value.mistakes[0]


def test_behind_the_first_wall_stands_jinjas_own() -> None:
    sandbox = Sandbox(
        {
            "en/a.txt": "{{ headline.__class__.__mro__ }}",
            "en/b.txt": "{{ range(9) }}",
            "en/c.txt": "{{ shelters.append(1) }}",
        },
        KNOWS,
    )
    for name in ("en/a.txt", "en/b.txt", "en/c.txt"):
        with pytest.raises(TemplateFailed):
            sandbox.render(name, {"headline": "x", "shelters": []})


@pytest.mark.parametrize(
    "written", ["{{ 7 * 7 }}", "{% include 'rest.txt' %}", "{# x #}", "名" * 5_000, "\x1b[31m\u202e赤"]
)
def test_what_an_alert_says_is_text_and_nothing_else(library: Library, written: str) -> None:
    one = entry(
        headline=written,
        sender_name=written,
        area_desc=written,
        event=written,
        parameters=[("jp:kind", "general")],
        codes=[],
    )
    text = read(library, one, "en")
    plain = written.replace("\x1b", "").replace("\u202e", "")
    assert plain[:1_000] in text.body
    assert not set(text.body) & {"\x1b", "\u202e"}
    if "{" in written:
        assert text.body.count(written) == 3
        assert "49" not in text.body.replace("49 ", "")
    assert len(read(library, one, "en", Room(60, 500)).body) <= 500
    told = values(one, matters(one)[0], shipped()[0]["en"], "x", alone=True)
    assert all(len(value) <= MAX_VALUE for value in told.values() if isinstance(value, str))


@settings(max_examples=60, deadline=None)
@given(
    said=st.lists(st.text(max_size=60), min_size=5, max_size=5), lang=st.sampled_from(ALL), status=st.sampled_from([Status.ACTUAL, Status.EXERCISE]),
    kind=st.sampled_from([*cap.KINDS, "bears"]), msg_type=st.sampled_from([MsgType.ALERT, MsgType.UPDATE, MsgType.CANCEL, MsgType.ERROR]),
    level=st.sampled_from([None, 3, 4, 5]), room=st.sampled_from(list(ROOMS.values())) | st.builds(Room, st.integers(30, 60), st.integers(40, 200)),
)  # fmt: skip
def test_whatever_is_written_a_text_is_made_that_fits_and_is_marked(
    library: Library,
    said: list[str],
    lang: str,
    status: Status,
    kind: str,
    msg_type: MsgType,
    level: int | None,
    room: Room,
) -> None:
    headline, event, instruction, place, note = said
    one = of_kind(
        kind, headline=headline, event=event, instruction=instruction, area_desc=place, note=note, sender_name=event, language="fr", level=level,
        status=status, msg_type=msg_type,
    )  # fmt: skip
    text = read(library, one, lang, room)
    for part, limit in ((text.title, room.title), (text.body, room.body)):
        assert part
        assert limit is None or room.measure(part) <= limit
        assert part.startswith(MARKS.get(status, ""))


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("{{ loop.index }}", "UndefinedError"),
        ("{% if level %}x{% endif %}", "says nothing"),
        (
            "{% for shelter in shelters %}" + "x" * 2_000 + "{% endfor %}",
            f"writes more than {MAX_OUTPUT} characters",
        ),
        ("{{ kind.missing }}", "did you mean"),
    ],
)
def test_a_template_that_fails_gives_way_to_the_alerts_own_words_and_that_is_said_once(
    tmp_path: Path, source: str, why: str
) -> None:
    shelters = [("jp:kind", "shelter"), *[("jp:shelter", f"name={n}; state=open") for n in range(30)]]
    one = of_kind("shelter", parameters=shelters)
    (tmp_path / "en").mkdir()
    (tmp_path / "en" / "shelter.txt").write_text(source, encoding="utf-8")
    library, mistakes = load(["en"], str(tmp_path))
    if mistakes:
        assert "missing: unknown" in mistakes[0]
        return
    with capture_logs() as said:
        text = library.text(one, "en")
        library.text(one, "en", Room(None, 100))
    assert text == replace(texts.alert_text(one.alert), template_failed="en/shelter.txt")
    assert text.title == "人吉市に避難指示を発令しました"
    assert "対象地域：人吉市" in text.body
    assert "危険な場所から全員避難してください。" in text.body
    assert [(line["template"], why in line["why"]) for line in said] == [("en/shelter.txt", True)]
    assert library.failures == {"en/shelter.txt": 2}


# An operator's own folder


MINE = """
[ne]
name = "नेपाली"
checked = true
names = "latin"
time = "{year}-{month:02}-{day:02} {hour:02}:{minute:02}"
comma = ", "
more = "+{count}"
update = "U: "
correction = "C: "
error = "E: "
kinds = { other = "सूचना" }
hazards = {}
shelter_states = { open = "o", full = "f", closed = "c" }
"""


def test_an_operator_may_add_a_language(tmp_path: Path) -> None:
    (tmp_path / "ne").mkdir()
    (tmp_path / "ne" / "default.txt").write_text("{{ kind_name }}\n{{ areas }}\n", encoding="utf-8")
    (tmp_path / "languages.toml").write_text(MINE, encoding="utf-8")
    settings = config.parse(f'[texts]\nlanguages = ["ne", "vi"]\ntemplates = "{tmp_path}"')
    text = config.library_of(settings).text(entry(), "ne")
    assert (text.title, text.body.splitlines()[0], text.lang) == ("सूचना", "Hitoyoshi City (人吉市)", "ne")
    gone = config.library_of(settings).text(entry(msg_type="Cancel"), "ne")
    assert (gone.template_failed, gone.lang) == ("ne/cancel.txt", "ja-JP")


@pytest.mark.parametrize(
    ("written", "mistake"),
    [
        (
            'languages = ["ja-x-eazy"]',
            "texts.languages: 'ja-x-eazy' is no language of the templates, did you mean ja-x-easy?",
        ),
        ('languages = ["xx"]', "known: en, ja, ja-x-easy, ko, pt, vi, zh"),
        ('templates = "no/such/folder"', "texts.templates: no/such/folder: there is no such folder"),
        ('language = ["ja"]', "texts.language: unknown key, did you mean languages?"),
    ],
)
def test_a_mistake_in_the_configuration_is_said(written: str, mistake: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(mistake)):
        config.parse(f"[texts]\n{written}")


@pytest.mark.parametrize(
    ("file", "content", "mistake"),
    [
        ("languages.toml", MINE.replace("{minute:02}", "{minute.__class__}"), "ne.time: takes year"),
        ("languages.toml", MINE.replace("checked = true", ""), "checked"),
        ("languages.toml", MINE.replace("other =", "general ="), "ne.kinds: must have other"),
        (
            "languages.toml",
            MINE.replace("open =", "opened ="),
            "ne.shelter_states: must have open, full, closed",
        ),
        ("languages.toml", "[ne", "texts.templates: "),
        ("nn/default.txt", "x", "nn/default.txt: nn is no language of languages.toml"),
        ("en/x.txt", "x" * 70_000, "en/x.txt: holds more than 65536 bytes"),
    ],
)
def test_a_mistake_in_the_folder_is_said(tmp_path: Path, file: str, content: str, mistake: str) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(content, encoding="utf-8")
    assert mistake in " ".join(load(["ja"], str(tmp_path))[1])


def test_nothing_outside_of_the_folder_is_read(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret", encoding="utf-8")
    (tmp_path / "own" / "en").mkdir(parents=True)
    (tmp_path / "own" / "en" / "default.txt").symlink_to(tmp_path / "secret.txt")
    assert load(["en"], str(tmp_path / "own"))[1] == [
        "texts.templates: en/default.txt: lies outside of the folder"
    ]


# What the page says


def test_the_page_names_every_value_language_and_filter() -> None:
    page = (Path(__file__).parents[2] / "docs/texts.md").read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| `")]
    named = {word for row in rows for word in re.findall(r"`([a-z_]+)`", row[0])}
    assert named >= KNOWS.keys()
    for fields in KNOWS.values():
        assert all(f"`{field}`" in page for field in fields)
    assert all(f"`{name}`" in page for name in FILTERS)
    marks = {True: "yes", False: "**no**"}
    for tag, language in shipped()[0].items():
        assert (
            f"| `{tag}` | {language.name} | {marks[language.checked]} | {'yes' if language.checked else 'no'} |"
            in page
        )
    for number in (MAX_SOURCE, MAX_OUTPUT, MAX_VALUE):
        assert f"{number:,} characters" in page
