"""The EDXL outlet under the suite of every channel, and what is its own: envelopes that the standard's schema and this hub's own door take, files, outlets."""

from __future__ import annotations

import asyncio
import os
import tomllib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import msgspec
import pytest
from lxml import etree

from lalert import cap, registry, resources
from lalert.config import Settings
from lalert.dispatch import guarded_session
from lalert.errors import BadRequest, ConfigError, PermanentFailure, TemporaryFailure
from lalert.model import Delivery, Entry, Filter, MsgType, Status, Subscription
from lalert.plugin import CANARY_TITLE, HubApi
from lalert.testing import make_alert, make_cap
from lalert.testing.channel import Answer, ChannelContract, Received, delivery, subscription, until
from lalert.testing.farend import LOOPBACK, http_rig
from lalert.testing.hub import FakeHub
from lalert.testing.node import running_node
from lalert_adapters.edxl import Edxl, EdxlConfig, Outlet

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "data" / "edxl_outlet"
DE = "{urn:oasis:names:tc:emergency:EDXL:DE:1.0}"
HITOYOSHI = "432032"
WHEN = datetime(2020, 7, 4, 4, 50, 1, 500, tzinfo=UTC)


@cache
def schema() -> etree.XMLSchema:
    return etree.XMLSchema(etree.fromstring(resources.schema("edxl-de-1.0.xsd")))


def checked(document: bytes) -> etree._Element:
    """Return an envelope's root; fails unless it agrees with the schema."""
    root = etree.fromstring(document)
    schema().assertValid(root)
    return root


def own(outlet: str = "one") -> Subscription:
    return replace(subscription("edxl", outlet, "edxl"), id=f"edxl.{outlet}")


@dataclass
class FolderRig:
    channel: Edxl
    folder: Path
    subscription: Subscription = field(default_factory=own)

    def answer(self, how: Answer) -> None:
        # A share that is not mounted: the folder is not there.
        away = self.folder.with_suffix(".away")
        if how is Answer.TEMPORARY:
            self.folder.rename(away)
        elif away.exists():
            away.rename(self.folder)

    def received(self) -> Sequence[Received]:
        assert not [path for path in self.folder.iterdir() if path.name.startswith(".")]
        return [self._read(path.read_bytes()) for path in sorted(self.folder.glob("*.xml"))]

    @staticmethod
    def _read(document: bytes) -> Received:
        return Received(str(checked(document).findtext(f"{DE}distributionID")), document.decode())


class TestByHttp(ChannelContract):
    answers = frozenset(Answer) - {Answer.GONE}

    @asynccontextmanager
    async def rig(self) -> AsyncIterator[Any]:
        def make(hub: HubApi) -> Edxl:
            # The address is known once the far end listens, the outlet is its name.
            return Edxl("edxl", EdxlConfig(outlets=(Outlet(name="one", url=url[0], allow_http=True),)), hub)

        url = ["http://127.0.0.1:1/"]
        async with http_rig(make, key_header="Idempotency-Key") as rig:
            url[0] = rig.url
            async with make(rig.channel._hub) as channel:  # type: ignore[attr-defined]
                rig.channel, rig.subscription = channel, own()
                yield rig


class TestByFolder(ChannelContract):
    answers = frozenset({Answer.OK, Answer.TEMPORARY})

    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path) -> None:
        self.path = tmp_path

    @asynccontextmanager
    async def rig(self) -> AsyncIterator[FolderRig]:  # type: ignore[override]
        folder = self.path / f"drop{len(list(self.path.iterdir()))}"
        folder.mkdir()
        async with open_outlet(folder) as channel:
            yield FolderRig(channel, folder)

    async def test_every_attempt_carries_the_same_key(self) -> None:
        """And is the same file: a second attempt leaves one."""
        async with self.rig() as rig:
            first = delivery(rig.subscription)
            for attempt in (1, 2, 3):
                await rig.channel.deliver(replace(first, attempt=attempt))
            assert len(rig.received()) == 1


@asynccontextmanager
async def open_outlet(folder: Path, hub: FakeHub | None = None, **changes: Any) -> AsyncIterator[Edxl]:
    config = EdxlConfig(outlets=(Outlet(name="one", folder=str(folder), **changes),))
    async with Edxl("edxl", config, hub or FakeHub()) as channel:
        yield channel


def an_entry(stored: datetime = WHEN, **changes: Any) -> Entry:
    changes = {
        "identifier": "order-1",
        "sent": "2020-07-04T13:50:00+09:00",
        "expires": datetime(2020, 7, 4, 12, tzinfo=UTC),
        **changes,
    }
    alert = make_alert(**changes)
    return replace(delivery(own()).entry, alert=alert, received=stored, stored=stored, incident=alert.id)


def a_delivery(entry: Entry) -> Delivery:
    return Delivery("key-of-this-delivery", entry, own(), 1)


async def written(folder: Path, entry: Entry) -> bytes:
    """Return the one envelope that an alert becomes."""
    async with open_outlet(folder) as channel:
        assert (await channel.deliver(a_delivery(entry))).detail == "written"
    [path] = folder.glob("*.xml")
    return path.read_bytes()


# Envelopes


ORIGINAL = an_entry().alert
MESSAGES: dict[str, dict[str, Any]] = {
    "order": {},
    "update": {"identifier": "order-2", "msg_type": MsgType.UPDATE, "references": [ORIGINAL]},
    "cancel": {"identifier": "order-3", "msg_type": MsgType.CANCEL, "references": [ORIGINAL], "note": "誤報"},
    "exercise": {"identifier": "drill-1", "status": Status.EXERCISE},
    "test": {"identifier": "test-1", "status": Status.TEST},
}


@pytest.mark.parametrize("name", MESSAGES)
async def test_golden_envelopes(name: str, tmp_path: Path) -> None:
    document = await written(tmp_path, an_entry(**MESSAGES[name]))
    checked(document)
    assert document == (GOLDEN / f"{name}.xml").read_bytes()


@pytest.mark.parametrize("name", MESSAGES)
async def test_this_hubs_own_door_reads_the_same_alert_and_finds_nothing_wrong(
    name: str, tmp_path: Path
) -> None:
    entry = an_entry(**MESSAGES[name])
    document = await written(tmp_path, entry)
    read = cap.parse(document)
    assert read == entry.alert
    assert read.id == entry.alert.id
    assert read.raw == cap.bare(entry.alert.raw), "the document in the envelope was changed"
    assert read.defects == cap.parse(entry.alert.raw).defects


@pytest.mark.parametrize("status", [Status.ACTUAL, Status.EXERCISE, Status.TEST, Status.SYSTEM])
@pytest.mark.parametrize(
    ("msg_type", "distribution_type"),
    [("Alert", "Report"), ("Update", "Update"), ("Cancel", "Cancel"), ("Ack", "Ack"), ("Error", "Error")],
)
async def test_status_and_type_are_the_alerts(
    status: Status, msg_type: str, distribution_type: str, tmp_path: Path
) -> None:
    references = [] if msg_type == "Alert" else [ORIGINAL]
    entry = an_entry(status=status, msg_type=msg_type, references=references, note="note")
    root = checked(await written(tmp_path, entry))
    assert root.findtext(f"{DE}distributionStatus") == status
    assert root.findtext(f"{DE}distributionType") == distribution_type


async def test_a_document_above_64_kb_is_put_into_its_envelope_off_the_event_loop(tmp_path: Path) -> None:
    class Watched(FakeHub):
        def body(self, entry: Entry, format: str = "json", lang: str | None = None) -> bytes:
            with pytest.raises(RuntimeError):
                asyncio.get_running_loop()
            return super().body(entry, format, lang)

    async with open_outlet(tmp_path, Watched()) as channel:
        await channel.deliver(a_delivery(an_entry(description="長" * 30_000)))


# Files


async def test_names_sort_as_alerts_were_accepted(tmp_path: Path) -> None:
    moments = [WHEN + timedelta(microseconds=n) for n in (0, 1, 10, 999_999, 10**7, 59 * 10**6, 10**12)]
    async with open_outlet(tmp_path) as channel:
        for number, moment in reversed(list(enumerate(moments))):
            await channel.deliver(a_delivery(an_entry(moment, identifier=f"order-{number}")))
    found = [cap.parse(path.read_bytes()).identifier for path in sorted(tmp_path.iterdir())]
    assert found == [f"order-{number}" for number in range(len(moments))]


async def test_nobody_sees_half_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    sync = os.fsync

    def watched(descriptor: int) -> None:
        seen.append([path.name for path in tmp_path.iterdir() if not path.name.startswith(".")])
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    await written(tmp_path, an_entry())
    assert seen[0] == [], "the file had its name before it was on disk"
    assert len(seen[-1]) == 1, "the folder was not synced after the file had its name"


async def test_a_disk_that_is_full_is_said_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    async with open_outlet(tmp_path) as channel:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(TemporaryFailure, match="No space left"):
                await channel.deliver(a_delivery(an_entry()))
            assert "outlet one: the folder cannot be written" in channel.health().detail
        assert not list(tmp_path.iterdir())
        await channel.deliver(a_delivery(an_entry()))
        assert channel.health().ok


# By HTTP


async def test_an_envelope_goes_out_under_the_standards_name_with_the_token(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("secret-of-the-prefecture\n", encoding="ascii")

    def make(hub: HubApi) -> Edxl:
        return Edxl("edxl", EdxlConfig(outlets=(Outlet(name="x", folder=str(tmp_path)),)), hub)

    async with http_rig(make, key_header="Idempotency-Key") as rig, guarded_session([LOOPBACK]) as session:
        outlet = Outlet(name="one", url=rig.url, allow_http=True, token_file=str(token))
        async with Edxl("edxl", EdxlConfig(outlets=(outlet,)), FakeHub(session=session)) as channel:
            await channel.deliver(a_delivery(an_entry()))
        [call] = rig.calls
    assert call.headers["Content-Type"] == "application/edxl+xml"
    assert call.headers["Authorization"] == "Bearer secret-of-the-prefecture"
    assert call.headers["Idempotency-Key"] == "key-of-this-delivery"
    checked(call.body.encode())


# The canary


async def test_a_canary_is_about_the_network_and_holds_no_alert(tmp_path: Path) -> None:
    async with open_outlet(tmp_path) as channel:
        await channel.canary("one", "token-1")
        with pytest.raises(PermanentFailure, match="not in the configuration"):
            await channel.canary("two", "token-1")
    [path] = tmp_path.iterdir()
    assert path.name == "canary-token-1.xml"
    root = checked(path.read_bytes())
    assert root.findtext(f"{DE}distributionStatus") == "System"
    assert root.findtext(f".//{DE}contentDescription") == CANARY_TITLE
    with pytest.raises(Exception, match="holds no CAP alert"):
        cap.parse(path.read_bytes())


# Outlets and their subscriptions


async def test_each_outlet_has_one_subscription_and_none_is_left_of_an_outlet_that_went(
    tmp_path: Path,
) -> None:
    hub = FakeHub(saved={"edxl.gone": own("gone")})
    async with open_outlet(tmp_path, hub, areas=("43",)) as channel:
        await _run_until(channel, lambda: set(hub.saved) == {"edxl.one"})
    assert hub.saved["edxl.one"].filter == Filter(areas=frozenset({"43"}))
    async with open_outlet(
        tmp_path, hub, drills=True
    ) as channel:  # and one whose configuration changed is replaced
        await _run_until(channel, lambda: hub.saved["edxl.one"].filter.statuses != frozenset({Status.ACTUAL}))
    assert hub.saved["edxl.one"].filter == Filter(
        statuses=frozenset({Status.ACTUAL, Status.EXERCISE, Status.TEST})
    )


async def _run_until(channel: Edxl, true: Any) -> None:
    task = asyncio.ensure_future(channel.run())
    try:
        await until(lambda: true() or task.done(), 5)
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_nobody_but_the_configuration_can_write_to_an_outlet(tmp_path: Path) -> None:
    async with open_outlet(tmp_path) as channel:
        channel.check_subscription(own())
        for foreign in (subscription("edxl", "one"), own("two"), replace(own(), target="two")):
            with pytest.raises(BadRequest, match="configuration"):
                channel.check_subscription(foreign)
        gone = replace(a_delivery(an_entry()), subscription=own("two"))
        with pytest.raises(PermanentFailure, match="not in the configuration"):
            await channel.deliver(gone)


@pytest.mark.parametrize(
    "outlets",
    [
        [],
        [{"name": "one", "folder": "a"}, {"name": "one", "folder": "b"}],
        [{"name": "one"}],
        [{"name": "one", "folder": "a", "url": "https://a.example/"}],
        [{"name": "one", "url": "http://a.example/"}],
        [{"name": "one", "folder": "a", "areas": ["人吉"]}],
        [{"name": "one", "folder": "a", "area": ["43"]}],
    ],
)
def test_a_configuration_that_will_not_do_is_refused(outlets: list[dict[str, Any]]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"outlets": outlets}, EdxlConfig)


async def test_a_token_that_cannot_be_read_stops_the_start() -> None:
    outlet = Outlet(name="one", url="https://a.example/", token_file="/no/such/file")
    with pytest.raises(ConfigError, match="one: token_file"):
        async with Edxl("edxl", EdxlConfig(outlets=(outlet,)), FakeHub()):
            pass


def test_the_blocks_on_its_page_and_in_the_example_hold() -> None:
    page = (ROOT / "docs/adapters/edxl.md").read_text(encoding="utf-8")
    example = (ROOT / "examples/lalert.toml").read_text(encoding="utf-8")
    commented = example.split("# [adapters.edxl]")[1].split("\n\n")[0].splitlines()[1:]
    for block in (
        page.split("```toml\n[adapters.edxl]\n")[1].split("```")[0],
        "\n".join(line.removeprefix("# ") for line in commented),
    ):
        read = tomllib.loads(block.replace("[[adapters.edxl.outlets]]", "[[outlets]]"))
        assert msgspec.convert(read, EdxlConfig).outlets


# In a whole hub


async def test_what_the_outlet_writes_comes_in_at_the_door_as_the_same_alert(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = EntryPoint("edxl", "lalert_adapters.edxl:Edxl", registry.GROUP)
    others = registry.installed()
    monkeypatch.setattr(registry, "installed", lambda: others | {"edxl": point})
    folder = tmp_path / "out"
    folder.mkdir()
    block = {"outlets": [{"name": "prefecture", "folder": str(folder), "areas": ["43"]}]}
    async with running_node(tmp_path / "data", Settings(adapters={"edxl": block})) as node:
        async with asyncio.timeout(10):
            while not await node.node.dispatcher.subscriptions():
                await asyncio.sleep(0.01)
        document = cap.bare(make_cap())
        status, first = await node.post(document)
        assert status == 201
        # A reader too looks at finished names only.
        await until(lambda: list(folder.glob("*.xml")))
        [path] = folder.glob("*.xml")
        status, again = await node.post(path.read_bytes(), content_type="application/edxl+xml")
        assert (status, again["url"], again["position"]) == (200, first["url"], first["position"])
        assert "problems" not in again
        drill = make_cap(status=Status.EXERCISE)
        assert (await node.post(drill))[0] == 201
        assert (await node.post(cap.bare(make_cap(headline="次"))))[0] == 201
        await until(lambda: len(list(folder.glob("*.xml"))) == 2)
        assert all(cap.parse(each.read_bytes()).status is Status.ACTUAL for each in folder.glob("*.xml"))
