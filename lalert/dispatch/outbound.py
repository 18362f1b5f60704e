"""The only way out by HTTP: a session that checks the address it really connects to, follows no redirect and takes no proxy.

A guard in front of the resolver is not enough: every IP literal passes it by (127.0.0.1, ::ffff:127.0.0.1, full-width digits, all measured), and a
name may resolve to something else the second time. So the check stands where the socket is made, on the very address that it will connect to.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from types import SimpleNamespace
from typing import Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

Network = IPv4Network | IPv6Network

_REFUSED_V4: Final = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",  # "this network": Linux connects 0.0.0.0 to itself
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT; cloud metadata in places
        "127.0.0.0/8",
        "169.254.0.0/16",  # link-local; cloud metadata
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
_GLOBAL_V6: Final = IPv6Network("2000::/3")
"""All that IANA has given out as global unicast. Outside of it are loopback, v4-mapped and v4-compatible addresses, NAT64 (64:ff9b::/96),
unique local, link-local, site-local (fec0::/10) and multicast ones: `ipaddress.is_global` calls several of these global."""
_REFUSED_V6: Final = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",  # protocol assignments: Teredo (any IPv4 inside), ORCHID, benchmarks
        "2001:db8::/32",
        "2002::/16",  # 6to4: any IPv4 inside
        "3fff::/20",
    )
)
_PRIVILEGED: Final = 1024
_WEB_PORTS: Final = frozenset({80, 443})
_LOOKUPS: Final = 64
_HEADER_BYTES: Final = 8_190


class RefusedAddress(PermissionError):
    """The hub does not call this address; the text names no address, because it is shown to whoever gave the name."""

    def __init__(self, reason: str) -> None:
        super().__init__(errno.EACCES, reason)


def public(address: IPv4Address | IPv6Address) -> bool:
    """Say whether an address is one of the open Internet, by the registries of IANA and not by what it contains."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _REFUSED_V4)
    if address.scope_id is not None or address not in _GLOBAL_V6:
        return False
    return not any(address in network for network in _REFUSED_V6)


def check_address(host: str, port: int, allow: Sequence[Network] = ()) -> None:
    """Raise `RefusedAddress` unless the hub may connect to this numeric address and port.

    Networks in `allow` are called whatever they are, on every port; elsewhere ports below 1024 other than 80 and 443 are refused, so that nobody
    makes the hub speak to a mail server.
    """
    try:
        address = ip_address(host)
    except ValueError:
        raise RefusedAddress("the address is not in its plain numeric form") from None
    if any(address.version == network.version and address in network for network in allow):
        return
    if not public(address):
        raise RefusedAddress("the address is not a public one; an operator may allow it in [outbound]")
    if port < _PRIVILEGED and port not in _WEB_PORTS:
        raise RefusedAddress("the port is reserved for another service than HTTP")


def guarded_session(
    allow: Sequence[Network] = (), *, resolver: AbstractResolver | None = None
) -> aiohttp.ClientSession:
    """Return a session for calls to addresses that others have given; use it as an async context manager, inside a running loop.

    It refuses non-public addresses when it connects (as `aiohttp.ClientConnectorError` around `RefusedAddress`), takes no proxy from the environment, keeps no
    cookies, raises `aiohttp.TooManyRedirects` rather than follow one (pass `allow_redirects=False` to see the 3xx), and ends every call within 30 s.
    """
    networks = tuple(allow)

    def make_socket(
        info: tuple[socket.AddressFamily | int, socket.SocketKind | int, int, str, tuple[object, ...]],
    ) -> socket.socket:
        family, kind, protocol, _, target = info
        check_address(str(target[0]), int(str(target[1])), networks)
        return socket.socket(family, kind, protocol)

    tracing = aiohttp.TraceConfig()
    tracing.on_request_redirect.append(_refuse_redirect)
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            socket_factory=make_socket,
            resolver=resolver or _Resolver(),
            limit=256,
            ttl_dns_cache=30,
            dns_cache_max_size=4_096,
        ),
        timeout=aiohttp.ClientTimeout(total=30.0, sock_connect=10.0, sock_read=20.0),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        trace_configs=[tracing],
        max_line_size=_HEADER_BYTES,
        max_field_size=_HEADER_BYTES,
    )


async def _refuse_redirect(
    _session: aiohttp.ClientSession, _context: SimpleNamespace, params: aiohttp.TraceRequestRedirectParams
) -> None:
    raise aiohttp.TooManyRedirects(
        params.response.request_info, (params.response,), status=params.response.status
    )


class _Resolver(AbstractResolver):
    """getaddrinfo in threads of its own.

    The loop's pool has six threads on two cores: six names whose servers answer slowly would keep every other target's name from being resolved.
    The threads are daemons, so that a name that never answers cannot hold up the end of the process.
    """

    def __init__(self) -> None:
        self._under_way = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        if self._under_way >= _LOOKUPS:
            raise OSError(errno.EAGAIN, "too many names are being looked up")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[ResolveResult]] = loop.create_future()

        def finish(found: list[ResolveResult] | OSError | UnicodeError) -> None:
            self._under_way -= 1
            if answer.done():
                return
            if isinstance(found, list):
                answer.set_result(found)
            else:
                answer.set_exception(OSError(errno.ENOENT, "the name cannot be resolved"))

        def look_up() -> None:
            found: list[ResolveResult] | OSError | UnicodeError
            try:
                found = _numeric(
                    host,
                    socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG),
                )
            except (OSError, UnicodeError) as error:
                found = error
            try:
                loop.call_soon_threadsafe(finish, found)
            except RuntimeError:
                return  # the loop was closed meanwhile: nobody waits any more

        self._under_way += 1
        threading.Thread(target=look_up, name="lalert-dns", daemon=True).start()
        return await answer

    async def close(self) -> None:
        """Nothing to close: what still runs ends by itself."""


def _numeric(
    host: str, found: Sequence[tuple[int, int, int, str, tuple[object, ...]]]
) -> list[ResolveResult]:
    flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    return [
        ResolveResult(
            hostname=host,
            host=str(address[0]),
            port=int(str(address[1])),
            family=family,
            proto=protocol,
            flags=flags,
        )
        for family, _, protocol, _, address in found
    ]
