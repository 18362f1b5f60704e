"""The judgement of an alert by the Japanese profile: pure functions of the alert, each for one question, that yield what they find."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from lalert.cap.profiles.base import Finding, Lookup, finding
from lalert.cap.profiles.jp import codes, kinds, mail
from lalert.cap.profiles.jp.kinds import (
    HAZARDS,
    KINDS,
    LEVEL,
    LEVELLED,
    PREFIX,
    RAIN,
    Parameter,
    digit,
    record,
)
from lalert.cap.profiles.jp.reading import (
    EQUIVALENT_NAMES,
    LEVEL_NAMES,
    LEVEL_OF_NAME,
    PLACE_GEOCODE_NAMES,
    bare,
    is_japanese,
    kind,
    kind_word,
    lifts,
    readings,
    said_kind,
    variety,
)
from lalert.cap.rules import shown
from lalert.geo import REGION_NAMES
from lalert.model import Alert, Area, Info, MsgType, NamedValue, Scope, Severity, Status, Urgency

MAX_HEADLINE: Final = 100
JST: Final = timedelta(hours=9)

_SEVERITIES: Final[Mapping[int, tuple[Severity, ...]]] = {
    5: (Severity.EXTREME,),
    4: (Severity.EXTREME, Severity.SEVERE),
    3: (Severity.SEVERE, Severity.MODERATE),
}
_ABOLISHED = re.compile(r"避難勧告|避難準備(?:・高齢者等避難開始|情報)?|避難指示\(緊急\)|災害発生情報")
_SUCCESSORS: Final[Mapping[str, str]] = {
    "避難勧告": "避難指示",
    "避難指示(緊急)": "避難指示",
    "災害発生情報": "緊急安全確保",
}
_OPENING, _CLOSING = r"[\[({<「『【〔《〈［（≪〖]", r"[\])}>」』】〕》〉］）≫〗]"
_DRILL_WORD = r"(?:訓練|演習|試験|テスト|くんれん|EXERCISE|DRILL|TEST)"
_ORNAMENT = r"[*#=※★☆◆◇■□●○◎]{1,9}"
_MARK = re.compile(
    rf"{_OPENING}\s*(?:これは)?{_DRILL_WORD}(?:用|中|です|配信|放送|送信|メール|電文|情報|[\s・、,/]*{_DRILL_WORD})?\s*{_CLOSING}"
    rf"|{_ORNAMENT}\s*{_DRILL_WORD}\s*{_ORNAMENT}"
    rf"|^{_DRILL_WORD}(?:[\s、。,.!・-]+{_DRILL_WORD})+",
    re.IGNORECASE,
)
# Not the word alone: that there is going to be a drill next week may be said in all seriousness.
_SAYS_DRILL = re.compile(
    r"これは[\s、,]*(?:訓練|演習|試験|テスト)(?:です|放送|配信|メール|の(?:情報|配信|放送|メール))"
    r"|\bthis is (?:only )?an? (?:drill|exercise|test)(?=\s*(?:[.!,:;。、-]|message|alert|only|$))",
    re.IGNORECASE,
)
_SAID_LEVEL = re.compile(r"警戒レベル\s*([1-5])(?!\s*相当)")
_HALF_KANA = re.compile(r"[ｦ-ﾟ]+")
_JAPANESE_TEXT = re.compile(r"[ぁ-ゖァ-ヺ]")
_MUNICIPALITY = re.compile(r"\S{1,12}[都道府県市区町村]")


@dataclass(frozen=True, slots=True)
class _Said:
    """One info and what is asked of it again and again; `parameters` by bare name, each with its number in the document."""

    alert: Alert
    info: Info
    path: str
    kind: str
    parameters: Mapping[str, Sequence[tuple[int, NamedValue]]]
    lookup: Lookup | None

    @property
    def in_force(self) -> bool:
        """Say whether it tells what holds now, rather than what is over."""
        return self.alert.msg_type in (MsgType.ALERT, MsgType.UPDATE) and not lifts(self.info)

    @property
    def ordered(self) -> bool:
        """Say whether it is an order in force."""
        return self.kind == "evacuation" and self.in_force

    def value_path(self, number: int) -> str:
        return f"{self.path}/parameter[{number}]/value"

    def first(self, name: str) -> str | None:
        found = self.parameters.get(name)
        return found[0][1].value if found else None

    def levels(self, names: frozenset[str]) -> Iterator[tuple[int, NamedValue]]:
        for number, parameter in enumerate(self.info.parameters, 1):
            if parameter.name in names:
                yield number, parameter

    def level(self, names: frozenset[str] = LEVEL_NAMES) -> int | None:
        return max((read for _, p in self.levels(names) if (read := digit(p.value))), default=None)


def judge(alert: Alert, lookup: Lookup | None) -> Iterator[Finding]:
    """Yield everything that the profile finds in an alert; `lookup` knows the municipalities, if anybody does."""
    for ask_alert in _OF_ALERT:
        yield from ask_alert(alert)
    whole = kind(alert)
    for number, info in enumerate(alert.infos, 1):
        said = _Said(
            alert, info, f"/alert/info[{number}]", said_kind(info) or whole, _by_name(info.parameters), lookup
        )
        for ask_info in _OF_INFO:
            yield from ask_info(said)


def _by_name(parameters: Iterable[NamedValue]) -> Mapping[str, Sequence[tuple[int, NamedValue]]]:
    found: dict[str, list[tuple[int, NamedValue]]] = {}
    for number, parameter in enumerate(parameters, 1):
        found.setdefault(bare(parameter.name), []).append((number, parameter))
    return found


def _titled(name: str) -> Mapping[str, str]:
    """Return how messages speak of a kind."""
    known = KINDS.get(name)
    title, title_ja = (known.title, known.title_ja) if known else (name, name)
    return {"kind": name, "title": title, "title_ja": title_ja}


# The alert


def _speaks_japanese(alert: Alert) -> Iterator[Finding]:
    if alert.infos and not any(is_japanese(info.language) for info in alert.infos):
        yield finding("JP-LANGUAGE-JA", "/alert")


def _cancel_has_a_reason(alert: Alert) -> Iterator[Finding]:
    if alert.msg_type is MsgType.CANCEL and not (alert.note or "").strip():
        yield finding("JP-CANCEL-REASON", "/alert")


def _note_is_of_what_is_real(alert: Alert) -> Iterator[Finding]:
    note = unicodedata.normalize("NFKC", alert.note or "").strip()
    if alert.status is Status.ACTUAL and (mark := _MARK.match(note) or _SAYS_DRILL.search(note)):
        yield _drill("/alert/note", "note", mark[0])


def _sent_in_japan(alert: Alert) -> Iterator[Finding]:
    yield from _offset(alert.sent, "sent", "/alert/sent")


def _one_kind(alert: Alert) -> Iterator[Finding]:
    said = dict.fromkeys(word for info in alert.infos if (word := said_kind(info)))
    if len(said) > 1:
        yield finding("JP-KIND-MIXED", "/alert", text=", ".join(list(said)[:5]), kind=next(iter(said)))
    elif not said and alert.infos:
        guessed = kind(alert)
        yield finding("JP-KIND-MISSING", "/alert/info[1]", **_titled(guessed))


def _order_is_public(alert: Alert) -> Iterator[Finding]:
    real = alert.status is Status.ACTUAL and alert.scope is not Scope.PUBLIC
    if real and kind(alert) == "evacuation":
        yield finding("JP-SCOPE-NOT-PUBLIC", "/alert/scope", scope=alert.scope.value)


def _levels_agree_between_languages(alert: Alert) -> Iterator[Finding]:
    by_language: dict[str, set[int]] = {}
    first: dict[str, int] = {}
    for number, info in enumerate(alert.infos, 1):
        if not lifts(info):
            levels = {read for p in info.parameters if p.name in LEVEL_NAMES and (read := digit(p.value))}
            language = variety(info.language)
            by_language.setdefault(language, set()).update(levels)
            first.setdefault(language, number)
    japanese = by_language.pop("ja", set())
    for language, levels in by_language.items():
        # That only the gravest is translated is no contradiction.
        if japanese and levels and (not levels <= japanese or max(levels) != max(japanese)):
            yield finding(
                "JP-LEVEL-TRANSLATION",
                f"/alert/info[{first[language]}]",
                language=shown(language),
                levels=_listed(levels),
                other_levels=_listed(japanese),
            )


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(numbers)))


def _shelters_do_not_contradict(alert: Alert) -> Iterator[Finding]:
    fields = _PARAMETERS["shelter"].fields
    states: dict[str, str] = {}
    for i, info in enumerate(alert.infos, 1):
        for p, parameter in enumerate(info.parameters, 1):
            if bare(parameter.name) != "shelter":
                continue
            said, _ = record(parameter.value, fields)
            name, state = said.get("name"), said.get("state")
            if name and state and (other := states.setdefault(name, state)) != state:
                path = f"/alert/info[{i}]/parameter[{p}]/value"
                yield finding("JP-SHELTER-CONTRADICTION", path, text=shown(name), state=state, other=other)


_OF_ALERT: Final[tuple[Callable[[Alert], Iterator[Finding]], ...]] = (
    _speaks_japanese,
    _cancel_has_a_reason,
    _note_is_of_what_is_real,
    _sent_in_japan,
    _order_is_public,
    _one_kind,
    _levels_agree_between_languages,
    _shelters_do_not_contradict,
)


# Language and texts


def _language_is_said(said: _Said) -> Iterator[Finding]:
    info = said.info
    if not is_japanese(info.language) and _JAPANESE_TEXT.search((info.headline or "") + info.event):
        yield finding("JP-LANGUAGE-WRONG", said.path, language=shown(info.language))


def _texts_of(info: Info) -> Iterator[tuple[str, str]]:
    for name, text in (
        ("event", info.event),
        ("headline", info.headline),
        ("description", info.description),
        ("instruction", info.instruction),
    ):
        if text:
            yield name, unicodedata.normalize("NFKC", text)


def _no_drill_in_what_is_real(said: _Said) -> Iterator[Finding]:
    if said.alert.status is Status.ACTUAL:
        for name, text in _texts_of(said.info):
            # In the middle of a longer text, (テスト) may be part of what it says.
            looked_for = _MARK.search if name in ("event", "headline") else _MARK.match
            if mark := looked_for(text.strip()) or _SAYS_DRILL.search(text):
                yield _drill(f"{said.path}/{name}", name, mark[0])
        for number, area in enumerate(said.info.areas, 1):
            if mark := _MARK.search(unicodedata.normalize("NFKC", area.area_desc)):
                yield _drill(f"{said.path}/area[{number}]/areaDesc", "areaDesc", mark[0])


def _drill(path: str, name: str, mark: str) -> Finding:
    return finding("JP-DRILL-IN-ACTUAL", path, name=name, text=shown(mark))


def _texts_can_be_shown(said: _Said) -> Iterator[Finding]:
    info = said.info
    headline = info.headline or ""
    if len(headline) > MAX_HEADLINE and variety(info.language) == "ja":
        args = {"length": str(len(headline)), "limit": str(MAX_HEADLINE)}
        yield finding("JP-HEADLINE-LONG", f"{said.path}/headline", **args)
    for name in ("event", "headline", "description", "instruction"):
        if found := _HALF_KANA.search(getattr(info, name) or ""):
            yield finding("JP-TEXT-HALF-KANA", f"{said.path}/{name}", name=name, text=shown(found[0]))


def _names_are_of_today(said: _Said) -> Iterator[Finding]:
    for name, text in _texts_of(said.info):
        if old := _ABOLISHED.search(text):
            rule = "JP-EVENT-ABOLISHED" if name == "event" else "JP-TEXT-ABOLISHED"
            right = _SUCCESSORS.get(old[0], "高齢者等避難")
            yield finding(rule, f"{said.path}/{name}", name=name, text=old[0], right=right)


def _readings_are_given(said: _Said) -> Iterator[Finding]:
    info = said.info
    if variety(info.language) != "ja":
        return
    names = {area.area_desc for area in info.areas}
    for number, parameter in said.parameters.get("kana", ()):
        name, equals, kana = (part.strip() for part in parameter.value.partition("="))
        if not equals or not name or not kinds.KANA.holds(kana):
            yield finding("JP-KANA-FORM", said.value_path(number), text=shown(parameter.value))
        elif name not in names:
            yield finding("JP-KANA-STRAY", said.value_path(number), text=shown(name))
    given = readings(info)
    silent = [a for a in info.areas if a.area_desc not in given and not _reading_known(a, said.lookup)]
    if silent and said.in_force:
        text = shown(silent[0].area_desc)
        place = codes.known_place(silent[0], said.lookup)
        example = f"{text[1:-1]}={(place and place.kana) or 'よみ'}"
        yield finding("JP-KANA-MISSING", said.path, count=str(len(silent)), text=text, example=example)


def _reading_known(area: Area, lookup: Lookup | None) -> bool:
    """Say whether the hub can read the name itself: that of a municipality, or one that is kana already."""
    place = codes.known_place(area, lookup)
    if place is None:
        return _MUNICIPALITY.fullmatch(area.area_desc) is not None or kinds.KANA.holds(area.area_desc)
    return area.area_desc.endswith(place.name) or kinds.KANA.holds(area.area_desc)


# Kind and parameters


def _kind_is_a_word(said: _Said) -> Iterator[Finding]:
    for number, parameter in said.parameters.get("kind", ()):
        if parameter.name != f"{PREFIX}kind":
            continue
        if not kind_word(parameter.value):
            listed = ", ".join(KINDS)
            yield finding("JP-KIND-FORM", said.value_path(number), text=shown(parameter.value), kinds=listed)
        elif parameter.value not in KINDS:
            yield finding("JP-KIND-OWN", said.value_path(number), text=shown(parameter.value))


def _parameters_read(said: _Said) -> Iterator[Finding]:
    for name, stand in said.parameters.items():
        parameter = _PARAMETERS.get(name)
        # A name without the prefix is the profile's only in an alert of a kind that has it.
        own = _OF_KIND.get(said.kind, {})
        if parameter is None or parameter.form is LEVEL:
            continue
        for number, value in stand:
            if value.name == name and name not in own:
                continue
            yield from _form(said, number, parameter, value)
        if len(stand) > 1 and not parameter.many and (name in own or stand[1][1].name != name):
            yield finding("JP-PARAMETER-TWICE", said.value_path(stand[1][0]), name=stand[1][1].name)


def _form(said: _Said, number: int, parameter: Parameter, value: NamedValue) -> Iterator[Finding]:
    faults: list[kinds.Fault] = []
    if parameter.fields:
        faults = record(value.value, parameter.fields)[1]
    elif not parameter.form.holds(value.value):
        faults = [
            kinds.Fault(f"it is not {parameter.form.words}", f"{parameter.form.words_ja}ではありません")
        ]
    for fault in faults:
        yield finding(
            "JP-PARAMETER-FORM",
            said.value_path(number),
            name=value.name,
            text=shown(value.value),
            reason=fault.text,
            reason_ja=fault.text_ja,
            form=parameter.form.words,
            form_ja=parameter.form.words_ja,
        )


def _parameters_are_there(said: _Said) -> Iterator[Finding]:
    if said_kind(said.info) is None or said.kind not in KINDS or not said.in_force:
        return
    for parameter in KINDS[said.kind].parameters:
        if parameter.needed and parameter.name not in said.parameters:
            yield finding(
                "JP-PARAMETER-MISSING",
                said.path,
                **_titled(said.kind),
                name=parameter.name,
                form=_example(parameter, parameter.form.words),
                form_ja=_example(parameter, parameter.form.words_ja),
            )
    if said.kind == "rain" and not any(name in said.parameters for name in RAIN):
        yield finding("JP-RAIN-AMOUNT", said.path, names=", ".join(RAIN))


def _example(parameter: Parameter, words: str) -> str:
    needed = "; ".join(f"{field.name}=…" for field in parameter.fields if field.needed)
    return f"{words} ({needed})" if needed else words


def _measurements_agree(said: _Said) -> Iterator[Finding]:
    stage, level = said.first("stage"), said.level(EQUIVALENT_NAMES)
    if said.kind == "river-level" and stage is not None and stage in kinds.STAGES and level:
        name, right = kinds.STAGES[stage]
        if right != level:
            number = next(iter(said.levels(EQUIVALENT_NAMES)))[0]
            yield finding(
                "JP-STAGE-LEVEL",
                said.value_path(number),
                stage=stage,
                stage_ja=name,
                right=str(right) if right else "-",
                level=str(level),
            )
    for name in ("observed", "as_of"):
        for number, parameter in said.parameters.get(name, ())[:1]:
            when = kinds.time(parameter.value)
            if when is not None and when > said.alert.sent:
                yield finding("JP-OBSERVED-LATER", said.value_path(number), name=parameter.name)


def _shelters_hold_their_people(said: _Said) -> Iterator[Finding]:
    for number, parameter in said.parameters.get("shelter", ()):
        shelter, _ = record(parameter.value, _PARAMETERS["shelter"].fields)
        occupancy = kinds.whole(shelter.get("occupancy", ""))
        capacity = kinds.whole(shelter.get("capacity", ""))
        if shelter.get("state") != "open" or occupancy is None or capacity is None:
            continue
        if occupancy >= capacity > 0:
            yield finding(
                "JP-SHELTER-OVERFULL",
                said.value_path(number),
                text=shown(shelter.get("name", "")),
                occupancy=str(occupancy),
                capacity=str(capacity),
            )


# 警戒レベル


def _levels_read(said: _Said) -> Iterator[Finding]:
    for number, parameter in (*said.levels(LEVEL_NAMES), *said.levels(EQUIVALENT_NAMES)):
        if parameter.name in {"level", "Level"} and said.kind != "evacuation":
            continue  # names that others use for other things
        if digit(parameter.value) is None:
            equivalent = "相当" in parameter.value
            hint = ": what corresponds to a level goes into 警戒レベル相当" if equivalent else ""
            hint_ja = "。相当するレベルは警戒レベル相当に書きます" if equivalent else ""
            yield finding(
                "JP-LEVEL-FORM",
                said.value_path(number),
                name=parameter.name,
                text=shown(parameter.value),
                hint=hint,
                hint_ja=hint_ja,
            )


def _level_is_the_mayors(said: _Said) -> Iterator[Finding]:
    """The mayor's level belongs into orders alone, and of JMA's own an order has none."""
    for number, parameter in said.levels(LEVEL_NAMES):
        level = digit(parameter.value)
        if level is None:
            continue
        path = said.value_path(number)
        if said.kind == "evacuation":
            if not said.in_force:
                if lifts(said.info):
                    yield finding("JP-LIFT-LEVEL", path)
            elif level < 3:
                yield finding("JP-LEVEL-MAYOR", path, level=str(level))
        elif level >= 3 and parameter.name not in {"level", "Level"}:
            yield finding("JP-LEVEL-ORDER", path, level=str(level), **_titled(said.kind))
    if said.kind == "evacuation":
        for number, _ in said.levels(EQUIVALENT_NAMES):
            yield finding("JP-LEVEL-MIXED", said.value_path(number))


def _level_goes_with_the_order(said: _Said) -> Iterator[Finding]:
    if not said.ordered:
        return
    event = unicodedata.normalize("NFKC", said.info.event)
    level, names = said.level(), _names_in(event)
    hazard = said.first("hazard")
    if hazard is None and "津波" in event + (said.info.headline or ""):
        hazard = "tsunami"
    if level is None:
        if not _without_level(event, hazard):
            yield finding("JP-LEVEL-MISSING", said.path)
    elif hazard is not None and hazard in HAZARDS and _without_level(event, hazard) and hazard != "other":
        number = next(iter(said.levels(LEVEL_NAMES)))[0]
        args = {"hazard": hazard, "hazard_ja": HAZARDS[hazard], "level": str(level)}
        yield finding("JP-LEVEL-HAZARD", said.value_path(number), **args)
    elif names and level not in names:
        args = {"event": shown(event), "right": _listed(names), "level": str(level)}
        yield finding("JP-LEVEL-EVENT", f"{said.path}/event", **args)


def _order_has_its_name(said: _Said) -> Iterator[Finding]:
    event = unicodedata.normalize("NFKC", said.info.event)
    named = _names_in(event) or _ABOLISHED.search(event) or "自主避難" in event
    if said.ordered and variety(said.info.language) == "ja" and not named:
        yield finding("JP-EVENT-NAME", f"{said.path}/event", text=shown(said.info.event))


def _gravity_goes_with_the_level(said: _Said) -> Iterator[Finding]:
    if not said.ordered:
        return
    info, level = said.info, said.level()
    fitting = _SEVERITIES.get(level or 0)
    if fitting and info.severity not in fitting:
        args = {"level": str(level), "right": " / ".join(fitting), "severity": info.severity.value}
        yield finding("JP-LEVEL-SEVERITY", f"{said.path}/severity", **args)
    if info.urgency not in (Urgency.IMMEDIATE, Urgency.EXPECTED):
        yield finding("JP-LEVEL-URGENCY", f"{said.path}/urgency", urgency=info.urgency.value)


def _names_in(event: str) -> set[int]:
    """Return the levels of the orders that an event names; a name of before 2021 names none of today's."""
    if _ABOLISHED.search(event):
        return set()
    return {level for name, level in LEVEL_OF_NAME.items() if name in event}


def _without_level(event: str, hazard: str | None) -> bool:
    """Say whether an order is of those that have no level: of other hazards, and where nothing is ordered."""
    return (hazard is not None and hazard not in LEVELLED) or "自主避難" in event


def _headline_says_the_same(said: _Said) -> Iterator[Finding]:
    level = said.level()
    written = {int(n) for n in _SAID_LEVEL.findall(unicodedata.normalize("NFKC", said.info.headline or ""))}
    if said.ordered and level and written and level not in written:
        args = {"text": _listed(written), "level": str(level)}
        yield finding("JP-LEVEL-HEADLINE", f"{said.path}/headline", **args)


def _lifting_is_said(said: _Said) -> Iterator[Finding]:
    if lifts(said.info) and said.alert.msg_type is MsgType.ALERT:
        yield finding("JP-LIFT-NEW", said.path)
    if said.ordered and "解除" in said.info.event:
        yield finding("JP-LIFT-RESPONSE", f"{said.path}/event", text=shown(said.info.event))


def _fits_urgent_mail(said: _Said) -> Iterator[Finding]:
    """Advise on the mail where one may be wanted: a new order, once, at its first Japanese info."""
    new = said.alert.msg_type is MsgType.ALERT and said.ordered
    first = next((info for info in said.alert.infos if variety(info.language) == "ja"), None)
    if new and said.info is first:
        yield from mail.urgent_mail(said.alert).problems


# Times and places


def _ends(said: _Said) -> Iterator[Finding]:
    known = KINDS.get(said.kind)
    # What is only guessed to be of a river or of rain may be a forecast, which JMA issues without an end.
    meant = said.kind == "evacuation" or said_kind(said.info) is not None
    if known and known.expires and meant and said.in_force and said.info.expires is None:
        yield finding("JP-EXPIRES-MISSING", said.path, **_titled(said.kind))


def _times_in_japan(said: _Said) -> Iterator[Finding]:
    for name in ("effective", "onset", "expires"):
        when: datetime | None = getattr(said.info, name)
        if when is not None:
            yield from _offset(when, name, f"{said.path}/{name}")


def _offset(when: datetime, name: str, path: str) -> Iterator[Finding]:
    if when.utcoffset() != JST:
        yield finding("JP-TIME-OFFSET", path, name=name, offset=when.isoformat()[-6:])


def _somebody_is_concerned(said: _Said) -> Iterator[Finding]:
    alert = said.alert
    told = alert.msg_type in (MsgType.ALERT, MsgType.UPDATE)
    if not told or alert.status is not Status.ACTUAL or alert.scope is not Scope.PUBLIC:
        return
    if not said.info.areas:
        yield finding("JP-AREA-MISSING", said.path)
    for number, area in enumerate(said.info.areas, 1):
        coded = any(geocode.name in PLACE_GEOCODE_NAMES | REGION_NAMES for geocode in area.geocodes)
        if not (area.polygons or area.circles or coded):
            yield finding("JP-AREA-PLACE", f"{said.path}/area[{number}]")


def _a_mayor_orders_in_a_municipality(said: _Said) -> Iterator[Finding]:
    if not said.ordered:
        return
    for a, area in enumerate(said.info.areas, 1):
        for g, geocode in enumerate(area.geocodes, 1):
            code = codes.code_of(geocode)
            if code is not None and len(code) == 2:
                path = f"{said.path}/area[{a}]/geocode[{g}]/value"
                yield finding("JP-ORDER-PREFECTURE", path, text=shown(geocode.value))


def _codes_are_right(said: _Said) -> Iterator[Finding]:
    for number, area in enumerate(said.info.areas, 1):
        yield from codes.judge_codes(area, f"{said.path}/area[{number}]", said.lookup)


_OF_INFO: Final[tuple[Callable[[_Said], Iterator[Finding]], ...]] = (
    _language_is_said,
    _no_drill_in_what_is_real,
    _texts_can_be_shown,
    _names_are_of_today,
    _kind_is_a_word,
    _parameters_are_there,
    _parameters_read,
    _measurements_agree,
    _shelters_hold_their_people,
    _levels_read,
    _level_is_the_mayors,
    _level_goes_with_the_order,
    _order_has_its_name,
    _gravity_goes_with_the_level,
    _headline_says_the_same,
    _lifting_is_said,
    _ends,
    _times_in_japan,
    _somebody_is_concerned,
    _a_mayor_orders_in_a_municipality,
    _codes_are_right,
    _readings_are_given,
    _fits_urgent_mail,
)

_OF_KIND: Final[Mapping[str, Mapping[str, Parameter]]] = {
    kind.name: {parameter.name: parameter for parameter in kind.parameters} for kind in KINDS.values()
}
_PARAMETERS: Final[Mapping[str, Parameter]] = {
    name: parameter for own in _OF_KIND.values() for name, parameter in own.items()
}
