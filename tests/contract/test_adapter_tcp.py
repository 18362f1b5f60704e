"""CAP over TCP against a whole hub, with a receiver that is written to docs/adapters/tcp.md and to nothing else."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trustme

from lalert import cap
from lalert.clock import Clock, SystemClock
from lalert.config import Settings
from lalert.errors import ConfigError
from lalert.hub import AdapterHub
from lalert.model import Alert, Scope, Severity, Status
from lalert.testing import make_cap
from lalert.testing.channel import until
from lalert.testing.node import ORG, RunningNode, running_node
from lalert_adapters.tcp import Tcp, TcpConfig

POSITION = re.compile(rb"\n<!-- position ([!-~]+) -->\n$")
QUICK: dict[str, Any] = {"port": 0, "hello_s": 0.1, "heartbeat_s": 0.1}


@dataclass
class Receiver:
    """What is received, and where to go on: kept over connections."""

    documents: list[bytes] = field(default_factory=list)
    heartbeats: list[Alert] = field(default_factory=list)
    position: str = ""

    async def connect(self, port: int, context: ssl.SSLContext | None = None) -> None:
        self.reader, self.writer = await asyncio.open_connection(
            "127.0.0.1", port, limit=2**22, ssl=context, server_hostname="127.0.0.1" if context else None
        )
        if self.position:
            self.writer.write(f"AFTER {self.position}\n".encode())

    async def read(self) -> Alert:
        """Read to the next NUL; what the connection breaks off in is thrown away."""
        async with asyncio.timeout(5):
            chunk = await self.reader.readuntil(b"\0")
        found = POSITION.search(chunk[:-1])
        if found:
            self.position = found[1].decode()
        document = chunk[: found.start()] if found else chunk[:-1]
        cap.parse(chunk[:-1].strip())  # with its comment it is well-formed too
        alert = cap.parse(document.strip())
        if alert.status is Status.SYSTEM:
            self.heartbeats.append(alert)
        else:
            self.documents.append(document)
        return alert

    async def documents_until(self, count: int) -> list[bytes]:
        async with asyncio.timeout(10):
            while len(self.documents) < count:
                await self.read()
        return self.documents

    async def told(self) -> str:
        """Return the note of the System document that comes before the hub closes."""
        while not (note := (await self.read()).note):
            pass
        async with asyncio.timeout(5):
            assert await self.reader.read() == b""
        return note

    def close(self) -> None:
        self.writer.transport.abort()


class LateClock(SystemClock):
    """An hour ahead."""

    def now(self) -> datetime:
        return super().now() + timedelta(hours=1)


class AnHourLater(AdapterHub):
    """A hub that goes on being asked an hour later."""

    @property
    def clock(self) -> Clock:
        return LateClock()


@asynccontextmanager
async def serving(tmp_path: Path, **config: Any) -> AsyncIterator[tuple[RunningNode, Tcp]]:
    async with running_node(tmp_path / "data") as node:
        hub = AdapterHub(node.node.hub, "tcp", ORG, node.http)
        async with Tcp("tcp", TcpConfig(**(QUICK | config)), hub) as adapter:
            yield node, adapter


@asynccontextmanager
async def receiving(port: int, context: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    receiver = Receiver()
    await receiver.connect(port, context)
    try:
        yield receiver
    finally:
        receiver.close()


async def post(node: RunningNode, **about: Any) -> bytes:
    raw = make_cap(**about)
    status, said = await node.post(raw)
    assert status == 201, said
    return raw


async def test_documents_come_byte_for_byte_in_order_and_heartbeats_name_them(tmp_path: Path) -> None:
    async with serving(tmp_path) as (node, adapter), receiving(adapter.port) as receiver:
        first = await receiver.read()
        assert first.status is Status.SYSTEM
        assert not first.references
        posted = [await post(node) for _ in range(3)]
        assert await receiver.documents_until(3) == posted
        beats = len(receiver.heartbeats)
        while len(receiver.heartbeats) < beats + 2:
            await receiver.read()
        named = [reference.id for reference in receiver.heartbeats[-1].references]
        assert named == [cap.parse(raw).id for raw in posted]
        assert len({beat.identifier for beat in receiver.heartbeats}) == len(receiver.heartbeats)


async def test_who_is_torn_off_within_a_document_resumes_and_misses_nothing_and_sees_nothing_twice(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as (node, adapter), receiving(adapter.port) as receiver:
        await receiver.read()
        posted = [await post(node)]
        await receiver.documents_until(1)
        posted += [await post(node) for _ in range(4)]
        torn = b""
        while b"<identifier>" not in torn or b"<status>Actual" not in torn:
            torn = await receiver.reader.readexactly(len(torn) + 500)
        receiver.close()
        posted.append(await post(node))
        await receiver.connect(adapter.port)
        assert await receiver.documents_until(6) == posted
        await post(node, identifier="last")
        assert cap.parse((await receiver.documents_until(7))[-1]).identifier == "last"


async def test_who_joins_in_the_middle_of_a_document_is_in_step_after_the_next_nul(tmp_path: Path) -> None:
    async with serving(tmp_path) as (node, adapter), receiving(adapter.port) as receiver:
        await receiver.read()
        text = make_cap().decode().replace("球磨川の水位", "<![CDATA[</alert>]]>")
        assert (await node.post(text.encode()))[0] == 201
        await receiver.reader.readuntil(b"CDATA")
        await receiver.reader.readuntil(b"\0")
        wanted = await post(node)
        assert await receiver.documents_until(1) == [wanted]


async def test_who_comes_without_a_position_reads_in_the_heartbeat_what_was_before(tmp_path: Path) -> None:
    async with serving(tmp_path) as (node, adapter):
        before = cap.parse(await post(node))
        async with receiving(adapter.port) as receiver:
            beat = await receiver.read()
            assert [reference.id for reference in beat.references] == [before.id]
            async with node.http.get(
                f"{node.url}/alerts/{before.id}", headers={"Accept": "application/cap+xml"}
            ) as answer:
                assert await answer.read() == before.raw
            after = await post(node)
            assert await receiver.documents_until(1) == [after]


async def test_what_comes_while_the_first_line_is_waited_for_is_sent(tmp_path: Path) -> None:
    async with serving(tmp_path, hello_s=0.3) as (node, adapter):
        await post(node)
        async with receiving(adapter.port) as receiver:
            await asyncio.sleep(0.1)
            posted = await post(node)
            assert await receiver.documents_until(1) == [posted]


@pytest.mark.parametrize("drills", [False, True])
async def test_drills_come_only_to_a_port_that_asks_for_them(tmp_path: Path, drills: bool) -> None:
    async with serving(tmp_path, drills=drills) as (node, adapter), receiving(adapter.port) as receiver:
        await receiver.read()
        drill = await post(node, status=Status.EXERCISE)
        real = await post(node)
        wanted = [drill, real] if drills else [real]
        assert await receiver.documents_until(len(wanted)) == wanted


async def test_a_port_sends_only_what_its_filter_wants_and_nothing_that_is_not_public(tmp_path: Path) -> None:
    config = {"min_severity": Severity.SEVERE}
    async with serving(tmp_path, **config) as (node, adapter), receiving(adapter.port) as receiver:
        await receiver.read()
        await post(node, severity="Minor", level=None)
        await post(node, scope=Scope.RESTRICTED, restriction="staff")
        wanted = await post(node)
        assert await receiver.documents_until(1) == [wanted]


async def test_what_has_expired_is_not_sent_to_who_resumes(tmp_path: Path) -> None:
    async with running_node(tmp_path / "data") as node:
        node_hub = AnHourLater(node.node.hub, "tcp", None, node.http)
        async with Tcp("tcp", TcpConfig(**QUICK), node_hub) as adapter:
            await post(node)
            async with receiving(adapter.port) as receiver:
                await receiver.read()
            await post(node, expires=datetime.now(UTC) + timedelta(minutes=10))
            wanted = await post(node)
            await receiver.connect(adapter.port)
            assert await receiver.documents_until(1) == [wanted]
            receiver.close()


async def test_utf_16_is_sent_as_utf_8_since_its_letters_hold_nul(tmp_path: Path) -> None:
    async with serving(tmp_path) as (node, adapter), receiving(adapter.port) as receiver:
        await receiver.read()
        text = make_cap(identifier="sixteen").decode().replace("UTF-8", "UTF-16").replace("utf-8", "utf-16")
        status, said = await node.post(text.encode("utf-16"))
        assert status == 201, said
        [document] = await receiver.documents_until(1)
        assert cap.parse(document.strip()).infos[0].headline == "人吉市に避難指示を発令しました"


GARBAGE = (
    (b"GET / HTTP/1.1\r\n", "first line"),
    (b"AFTER \xff\xfe\n", "first line"),
    (b"\0" * 300, "first line"),
    (b"A" * 100_000, "first line"),
    (b"AFTER nonsense\n", "position"),
    (b"AFTER --><x>&\n", "position"),
    (b"AFTER 0 0\n", "first line"),
    (b"AFTER \n", "first line"),
)


async def test_garbage_is_answered_and_cut_off(tmp_path: Path) -> None:
    async with serving(tmp_path, hello_s=5.0) as (node, adapter):
        for line, says in GARBAGE:
            async with receiving(adapter.port) as receiver:
                receiver.writer.write(line)
                try:
                    assert says in await receiver.told(), line
                except (ConnectionResetError, asyncio.IncompleteReadError):
                    assert len(line) > 256  # what was never read makes the kernel reset the connection
        receiver = Receiver()
        await receiver.connect(adapter.port)
        receiver.writer.write(b"AFTER x")
        receiver.close()
        await until(lambda: not adapter._tasks)
        assert (await node.get("/v1/alerts"))[0] == 200


async def test_who_goes_on_talking_is_cut_off(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, adapter), receiving(adapter.port) as receiver:
        await receiver.read()
        receiver.writer.write(b"!")
        assert "nothing is read" in await receiver.told()


async def test_one_address_gets_so_many_connections_and_room_again_when_one_ends(tmp_path: Path) -> None:
    async with serving(tmp_path, per_address=1) as (_, adapter):
        async with receiving(adapter.port) as first:
            await first.read()
            async with receiving(adapter.port) as second:
                assert "from this address" in await second.told()
        await until(lambda: not adapter._tasks)
        async with receiving(adapter.port) as third:
            assert (await third.read()).note is None


async def test_a_stalled_receiver_is_cut_off_and_resumes_while_others_feel_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path, stall_s=0.1) as (node, adapter), receiving(adapter.port) as other:
        await post(node)
        await other.documents_until(1)
        stalled = socket.socket()
        stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        stalled.connect(("127.0.0.1", adapter.port))
        await until(lambda: len(adapter._tasks) == 2)
        resumed = Receiver(position=other.position)
        posted = []
        for number in range(60):
            posted.append(await post(node, description="球磨川の水位が上がっています。" * 15_000))
            await other.documents_until(2 + number)
            if len(adapter._tasks) == 1:
                break
        await until(lambda: len(adapter._tasks) == 1)
        stalled.close()
        assert other.documents[1:] == posted
        await resumed.connect(adapter.port)
        assert await resumed.documents_until(len(posted)) == posted
        resumed.close()


async def test_leaving_ends_every_connection_and_leaves_no_task(tmp_path: Path) -> None:
    async with running_node(tmp_path / "data") as node:
        adapter = Tcp("tcp", TcpConfig(**QUICK), AdapterHub(node.node.hub, "tcp", None, node.http))
        async with adapter:
            port, receiver = adapter.port, Receiver()
            await receiver.connect(port)
            await receiver.read()
        async with asyncio.timeout(5):
            rest = await receiver.reader.read()
            assert rest[-1:] in {b"", b"\0"}
        receiver.close()
        assert not [task for task in asyncio.all_tasks() if "a receiver" in task.get_name()]
        with pytest.raises(ConnectionRefusedError):
            await Receiver().connect(port)


async def test_one_block_of_configuration_is_a_port_and_a_hub_that_stops_says_so(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    receiver = Receiver()
    settings = Settings(adapters={"tcp": {"port": port, "hello_s": 0.1}})
    async with running_node(tmp_path / "data", settings) as node:
        await receiver.connect(port)
        await receiver.read()
        posted = await post(node)
        assert await receiver.documents_until(1) == [posted]
    assert "stopping" in await receiver.told()
    receiver.close()


async def test_tls_is_spoken_and_who_has_no_certificate_is_refused_where_one_is_asked_for(
    tmp_path: Path,
) -> None:
    ours = trustme.CA()
    issued = ours.issue_cert("127.0.0.1")
    files = {name: str(tmp_path / name) for name in ("cert_file", "key_file", "client_ca_file")}
    issued.cert_chain_pems[0].write_to_path(files["cert_file"])
    issued.private_key_pem.write_to_path(files["key_file"])
    ours.cert_pem.write_to_path(files["client_ca_file"])
    stranger, known = ssl.create_default_context(), ssl.create_default_context()
    for context in (stranger, known):
        ours.configure_trust(context)
    ours.issue_cert("receiver.example").configure_cert(known)
    async with serving(tmp_path, **files) as (node, adapter):
        async with receiving(adapter.port, known) as receiver:
            await receiver.read()
            posted = await post(node, scope=Scope.RESTRICTED, restriction="staff")
            assert await receiver.documents_until(1) == [posted]
        with pytest.raises((OSError, asyncio.IncompleteReadError)):
            async with receiving(adapter.port, stranger) as receiver:
                await receiver.read()


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"cert_file": "a"}, "belong together"),
        ({"areas": ["432033"]}, "check digit of 43203 is 2"),
        ({"areas": ["4320"]}, "areas"),
        ({"keys": 1}, "keys"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(config: dict[str, Any], says: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=says):
        msgspec.convert(config, TcpConfig)


async def test_a_port_or_file_that_cannot_be_had_is_a_mistake_of_the_configuration(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, adapter):
        for config in ({"port": adapter.port}, {"cert_file": "missing", "key_file": "missing"}):
            with pytest.raises(ConfigError, match=r"adapters\.second"):
                async with Tcp("second", TcpConfig(**(QUICK | config)), adapter._hub):
                    pass


def test_the_block_in_the_documentation_is_taken() -> None:
    text = Path("docs/adapters/tcp.md").read_text()
    [block] = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    msgspec.convert(tomllib.loads(block)["adapters"]["tcp"], TcpConfig)
