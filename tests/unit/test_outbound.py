"""TESTS S3: whatever form an address takes, nothing that is not public is ever connected to."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import aiohttp
import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from hypothesis import given
from hypothesis import strategies as st

from lalert.dispatch import outbound
from lalert.dispatch.outbound import RefusedAddress, check_address, guarded_session, public

LOOPBACK = ip_network("127.0.0.0/8")

HOSTS = [
    "127.0.0.1",
    "127.8.9.10",
    "127.1",
    "127.0.1",
    "2130706433",
    "0x7f000001",
    "0x7f.0.0.1",
    "0177.0.0.1",
    "017700000001",
    "127.0.0.1.",
    "localhost",
    "localhost.",
    "LOCALHOST",
    "0.0.0.0",
    "0",
    "[::1]",
    "[::]",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[::ffff:0:127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b:1::7f00:1]",
    "[2002:7f00:1::]",
    "[2001:0:7f00:1::]",
    "[2001:db8::1]",
    "[fe80::1]",
    "[fe80::1%25lo]",
    "[fec0::1]",
    "[fc00::1]",
    "[fd12:3456::1]",
    "[ff02::1]",
    "[100::1]",
    "１２７.0.0.1",
    "１２７．０．０．１",
    "127。0。0。1",
    "①②⑦.⓪.⓪.①",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "192.0.0.8",
    "198.18.0.1",
    "192.88.99.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
]


class Names(AbstractResolver):
    """Resolves every name to the next of its answers, and remembers the last."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        address = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        kind = socket.AF_INET6 if ":" in address else socket.AF_INET
        return [ResolveResult(hostname=host, host=address, port=port, family=kind, proto=0, flags=0)]

    async def close(self) -> None:
        pass


class Listener:
    """A server on every loopback address of this machine that counts who connects."""

    def __init__(self) -> None:
        self.hits: list[str] = []
        self.port = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.hits.append(request.path)
        if request.path == "/redirect":
            raise web.HTTPFound("/target")
        answer = web.Response(text=request.headers.get("Cookie", "none"))
        answer.set_cookie("track", "me")
        return answer


@asynccontextmanager
async def listening() -> AsyncIterator[Listener]:
    listener = Listener()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", listener.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        sock = socket.create_server(("", 0), family=socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET,
                                    dualstack_ipv6=socket.has_dualstack_ipv6())  # fmt: skip
        await web.SockSite(runner, sock).start()
        listener.port = sock.getsockname()[1]
        yield listener
    finally:
        await runner.cleanup()


def why(error: BaseException) -> BaseException:
    """Return what is at the bottom of an aiohttp error."""
    return error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error


@pytest.mark.parametrize("host", HOSTS)
async def test_no_form_of_an_inner_address_is_connected_to(host: str) -> None:
    async with listening() as listener, guarded_session() as session:
        with pytest.raises((aiohttp.ClientConnectorError, aiohttp.InvalidURL)) as caught:
            await session.post(f"http://{host}:{listener.port}/", data=b"x")
        # Where "localhost." is no name at all the refusal is the name server's; every other form is ours.
        assert isinstance(why(caught.value), RefusedAddress | aiohttp.InvalidURL) or host == "localhost."
        assert listener.hits == []


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "10.1.2.3", "fe80::1%lo", "not-an-address"],
)
async def test_a_name_that_resolves_to_an_inner_address_is_refused(address: str) -> None:
    async with listening() as listener, guarded_session(resolver=Names(address)) as session:
        with pytest.raises(aiohttp.ClientConnectorError) as caught:
            await session.get(f"http://receiver.example:{listener.port}/")
        assert isinstance(caught.value.os_error, RefusedAddress)
        assert listener.hits == []


async def test_a_name_that_resolves_to_something_else_the_second_time_is_refused() -> None:
    async with (
        listening() as listener,
        guarded_session([ip_network("127.0.0.1/32")], resolver=Names("127.0.0.1", "127.0.0.2")) as session,
    ):
        url = f"http://receiver.example:{listener.port}"
        async with session.get(f"{url}/first", headers={"Connection": "close"}) as response:
            assert response.status == 200
        assert isinstance(session.connector, aiohttp.TCPConnector)
        session.connector.clear_dns_cache()
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get(f"{url}/second")
        assert listener.hits == ["/first"]


async def test_the_refusal_tells_no_inner_address() -> None:
    async with guarded_session(resolver=Names("10.20.30.40")) as session:
        with pytest.raises(aiohttp.ClientConnectorError) as caught:
            await session.get("http://receiver.example/")
        assert "10.20.30.40" not in str(caught.value.os_error)


async def test_a_redirect_is_not_followed_even_by_a_caller_who_forgot_to_say_so() -> None:
    async with listening() as listener, guarded_session([LOOPBACK]) as session:
        url = f"http://127.0.0.1:{listener.port}/redirect"
        with pytest.raises(aiohttp.TooManyRedirects):
            await session.get(url)
        async with session.get(url, allow_redirects=False) as response:
            assert response.status == 302
        assert listener.hits == ["/redirect", "/redirect"]


async def test_no_cookie_is_kept() -> None:
    async with listening() as listener, guarded_session([LOOPBACK]) as session:
        for _ in range(2):
            async with session.get(f"http://127.0.0.1:{listener.port}/") as response:
                assert await response.text() == "none"


async def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with listening() as target, listening() as proxy, guarded_session([LOOPBACK]) as session:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        async with session.get(f"http://127.0.0.1:{target.port}/") as response:
            assert response.status == 200
        assert (len(target.hits), len(proxy.hits)) == (1, 0)


async def test_a_network_that_the_operator_allows_is_called_on_any_port() -> None:
    async with listening() as listener, guarded_session([LOOPBACK], resolver=Names("127.0.0.1")) as session:
        response = await session.get(f"http://receiver.example:{listener.port}/")
        assert response.status == 200
    check_address("127.0.0.1", 25, [LOOPBACK])


def test_an_allowed_network_lets_nothing_else_in() -> None:
    for host in ("10.0.0.1", "::ffff:127.0.0.1", "::1"):
        with pytest.raises(RefusedAddress):
            check_address(host, 80, [LOOPBACK])


@pytest.mark.parametrize("port", [22, 25, 110, 445])
def test_no_other_service_than_http_is_called_on_a_public_address(port: int) -> None:
    with pytest.raises(RefusedAddress):
        check_address("8.8.8.8", port)


@pytest.mark.parametrize("port", [80, 443, 8443])
def test_a_public_address_is_called(port: int) -> None:
    check_address("8.8.8.8", port)
    check_address("2606:4700::1111", port)


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)))
def test_nothing_that_python_calls_private_is_public(address: IPv4Address | IPv6Address) -> None:
    assert not public(address) or (address.is_global and not address.is_multicast)


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_wrapped_in_ipv6_is_never_public(inner: IPv4Address) -> None:
    number = int(inner)
    for wrapped in (
        number,
        0xFFFF << 32 | number,
        0x64FF9B << 96 | number,
        0x2002 << 112 | number << 80,
        0x20010000 << 96 | number,
    ):
        assert not public(ip_address(IPv6Address(wrapped).exploded)), IPv6Address(wrapped)


@asynccontextmanager
async def stuck_names(
    monkeypatch: pytest.MonkeyPatch, resolver: AbstractResolver, number: int
) -> AsyncIterator[None]:
    """Let `number` look-ups hang in their name servers."""
    answered = threading.Event()
    real = socket.getaddrinfo

    def slow(host: str, *rest: object, **named: object) -> object:
        if host == "slow.example":
            answered.wait(30)
            raise socket.gaierror("no such name")
        return real(host, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    waiting = [asyncio.ensure_future(resolver.resolve("slow.example", 80)) for _ in range(number)]
    await asyncio.sleep(0)
    try:
        yield
    finally:
        answered.set()
        for outcome in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(outcome, OSError)


async def test_names_that_never_answer_keep_nobody_elses_name_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolver = outbound._Resolver()
    async with stuck_names(monkeypatch, resolver, 40), asyncio.timeout(2):
        assert (await resolver.resolve("localhost", 80))[0]["host"]


async def test_look_ups_under_way_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    resolver = outbound._Resolver()
    async with stuck_names(monkeypatch, resolver, 64):
        with pytest.raises(OSError, match="too many names"):
            await resolver.resolve("localhost", 80)
    assert await resolver.resolve("localhost", 80)
