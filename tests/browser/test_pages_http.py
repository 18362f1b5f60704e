"""The pages as HTTP: headers, languages, errors, files. No browser needed."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from string import Formatter
from typing import Any

import aiohttp
import pytest
from lxml import html

from lalert import cap
from lalert.cap import TOLERABLE
from lalert.errors import ConfigError
from lalert.findings import RULES
from lalert.resources import web_dir
from lalert.web.cards import card, chosen
from lalert.web.pages import Pages, Site
from lalert.web.wording import choose, wordings
from tests.browser.stage import HITOYOSHI, TOKEN, Hub, alert, info, staged

PAGES = [
    "/",
    f"/place/{HITOYOSHI}",
    "/signage/lobby",
    "/rules",
    "/stations",
    f"/setup?token={TOKEN}",
    "/setup",
]
HTML = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with staged(Hub()) as url, aiohttp.ClientSession(url) as session:
        yield session


@pytest.mark.parametrize("path", PAGES)
async def test_every_page_forbids_what_it_does_not_need(http: aiohttp.ClientSession, path: str) -> None:
    async with http.get(path) as response:
        policy = response.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy
        assert "unsafe" not in policy
        assert ("frame-ancestors *" in policy) == ("signage" in path)
        assert ("form-action 'self'" in policy) == ("token" in path)
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Referrer-Policy"] == "no-referrer"
        assert response.headers["Cache-Control"] == ("no-store" if "setup" in path else "no-cache")
        body = await response.text()
    assert not re.search(r"\son\w+=|\sstyle=|<style|javascript:", body)
    assert all(
        "src=" in tag or 'type="application/json"' in tag for tag in re.findall(r"<script[^>]*>", body)
    )


async def test_a_tile_server_is_allowed_images_and_nothing_else() -> None:
    site = Site(
        "x", tiles="https://{s}.tiles.example:8443/{z}/{x}/{y}.png", tiles_attribution="© <i>Tiles</i>"
    )
    async with staged(Hub(site=site)) as url, aiohttp.ClientSession(url) as http:
        async with http.get("/") as response:
            policy = response.headers["Content-Security-Policy"]
            assert "img-src 'self' data: https://*.tiles.example:8443;" in policy
            assert policy.count("tiles.example") == 1
            assert response.headers["Referrer-Policy"] == "strict-origin-when-cross-origin"
            assert "© &lt;i&gt;Tiles&lt;/i&gt;" in await response.text()
        async with http.get(f"/place/{HITOYOSHI}") as response:
            assert "tiles.example" not in response.headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    "tiles", ["ftp://a/{z}", "https://a;script-src *", "https://a b/", "//evil/{z}", "https://", "{z}/{x}"]
)
def test_a_tile_address_that_could_bend_the_policy_is_refused(tiles: str) -> None:
    with pytest.raises(ConfigError, match=r"map\.tiles"):
        Pages(Hub(site=Site("x", tiles=tiles)))


async def test_every_file_that_a_page_names_is_served_with_its_type(http: aiohttp.ClientSession) -> None:
    for path in PAGES:
        async with http.get(path) as response:
            names = re.findall(r'(?:src|href)="(/static/[^"]+)"', await response.text())
        assert names
        for name in names:
            async with http.get(name) as response:
                assert response.status == 200, name
                assert response.content_type in ("text/css", "text/javascript", "image/svg+xml")
                assert ("immutable" in response.headers["Cache-Control"]) == ("/vendor/" in name)
                tag = response.headers["ETag"]
            async with http.get(name, headers={"If-None-Match": tag}) as response:
                assert response.status == 304


async def test_modules_import_only_files_that_exist() -> None:
    scripts = web_dir("static") / "js"
    for script in scripts.glob("*.js"):
        for name in re.findall(r'(?:from|import) "(\./[^"]+)"', script.read_text(encoding="utf-8")):
            assert (scripts / name).is_file(), f"{script.name} imports {name}"


@pytest.mark.parametrize(
    "path",
    [
        "../pages.py",
        "%2e%2e/pages.py",
        "..%2fpages.py",
        "js/../../pages.py",
        "js",
        "/etc/passwd",
        "js/home.js%00.css",
        "vendor/VENDORED",
    ],
)
async def test_no_path_leads_out_of_the_static_folder(http: aiohttp.ClientSession, path: str) -> None:
    import yarl

    base = str(http._base_url).rstrip("/")
    async with (
        aiohttp.ClientSession() as plain,
        plain.get(yarl.URL(f"{base}/static/{path}", encoded=True)) as response,
    ):
        assert response.status == 404


@pytest.mark.parametrize(
    ("query", "header", "lang"),
    [
        ("", "", "ja"),
        ("", "en-GB,en;q=0.9", "en"),
        ("", "fr,en;q=0.5,ja;q=0.4", "en"),
        ("", "en;q=0,ja", "ja"),
        ("", "de", "ja"),
        ("", "*;q=x,,;;", "ja"),
        ("?lang=en", "ja", "en"),
        ("?lang=en-US,ja", "ja", "en"),
        ("?lang=%3Cscript%3E", "en", "en"),
    ],
)
async def test_the_language_is_asked_for_or_negotiated(
    http: aiohttp.ClientSession, query: str, header: str, lang: str
) -> None:
    async with http.get("/" + query, headers={"Accept-Language": header}) as response:
        assert response.headers["Content-Language"] == lang
        assert "Accept-Language" in response.headers["Vary"]
        assert f'<html lang="{lang}">' in await response.text()


async def test_a_browser_gets_an_error_page_and_a_program_a_problem(http: aiohttp.ClientSession) -> None:
    async with http.get("/nothing-here", headers=HTML) as response:
        assert (response.status, response.content_type) == (404, "text/html")
        assert "ページが見つかりません" in await response.text()
    for accept in ("", "*/*", "application/json", "application/problem+json, text/html;q=0.5", "nonsense"):
        async with http.get("/nothing-here", headers={"Accept": accept}) as response:
            assert (response.status, response.content_type) == (404, "application/problem+json"), accept


@pytest.mark.parametrize(
    "path",
    [
        "/?aera=43203",
        "/signage/lobby?utm_source=x",
        "/?area=99999",
        "/place/432032?bbox=1",
        "/?" + "a" * 3000,
    ],
)
async def test_a_mistyped_filter_is_refused_rather_than_shown_as_all_of_japan(
    http: aiohttp.ClientSession, path: str
) -> None:
    async with http.get(path, headers=HTML) as response:
        assert response.status == 400
        assert 'lang="en"' in await response.text()


async def test_what_mail_programs_add_to_a_link_does_no_harm(http: aiohttp.ClientSession) -> None:
    async with http.get("/?utm_source=mail&fbclid=1&area=43203") as response:
        assert response.status == 200
        assert "utm_source" not in (await response.text()).split('id="page"')[1].split("</script>")[0]


async def test_a_place_whose_code_ended_says_so_and_leads_to_those_of_today(
    http: aiohttp.ClientSession,
) -> None:
    for lang, words in (("ja", ("上九一色村", "甲府市")), ("en", ("2006-03-01", "Kofu City"))):
        async with http.get(f"/place/193411?lang={lang}") as response:
            assert response.status == 200
            text = await response.text()
        for word in (*words, "/place/192015", "/place/194301"):
            assert word in text
    async with http.get("/place/192015") as response:
        assert "2006-03-01" not in await response.text()


async def test_a_place_has_one_address(http: aiohttp.ClientSession) -> None:
    async with http.get("/place/43203?lang=en", allow_redirects=False) as response:
        assert (response.status, response.headers["Location"]) == (308, "/place/432032?lang=en")
    for unknown in ("99", "432031", "x", "439991"):
        async with http.get(f"/place/{unknown}") as response:
            assert response.status == 404
    async with http.get("/place/43") as response:
        assert "熊本県" in await response.text()


@pytest.mark.parametrize("screen", ["a b", "-x", "x" * 65, "%3Cscript%3E", "é"])
async def test_a_screens_name_is_plain(http: aiohttp.ClientSession, screen: str) -> None:
    async with http.get(f"/signage/{screen}") as response:
        assert response.status == 404


async def test_the_maps_points_are_all_of_japan_in_both_languages_and_cached(
    http: aiohttp.ClientSession,
) -> None:
    async with http.get("/map/places.json") as response:
        places = {code: (lon, lat, name) for code, lon, lat, name in await response.json()}
        tag = response.headers["ETag"]
        assert response.headers["Content-Encoding"] == "gzip"
    assert len(places) > 1_890
    assert places[HITOYOSHI][2] == "人吉市"
    assert all(122 < lon < 154 and 20 < lat < 46 for lon, lat, _ in places.values())
    async with http.get("/map/places.json", headers={"If-None-Match": tag}) as response:
        assert response.status == 304
    async with http.get("/map/places.json?lang=en", headers={"Accept-Encoding": "identity"}) as response:
        assert "Content-Encoding" not in response.headers
        assert [HITOYOSHI, "Hitoyoshi City"] in [[code, name] for code, _, _, name in await response.json()]


@pytest.mark.parametrize(
    "path", [f"/place/{HITOYOSHI}", f"/signage/lobby?area={HITOYOSHI}", f"/?area={HITOYOSHI}"]
)
@pytest.mark.parametrize(
    ("lang", "words"), [("ja", "おおよそのもの"), ("en", "approximate, and not its official")]
)
async def test_a_page_about_a_place_says_where_its_extent_is_approximate(
    path: str, lang: str, words: str
) -> None:
    hub = Hub()
    async with staged(hub) as url, aiohttp.ClientSession(url) as http:
        rough = await text(http, path, lang)
        official = {
            "type": "Feature",
            "properties": {"N03_007": HITOYOSHI[:5]},
            "geometry": {
                "type": "Polygon",
                "coordinates": [[[130.7, 32.1], [130.9, 32.1], [130.9, 32.3], [130.7, 32.3], [130.7, 32.1]]],
            },
        }
        hub.gazetteer = hub.gazetteer.with_boundaries(json.dumps({"features": [official]}).encode())
        assert words in rough
        assert words not in await text(http, path, lang)


async def text(http: aiohttp.ClientSession, path: str, lang: str) -> str:
    """Return what a page shows without any script."""
    async with http.get(path + ("&" if "?" in path else "?") + f"lang={lang}") as response:
        page = html.fromstring(await response.text())
    shown = page.xpath("//body//text()[not(ancestor::script) and not(ancestor::*[@hidden])]")
    assert isinstance(shown, list)
    return "".join(map(str, shown))


async def test_outlines_are_given_for_known_codes_and_bounded(http: aiohttp.ClientSession) -> None:
    async with http.get(
        f"/map/outlines.json?area={HITOYOSHI}&area=43&area=439991&area={HITOYOSHI}"
    ) as response:
        outlines = await response.json()
    assert set(outlines) == {HITOYOSHI, "43"}
    assert outlines[HITOYOSHI]["type"] in ("Polygon", "MultiPolygon")
    assert outlines[HITOYOSHI]["approximate"] is outlines["43"]["approximate"] is True
    for query in ("", "?area=x", "?" + "&".join(f"area=01{n}" for n in range(100, 170))):
        async with http.get("/map/outlines.json" + query) as response:
            assert response.status == 400


async def test_the_set_up_link_says_nothing_to_whoever_guesses(http: aiohttp.ClientSession) -> None:
    answers = []
    for query in ("", "?token=", "?token=wrong", f"?token={TOKEN}x"):
        async with http.get("/setup" + query) as response:
            answers.append((response.status, await response.text()))
    assert {status for status, _ in answers} == {404}
    assert len({re.sub(r"\d+", "", text) for _, text in answers}) == 1
    form = {"token": "wrong", "org": "x", "name": "x", "codes": "all", "senders": "*"}
    async with http.post("/setup", data=form) as response:
        assert response.status == 404


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"token=" + TOKEN.encode(), "application/x-www-form-urlencoded", 422),
        (b"\xff=\xfe", "application/x-www-form-urlencoded", 400),
        (b"&".join([b"a=b"] * 30), "application/x-www-form-urlencoded", 400),
        (b"a=" + b"b" * 70_000, "application/x-www-form-urlencoded", 413),
        (b"{}", "application/json", 415),
        (b"--x--", "multipart/form-data; boundary=x", 415),
    ],
)
async def test_a_set_up_form_that_does_not_read_is_refused(
    http: aiohttp.ClientSession, body: bytes, kind: str, status: int
) -> None:
    async with http.post("/setup", data=body, headers={"Content-Type": kind}) as response:
        assert response.status == status


async def test_of_very_many_alerts_the_gravest_are_listed_and_the_rest_counted() -> None:
    hub = Hub()
    for number in range(1, 101):
        hub.emit(alert(number, level=5 if number == 3 else 2))
    async with staged(hub) as url, aiohttp.ClientSession(url) as http, http.get("/") as response:
        text = await response.text()
    cards = text.split('id="cards"')[1].split("<template")[0]
    assert cards.count("<article") == 60
    assert cards.index("緊急安全確保") < cards.index("注意報")
    assert "発令中の情報 100件" in text
    assert "ほか40件あります" in text


async def test_every_kind_has_its_name_picture_and_feeds(http: aiohttp.ClientSession) -> None:
    async with http.get("/?lang=ja") as response:
        home = await response.text()
    async with http.get(f"/place/{HITOYOSHI}?lang=en") as response:
        place = await response.text()
    assert list(cap.KINDS) == list(wordings()["ja"].catalogue["kind"])
    for kind in cap.KINDS.values():
        assert f'id="picture-{kind.name}"' in home
        assert re.search(rf'href="/feeds/kind/{kind.name}\.atom"[^>]*>{kind.title_ja}<', home)
        name = wordings()["en"](f"kind.{kind.name}")
        assert re.search(rf'href="/feeds/{HITOYOSHI}/{kind.name}\.atom"[^>]*>{name}<', place)
        assert card(alert(kind=kind.name), wordings()["ja"], "ja").picture == kind.name
    script = (web_dir("static") / "js" / "cards.js").read_text(encoding="utf-8")
    listed = re.search(r"PICTURES = (\[.*?\]);", script)
    assert listed is not None
    assert json.loads(listed[1]) == list(cap.KINDS)


def test_both_languages_have_the_same_words_with_the_same_blanks() -> None:
    ja, en = (dict(_leaves(wordings()[lang].catalogue)) for lang in ("ja", "en"))
    assert ja.keys() == en.keys()
    for key in ja:
        if not key.startswith("time."):
            assert set(re.findall(r"{\w+}", ja[key])) == set(re.findall(r"{\w+}", en[key])), key


def test_every_word_of_the_catalogue_is_used() -> None:
    root = Path(web_dir("static")).parent
    files = [*root.glob("*.py"), *root.glob("templates/*.html"), *root.glob("static/js/*.js")]
    source = "\n".join(file.read_text(encoding="utf-8") for file in files)
    composed = ("time", "grade", "evacuation", "act", "mark", "error", "other", "kind", "gauge")
    unused = [
        key
        for key, _ in _leaves(wordings()["ja"].catalogue)
        if "." in key
        and key.split(".")[0] not in composed
        and ".role" not in key
        and not re.fullmatch(
            r"rules\.(error|warning|advice|info)(_text)?|card\.(issued|updated|corrected)", key
        )
        and key not in source
        and not key.startswith("connection.")
    ]
    assert unused == []


def _leaves(catalogue: Any, before: str = "") -> list[tuple[str, str]]:
    if isinstance(catalogue, dict):
        return [
            leaf
            for key, value in catalogue.items()
            for leaf in _leaves(value, f"{before}.{key}" if before else key)
        ]
    return [(before, json.dumps(catalogue) if not isinstance(catalogue, str) else catalogue)]


@pytest.mark.parametrize(
    ("level", "kind", "severity", "words"),
    [
        (5, "evacuation", "Extreme", "警戒レベル5"),
        (4, "evacuation", "Minor", "警戒レベル4"),
        (4, "river-level", "Severe", "警戒レベル4相当"),
        (3, "weather", "Severe", "警戒レベル3相当"),
        (2, "weather", "Minor", "警戒レベル2"),
        (None, "general", "Extreme", "甚大な影響"),
        (None, "", "Nonsense", "影響の程度は不明"),
    ],
)
def test_an_observation_is_never_called_an_order(
    level: int | None, kind: str, severity: str, words: str
) -> None:
    shown = card(
        alert(level=level, kind=kind, info=[info(severity=severity, event="観測")]), wordings()["ja"], "ja"
    )
    assert shown.grade == words
    assert (shown.name == "観測") == (kind != "evacuation")


def test_infos_are_chosen_by_language_and_never_hidden() -> None:
    infos = [info(language=tag) for tag in ("ja-JP", "ja-x-easy", "en-US", "zh-Hans", "ja")]

    def tags(lang: str) -> list[str]:
        return [one["language"] for one in chosen(infos, lang)]

    assert tags("ja") == ["ja-JP", "ja"]
    assert tags("ja-x-easy") == ["ja-x-easy"]
    assert tags("en") == ["en-US"]
    assert tags("zh") == ["zh-Hans"]
    assert tags("ko") == ["ja-JP", "ja"]
    assert [one["language"] for one in chosen([info(language="fr")], "ja")] == ["fr"]


def test_times_are_japanese_time_whatever_the_senders_offset() -> None:
    sent = "2026-06-03T01:05:09+00:00"
    shown = card(alert(sent=sent, info=[info(expires="2026-06-03T23:30:00-01:00")]), wordings()["ja"], "ja")
    assert shown.issued == "6月3日(水) 10:05 発表"
    assert shown.until == "6月4日(木) 9:30 まで有効"
    english = card(alert(sent=sent, info=[info(expires=None)]), wordings()["en"], "en")
    assert (english.issued, english.until) == ("Issued Wed 3 Jun, 10:05", "")


def test_a_value_that_holds_braces_is_not_filled_again() -> None:
    assert choose("ja", "")("state.added", text="{n}{text}") == "新しい情報：{n}{text}"


@pytest.mark.parametrize("lang", ["ja", "en"])
async def test_every_rule_has_an_anchor_its_remedy_and_both_languages(
    http: aiohttp.ClientSession, lang: str
) -> None:
    async with http.get("/rules", params={"lang": lang}) as response:
        page: Any = html.fromstring(await response.text())
    assert not page.xpath("//script")
    explained = {element.get("id"): element for element in page.xpath("//article[@class='rule']")}
    assert list(explained) == list(RULES)
    for rule in RULES.values():
        element = explained[rule.id]
        words = " ".join(element.text_content().split())
        first, second = (rule.help_ja, rule.help) if lang == "ja" else (rule.help, rule.help_ja)
        first, second = (re.sub(r"{(\w+?)(_ja)?}", r"\1", " ".join(text.split())) for text in (first, second))
        assert words.index(first) < words.index(second)
        assert element.xpath("string(.//h3/a/@href)") == f"#{rule.id}"
        assert element.xpath("string(.//*[@lang]/@lang)") == ("en" if lang == "ja" else "ja")
        assert element.xpath(f"boolean(.//span[@class='weight {rule.severity.value}'])")
        assert bool(element.xpath(".//p[@class='tolerable']")) == (rule.id in TOLERABLE)
        fields = {name for _, name, _, _ in Formatter().parse(rule.message) if name}
        assert {place.text for place in element.xpath(".//var")} >= fields


async def test_every_page_leads_to_the_rules(http: aiohttp.ClientSession) -> None:
    for path in ("/", f"/place/{HITOYOSHI}", "/setup", "/rules"):
        async with http.get(path, params={"lang": "en"}) as response:
            assert 'href="/rules?lang=en"' in await response.text()


async def test_the_rules_are_sent_packed_once_and_then_not_again(http: aiohttp.ClientSession) -> None:
    async with http.get("/rules", headers={"Accept-Language": "en"}, auto_decompress=False) as response:
        assert response.headers["Content-Encoding"] == "gzip"
        assert {"Accept-Language", "Accept-Encoding"} <= set(response.headers["Vary"].split(", "))
        assert (response.headers["Content-Language"], response.charset) == ("en", "utf-8")
        packed = await response.read()
        tag = response.headers["ETag"]
    async with http.get("/rules?lang=en&from=mail", headers={"Accept-Encoding": "identity"}) as response:
        assert await response.read() == gzip.decompress(packed)
        assert response.headers["ETag"] == tag
    async with http.get("/rules?lang=en", headers={"If-None-Match": tag}) as response:
        assert response.status == 304
    async with http.get("/rules?lang=ja", headers={"If-None-Match": tag}) as response:
        assert response.status == 200


def _gauge(name: str, stage: str, condition: str = "live", **overrides: Any) -> dict[str, Any]:
    moment = "2026-06-03T01:20:00+00:00"
    return {
        "name": name,
        "river": "球磨川",
        "codes": [HITOYOSHI],
        "status": "Actual",
        "stage": stage,
        "condition": condition,
        "last_stage": "calm",
        "level_m": 1.5,
        "time": moment,
        "heard": moment,
    } | overrides


async def test_a_silent_gauge_is_listed_as_no_data() -> None:
    hub = Hub()
    hub.gauges = [
        _gauge("危険橋", "danger"),
        _gauge("保守橋", "no-data", "maintenance", level_m=None, time=None, heard=None),
        _gauge("沈黙橋", "no-data", "silent", last_stage="danger"),
        _gauge("平常橋", "calm"),
        _gauge("札幌橋", "calm", codes=["011002"]),
    ]
    async with staged(hub) as url, aiohttp.ClientSession(url) as session:
        async with session.get(f"/stations?area={HITOYOSHI}") as response:
            page = html.fromstring(await response.text())
        async with session.get("/stations?area=0&lang=en") as response:
            assert response.status == 400
    rows = [["".join(map(str, cell.itertext())).strip() for cell in row] for row in page.iter("tr")][1:]
    assert [(row[0], row[1]) for row in rows] == [
        ("球磨川 危険橋", "氾濫危険水位以上"),
        ("球磨川 保守橋", "データなし（保守中）"),
        ("球磨川 沈黙橋", "データなし：最後は氾濫危険水位以上"),
        ("球磨川 平常橋", "平常"),
    ]
    assert rows[1][2:] == ["", "まだありません"]
    assert "2か所はデータなしです" in "".join(map(str, page.itertext()))
