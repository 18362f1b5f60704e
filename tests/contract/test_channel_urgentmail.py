"""緊急速報メール under the suite of every channel, and what is its own: who is never told, lengths, letters, outlets, golden documents."""

from __future__ import annotations

import asyncio
import json
import os
import tomllib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from lalert.config import read
from lalert.errors import BadRequest, ConfigError, PermanentFailure, TemporaryFailure, Unavailable
from lalert.geo import Gazetteer
from lalert.model import Delivery, Entry, Facts, Filter, MsgType, Outcome, PlaceName, Status, Subscription
from lalert.plugin import HubApi, Preview
from lalert.resources import gazetteer_csv
from lalert.testing import make_alert
from lalert.testing.channel import Answer, ChannelContract, Received, delivery, subscription
from lalert.testing.farend import http_rig
from lalert.testing.hub import FakeHub
from lalert_adapters.drops import Drop
from lalert_adapters.urgentmail import UrgentMail, UrgentMailConfig
from lalert_adapters.urgentmail.settings import CITIES_OF_WARDS
from lalert_adapters.urgentmail.words import plain

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "data" / "urgentmail"
HITOYOSHI = "432032"
FACTS = Facts(
    codes=frozenset({HITOYOSHI}),
    ground=frozenset({HITOYOSHI}),
    level=4,
    kind="evacuation",
    places=(PlaceName(HITOYOSHI, "人吉市", "ひとよしし", "Hitoyoshi City"),),
)


class Placed(UrgentMail):
    """Gives the alerts of the suite, which have no facts, those of an evacuation order for 人吉市."""

    async def deliver(self, delivery: Delivery) -> Outcome:
        return await super().deliver(replace(delivery, entry=replace(delivery.entry, facts=FACTS)))

    def preview(self, entry: Entry, lang: str | None) -> Preview:
        return super().preview(replace(entry, facts=FACTS), lang)


def config(*outlets: Drop, dry_run: bool = False, **changes: Any) -> UrgentMailConfig:
    return UrgentMailConfig(areas=(HITOYOSHI,), outlets=outlets, dry_run=dry_run, **changes)


def placed(outlet: Subscription) -> Delivery:
    """Return a delivery of a real order for 人吉市."""
    first = delivery(outlet)
    return replace(first, entry=replace(first.entry, facts=FACTS))


def own(outlet: str) -> Subscription:
    return replace(subscription("mail", outlet), id=f"mail.{outlet}")


@dataclass
class FolderRig:
    channel: UrgentMail
    folder: Path
    subscription: Subscription = field(default_factory=lambda: own("one"))
    seen: list[Received] = field(default_factory=list)

    def answer(self, how: Answer) -> None:
        # A share that is not mounted: the folder is not there.
        away = self.folder.with_suffix(".away")
        if how is Answer.TEMPORARY:
            self.folder.rename(away)
        elif away.exists():
            away.rename(self.folder)

    def received(self) -> Sequence[Received]:
        assert not [path for path in self.folder.iterdir() if path.name.startswith(".")]
        return [self._read(path) for path in sorted(self.folder.glob("*.json"))]

    @staticmethod
    def _read(path: Path) -> Received:
        text = path.read_text(encoding="utf-8")
        return Received(json.loads(text)["id"], text)


class TestByHttp(ChannelContract):
    answers = frozenset(Answer) - {Answer.GONE}

    @asynccontextmanager
    async def rig(self) -> AsyncIterator[Any]:
        def make(hub: HubApi) -> UrgentMail:
            # The address is known once the far end listens, the outlet is its name.
            return Placed("mail", config(Drop(name="one", url=rig_url[0], allow_http=True)), hub)

        rig_url = ["http://127.0.0.1:1/"]
        async with http_rig(make, key_header="Idempotency-Key") as rig:
            rig_url[0] = rig.url
            async with make(rig.channel._hub) as channel:  # type: ignore[attr-defined]
                rig.channel, rig.subscription = channel, own("one")
                yield rig

    async def test_a_cancel_can_be_delivered(self) -> None:
        """It cannot: this mail is for new alerts only, and the journal says so."""
        async with self.rig() as rig:
            outcome = await rig.channel.deliver(delivery(rig.subscription, msg_type=MsgType.CANCEL))
            assert not outcome.sent
            assert not rig.received()


class TestByFolder(ChannelContract):
    answers = frozenset({Answer.OK, Answer.TEMPORARY})

    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path) -> None:
        self.path = tmp_path

    @asynccontextmanager
    async def rig(self) -> AsyncIterator[FolderRig]:  # type: ignore[override]
        folder = self.path / f"drop{len(list(self.path.iterdir()))}"
        folder.mkdir()
        async with Placed("mail", config(Drop(name="one", folder=str(folder))), FakeHub()) as channel:
            yield FolderRig(channel, folder)

    async def test_a_cancel_can_be_delivered(self) -> None:
        async with self.rig() as rig:
            outcome = await rig.channel.deliver(delivery(rig.subscription, msg_type=MsgType.CANCEL))
            assert not outcome.sent
            assert not rig.received()

    async def test_every_attempt_carries_the_same_key(self) -> None:
        """And is the same file, so that a second attempt leaves one."""
        async with self.rig() as rig:
            first = delivery(rig.subscription)
            for attempt in (1, 2):
                await rig.channel.deliver(replace(first, attempt=attempt))
            assert len(rig.received()) <= 2


@asynccontextmanager
async def open_mail(folder: Path, hub: FakeHub | None = None, **changes: Any) -> AsyncIterator[UrgentMail]:
    drop = Drop(name="one", folder=str(folder))
    async with UrgentMail("mail", config(drop, **changes), hub or FakeHub()) as channel:
        yield channel


def an_entry(facts: Facts = FACTS, **changes: Any) -> Entry:
    when = datetime(2020, 7, 4, 4, 50, tzinfo=UTC)
    changes = {"identifier": "order-1", "sent": "2020-07-04T13:50:00+09:00", **changes}
    alert = make_alert(**changes)
    entry = delivery(own("one")).entry
    return replace(entry, alert=alert, received=when, stored=when, incident=alert.id, facts=facts)


def a_delivery(entry: Entry) -> Delivery:
    return Delivery("key-of-this-delivery", entry, own("one"), 1)


async def sent(folder: Path, entry: Entry, **changes: Any) -> dict[str, Any]:
    """Return the document that an alert becomes."""
    async with open_mail(folder, **changes) as channel:
        outcome = await channel.deliver(a_delivery(entry))
    assert outcome.sent
    [path] = folder.glob("*.json")
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document | {"outcome": outcome.detail}


# Who is never told


@pytest.mark.parametrize("status", [s for s in Status if s is not Status.ACTUAL])
async def test_what_is_not_real_never_goes_out_even_if_the_core_hands_it_over(
    status: Status, tmp_path: Path
) -> None:
    async with open_mail(tmp_path) as channel:
        assert not channel.drill_safe
        outcome = await channel.deliver(a_delivery(an_entry(status=status)))
    assert not outcome.sent
    assert "real" in outcome.detail
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", [t for t in MsgType if t is not MsgType.ALERT])
async def test_only_new_alerts_go_out(kind: MsgType, tmp_path: Path) -> None:
    async with open_mail(tmp_path) as channel:
        outcome = await channel.deliver(a_delivery(an_entry(msg_type=kind, references=[make_alert()])))
    assert not outcome.sent
    assert not list(tmp_path.iterdir())


async def test_another_kind_of_information_goes_out_only_if_it_is_configured(tmp_path: Path) -> None:
    entry = an_entry(replace(FACTS, kind="shelter"))
    async with open_mail(tmp_path) as channel:
        assert "kind shelter" in (await channel.deliver(a_delivery(entry))).detail
    assert (await sent(tmp_path, entry, kinds=("shelter",)))["alert"]["kind"] == "shelter"


async def test_nobody_but_the_configuration_can_have_the_telephones_ring_once_more(tmp_path: Path) -> None:
    async with open_mail(tmp_path) as channel:
        channel.check_subscription(own("one"))
        for foreign in (subscription("mail", "one"), own("two"), replace(own("one"), target="two")):
            with pytest.raises(BadRequest, match="configuration"):
                channel.check_subscription(foreign)


# The outlets' subscriptions


async def test_each_outlet_has_one_subscription_and_none_is_left_of_an_outlet_that_went(
    tmp_path: Path,
) -> None:
    hub = FakeHub(saved={"mail.gone": replace(own("gone"), id="mail.gone")})
    async with open_mail(tmp_path, hub, min_level=4) as channel:
        await _run_until(channel, lambda: set(hub.saved) == {"mail.one"})
    kept = hub.saved["mail.one"]
    assert kept.filter == Filter(areas=frozenset({HITOYOSHI}), min_level=4)
    assert kept.filter.statuses == {Status.ACTUAL}
    async with open_mail(tmp_path, hub) as channel:  # and one whose configuration changed is replaced
        await _run_until(channel, lambda: hub.saved["mail.one"].filter.min_level is None)


async def test_a_store_that_is_away_at_the_start_is_waited_for(tmp_path: Path) -> None:
    class Away(FakeHub):
        asked = 0

        async def subscriptions(self) -> list[Subscription]:
            self.asked += 1
            if self.asked == 1:
                raise Unavailable("the store is away")
            return []

        @property
        def clock(self) -> Any:
            return _Quick()

        @clock.setter
        def clock(self, value: object) -> None: ...

    hub = Away()
    async with open_mail(tmp_path, hub) as channel:
        await _run_until(channel, lambda: "mail.one" in hub.saved)


class _Quick:
    def now(self) -> datetime:
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


async def _run_until(channel: UrgentMail, true: Any) -> None:
    task = asyncio.ensure_future(channel.run())
    try:
        async with asyncio.timeout(5):
            while not true():
                await asyncio.sleep(0.005)
                assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


# Areas


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        (replace(FACTS, codes=frozenset({"43"}), ground=frozenset({"432032", "432041"})), ["432032"]),
        (replace(FACTS, ground=frozenset()), ["432032"]),
        (Facts(kind="evacuation", nowhere=True), ["431010", "432032"]),
        (replace(FACTS, codes=frozenset({"431001"}), ground=frozenset({"431010", "431028"})), ["431010"]),
        (replace(FACTS, codes=frozenset({"432041"}), ground=frozenset({"432041"})), []),
    ],
    ids=["a prefecture", "drawn on it", "everybody", "a city of wards", "a neighbour"],
)
async def test_the_unit_is_the_municipality_or_ward(facts: Facts, told: list[str], tmp_path: Path) -> None:
    both = UrgentMailConfig(
        areas=("432032", "431010"), outlets=(Drop(name="one", folder=str(tmp_path)),), dry_run=False
    )
    async with UrgentMail("mail", both, FakeHub()) as channel:
        outcome = await channel.deliver(a_delivery(an_entry(facts)))
    documents = [json.loads(path.read_text(encoding="utf-8")) for path in tmp_path.glob("*.json")]
    assert [area["code"] for document in documents for area in document["areas"]] == told
    assert outcome.sent == bool(told)


def test_the_cities_whose_wards_must_be_listed_are_those_of_the_gazetteer() -> None:
    places = Gazetteer.from_csv(gazetteer_csv()).places()
    assert {place.code for place in places if place.kind == "city-with-wards"} == CITIES_OF_WARDS


# Words


ORDERS: dict[str, dict[str, Any]] = {
    "order": {},
    "own-words": {
        "parameters": [
            ("jp:urgent_mail_title", "避難指示　人吉市"),
            ("jp:urgent_mail_body", "川が氾濫するおそれ。\n高い所へ避難してください。"),
        ]
    },
    "letters": {
        "headline": "ｶﾞﾛ地区に避難指示",
        "description": "①髙台へ🚨☎️﨑津㈱前。",
        "instruction": None,
    },
}


@pytest.mark.parametrize("name", ORDERS)
async def test_golden_documents(name: str, tmp_path: Path) -> None:
    entry = an_entry(**ORDERS[name])
    document = await sent(tmp_path, entry)
    del document["outcome"]
    assert document == json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("limit", [200, 500])
async def test_no_text_is_longer_than_carriers_take_and_a_line_break_counts_double(
    limit: int, tmp_path: Path
) -> None:
    entry = an_entry(
        headline="とても長い見出しなので十五文字には収まりません",
        description="球磨川の水位が上がっています。\n" * 60,
    )
    document = await sent(tmp_path, entry, max_body=limit)
    assert len(document["title"]) <= 15
    assert limit // 2 < document["lengths"]["body"] <= limit
    assert document["lengths"]["body"] == len(document["body"]) + document["body"].count("\n")
    assert "危険な場所から全員避難してください。" in document["body"]


async def test_words_that_grow_when_they_are_written_for_telephones_still_fit(tmp_path: Path) -> None:
    document = await sent(tmp_path, an_entry(description="㍍㌖" * 60 + "。"))
    assert "メートル" not in document["body"] or document["lengths"]["body"] <= 200
    assert document["lengths"]["body"] <= 200


async def test_no_address_of_the_web_or_of_mail_goes_out(tmp_path: Path) -> None:
    entry = an_entry(description="くわしくは https://city.example.jp/ または bousai@city.example.jp へ。")
    document = await sent(tmp_path, entry)
    assert "example" not in document["body"]


@pytest.mark.parametrize(
    ("parameter", "value", "why"),
    [
        ("jp:urgent_mail_title", "十五文字では収まらないとても長い題名", "at most 15"),
        ("jp:urgent_mail_body", "あ" * 201, "at most 200"),
        ("jp:urgent_mail_body", "くわしくは https://city.example.jp/", "address"),
    ],
)
async def test_own_words_that_do_not_hold_give_way_to_the_hubs_and_the_journal_says_so(
    parameter: str, value: str, why: str, tmp_path: Path
) -> None:
    document = await sent(tmp_path, an_entry(parameters=[(parameter, value)]))
    assert why in document["outcome"]
    assert value not in (document["title"], document["body"])


async def test_what_fits_in_no_way_is_a_failure_that_names_the_limit(tmp_path: Path) -> None:
    class Verbose(FakeHub):
        def text(self, entry: Entry, lang: str | None = None, room: Any = None) -> Any:
            return super().text(entry, lang)

    async with open_mail(tmp_path, Verbose()) as channel:
        with pytest.raises(PermanentFailure, match="characters of at most 15"):
            await channel.deliver(a_delivery(an_entry(headline="とても長い見出しなので収まりません")))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("ｱｲｳ ﾊﾞﾊﾟ", "アイウ バパ"),
        ("①Ⅲ㈱㎝㍻", "1III(株)cm平成"),
        ("髙﨑", "高崎"),
        ("🚨☎️👨‍👩‍👧", "〓〓〓〓〓"),
        ("～－∥￠￡￢", "～－∥￠￡￢"),
        ("A1!\u00a5\u203e", "A1!〓〓"),
        ("高い所へ、逃げて。\n川※", "高い所へ、逃げて。\n川※"),
        ("a\u200bb\tc\u3000d", "ab c\u3000d"),
    ],
)
def test_letters_that_not_every_telephone_shows_are_widened_or_replaced(written: str, shown: str) -> None:
    assert plain(written) == shown


# Dry run, folders, settings


async def test_a_dry_run_writes_beside_the_outlet_and_is_not_called_delivered(tmp_path: Path) -> None:
    async with open_mail(tmp_path, dry_run=True) as channel:
        assert "dry run" in channel.health().detail
        outcome = await channel.deliver(a_delivery(an_entry()))
    assert not outcome.sent
    assert "dry run" in outcome.detail
    assert not list(tmp_path.glob("*.json"))
    [path] = (tmp_path / "dry-run").glob("one-*.json")
    assert json.loads(path.read_text(encoding="utf-8"))["dry_run"] is True


async def test_a_dry_run_of_an_address_calls_nobody(tmp_path: Path) -> None:
    far = Drop(name="one", url="https://gateway.example.jp/mail")
    async with UrgentMail(
        "mail", config(far, dry_run=True, dry_run_folder=str(tmp_path)), FakeHub()
    ) as channel:
        assert not (
            await channel.deliver(a_delivery(an_entry()))
        ).sent  # the fake hub has no session to call with
    assert list(tmp_path.glob("one-*.json"))


async def test_a_folder_that_hangs_is_given_up_and_the_loop_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe_in, pipe_out = os.pipe()
    monkeypatch.setattr("lalert_adapters.urgentmail.write", lambda *_, **__: os.read(pipe_in, 1))
    monkeypatch.setattr("lalert_adapters.urgentmail.THREADS", 2)
    try:
        async with open_mail(tmp_path) as channel:
            channel._config = config(Drop(name="one", folder=str(tmp_path)), timeout_s=0.05)
            for _ in range(2):
                with pytest.raises(TemporaryFailure, match="does not answer"):
                    await channel.deliver(a_delivery(an_entry()))
            with pytest.raises(TemporaryFailure, match="all 2 threads"):
                await channel.deliver(a_delivery(an_entry()))
            assert not channel.health().ok
            os.write(pipe_out, b"xx")
            async with asyncio.timeout(5):
                while channel._threads._under_way:
                    await asyncio.sleep(0.005)
    finally:
        os.close(pipe_out)
        os.close(pipe_in)


async def test_a_token_is_sent_and_one_that_cannot_be_read_is_a_mistake_of_the_configuration(
    tmp_path: Path,
) -> None:
    token = tmp_path / "token"
    outlet = Drop(name="one", url="https://gateway.example.jp/mail", token_file=str(token))
    with pytest.raises(ConfigError, match="token_file"):
        async with UrgentMail("mail", config(outlet), FakeHub()):
            pass
    token.write_text("geheim\n", encoding="ascii")
    async with http_rig(
        lambda hub: UrgentMail("mail", config(outlet), hub), key_header="Idempotency-Key"
    ) as rig:
        here = Drop(name="one", url=rig.url, token_file=str(token), allow_http=True)
        async with UrgentMail("mail", config(here), rig.channel._hub) as channel:  # type: ignore[attr-defined]
            await channel.deliver(a_delivery(an_entry()))
    assert rig.calls[0].headers["Authorization"] == "Bearer geheim"
    assert rig.calls[0].headers["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    ("block", "mistake"),
    [
        ({"dry_run": None}, "dry_run: is missing"),
        ({"areas": ["431001"]}, "list those"),
        ({"areas": ["432033"]}, "check digit"),
        ({"areas": ["430005"]}, "prefecture"),
        ({"areas": []}, "at least one"),
        ({"max_body": 501}, "max_body"),
        ({"outlets": [{"name": "a", "folder": "/x", "url": "https://x.example"}]}, "folder or url"),
        ({"outlets": [{"name": "a", "url": "http://x.example"}]}, "allow_http"),
        ({"outlets": [{"name": "a", "url": "https://u:p@x.example"}]}, "without user name"),
        ({"outlets": [{"name": "a", "url": "https://x.example"}], "dry_run": True}, "dry_run_folder"),
        ({"outlets": [{"name": "a", "folder": "/x"}, {"name": "a", "folder": "/y"}]}, "once each"),
    ],
)
def test_mistakes_of_the_configuration(block: dict[str, Any], mistake: str) -> None:
    good = {"areas": [HITOYOSHI], "outlets": [{"name": "a", "folder": "/x"}], "dry_run": False}
    mistakes: list[str] = []
    given = {name: value for name, value in (good | block).items() if value is not None}
    read(UrgentMailConfig, given, "", mistakes)
    assert any(mistake in one for one in mistakes), mistakes


def test_the_page_shows_a_block_that_holds() -> None:
    page = (ROOT / "docs" / "adapters" / "urgentmail.md").read_text(encoding="utf-8")
    block = tomllib.loads(page.split("```toml\n")[1].split("```")[0])["adapters"]["urgentmail"]
    mistakes: list[str] = []
    read(UrgentMailConfig, block, "", mistakes)
    assert not mistakes
    example = json.loads(page.split("```json\n")[1].split("```")[0])
    golden = json.loads((GOLDEN / "own-words.json").read_text(encoding="utf-8"))
    assert example == golden


async def test_canaries_do_not_fill_the_folder_of_an_outlet_and_name_no_area(tmp_path: Path) -> None:
    async with open_mail(tmp_path, dry_run=True) as channel:
        for token in ("first", "second"):
            await channel.canary("one", token)
        with pytest.raises(PermanentFailure):
            await channel.canary("two", "third")
    [path] = tmp_path.iterdir()
    document = json.loads(path.read_text(encoding="utf-8"))
    assert (document["id"], document["format"]) == ("second", "lalert-urgentmail-canary/1")
    assert document["answer"].endswith("/v1/canaries/second")
    assert "areas" not in document


async def test_a_preview_says_why_no_telephone_would_ring(tmp_path: Path) -> None:
    async with open_mail(tmp_path) as channel:
        [note] = channel.preview(an_entry(msg_type="Update", references=[make_alert()]), None).parts
        assert "cannot update" in note.text
        shown = {part.name: part for part in channel.preview(an_entry(), None).parts}
    assert (shown["title"].used, shown["title"].limit, shown["body"].limit) == (15, 15, 200)
