"""The one connection that writes: everything waiting goes out together, and nobody is told before the server has it on disk."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Self

from redis.exceptions import (
    AskError,
    AuthenticationError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as Lost

from lalert.errors import LalertError, StoreError, Unavailable
from lalert.store.redis.finding import TAG, Finder
from lalert.store.redis.scripts import Script
from lalert.store.redis.wire import Reply, Wire, Word, pack

log = logging.getLogger(__name__)

Durability = Literal["disk", "memory"]

_RETRY_SECONDS: Final = 5.0
_LOOKS: Final = 20
"""So many times within `stall_seconds` it is looked whether somebody has waited too long."""
_PAUSES: Final = (0.0, 0.05, 0.1, 0.2, 0.5)
"""Seconds between attempts to reach the primary; the last one goes on."""

_REPLICA_SECONDS: Final = 0.02
"""How long a WAITAOF waits for replicas before it is sent anew: each makes them say again what they have on disk; by themselves they do so once a second."""

_MOVED: Final = (
    ReadOnlyError,
    MovedError,
    AskError,
    ClusterDownError,
    MasterDownError,
    TryAgainError,
    NoScriptError,
)
"""What is answered by who is not the primary, or no longer the one that was asked before: it must be found again."""

_MOVED_WORDS: Final = ("UNBLOCKED", "BUSY ", "WAITAOF cannot be used with replica")
_FULL: Final = {
    "MISCONF": "Redis cannot save to its disk: make room on it, or see its log",
    "NOREPLICAS": "Redis has too few replicas that keep up (min-replicas-to-write)",
}
_OUT_OF_MEMORY: Final = "Redis has no memory left (maxmemory): give it more"


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much may wait, how much one batch takes, and how many seconds a write or a question may take before its caller is told to come back.

    `answer_seconds` is how long the server may be silent before it is looked for anew, `confirm_seconds` how long it may take at a time to
    say that a batch is on disk, `idle_seconds` how often it is asked whether it is still there when there is nothing to write.
    """

    waiting: int = 4096
    waiting_bytes: int = 64 * 1024 * 1024
    batch: int = 256
    batch_bytes: int = 4 * 1024 * 1024
    stall_seconds: float = 10.0
    answer_seconds: float = 3.0
    confirm_seconds: float = 1.0
    idle_seconds: float = 1.0
    readers: int = 4


class Write:
    """One script call on its way, as it goes over the wire; `given_up` when its caller has been told to come back."""

    __slots__ = ("done", "given_up", "packed", "reply", "script", "since", "size")

    def __init__(self, script: Script, packed: bytes, done: asyncio.Future[Reply], since: float) -> None:
        self.script = script
        self.packed = packed
        self.size = len(packed)
        self.done = done
        self.since = since
        self.reply: Reply = None
        self.given_up = False


OnConnect = Callable[[Wire], Awaitable[None]]
"""Awaited on every new connection to the primary, before anything is written on it. Raises `StoreError` where nothing may be."""

OnConfirmed = Callable[[Sequence[tuple[Script, Reply]]], None]
"""Told, on the event loop, of scripts whose effects are durable with what they replied, before their callers are answered. Must not block, wait or raise."""


async def _accept(_: Wire) -> None:
    return


def _ignore(_: Sequence[tuple[Script, Reply]]) -> None:
    return


class Link:
    """Owns the connection that writes and the line before it, and a few connections that read.

    A batch is everything waiting, up to its bounds: what a sender waits for (`urgent`), then as much again of the hub's own notes. It is sent in one
    go with a WAITAOF behind it (`durability="memory"`: with a WAIT for the replicas, if any) and answered when that has said that it is on the disk of
    the primary and of so many `replicas`. What is taken meanwhile waits for the next.

    When the connection or an answer is lost, the primary is found anew and the whole batch sent again: scripts do nothing twice. After
    `stall_seconds` the callers get `Unavailable`; whether theirs was written is then not known.
    """

    def __init__(
        self,
        finder: Finder,
        *,
        durability: Durability = "disk",
        replicas: int = 0,
        bounds: Bounds | None = None,
        on_connect: OnConnect = _accept,
        on_confirmed: OnConfirmed = _ignore,
    ) -> None:
        self._finder = finder
        self._bounds = bounds or Bounds()
        self._on_connect = on_connect
        self._on_confirmed = on_confirmed
        # A replica that is asked in one go with the batch answers before it has the batch on disk, and not again for a second.
        self._apart = durability == "disk" and replicas > 0
        seconds = (
            min(_REPLICA_SECONDS, self._bounds.confirm_seconds)
            if self._apart
            else self._bounds.confirm_seconds
        )
        self._wait = _wait_command(durability, replicas, seconds)
        self._needs = (1, replicas) if durability == "disk" else (replicas,)
        self._urgent: deque[Write] = deque()
        self._other: deque[Write] = deque()
        self._open: dict[Write, None] = {}
        self._open_bytes = 0
        self._arrived = asyncio.Event()
        self._under_way: list[Write] = []
        self._notes: list[bytes] = []
        self._loaded: set[str] = set()
        self._wire: Wire | None = None
        self._task: asyncio.Task[None] | None = None
        self._look: asyncio.TimerHandle | None = None
        self._stalled = False
        self._closing = False
        self._trouble = ""
        self._attempts = 0
        self._readers = _Readers(self, self._bounds)

    async def __aenter__(self) -> Self:
        """Reach the primary; raises `StoreError` when it is not there within `stall_seconds`, refuses the login, or `on_connect` refuses it."""
        try:
            async with asyncio.timeout(self._bounds.stall_seconds):
                await self._reach()
        except TimeoutError as error:
            raise StoreError(
                f"the store cannot be reached: {self._trouble or 'it does not answer'} Is it running, and is [store] url right?"
            ) from error
        self._task = asyncio.create_task(self._run(), name="lalert-store-link")
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Write what was taken, as far as the server answers within `stall_seconds`, and close."""
        self._closing = True
        self._arrived.set()
        if self._task is not None:
            try:
                await asyncio.wait([self._task], timeout=self._bounds.stall_seconds)
            finally:
                self._task.cancel()
                await asyncio.gather(self._task, return_exceptions=True)
        if self._look is not None:
            self._look.cancel()
        self._give_up("the store is closed")
        await self._readers.close()
        if self._wire is not None:
            await self._wire.close()

    @property
    def trouble(self) -> str:
        """Return why nothing can be written now, "" when it can."""
        return self._trouble

    async def write(
        self,
        script: Script,
        keys: Sequence[str],
        args: Sequence[Word],
        *,
        urgent: bool = False,
        first: bool = False,
    ) -> Reply:
        """Return what the script replied once its effects are durable; cancelling the wait does not take the write back.

        What goes `first` is the node's sign of life: a crowd of alerts must not make it seem dead. It passes all others, and a full line too.
        Raises `Unavailable` when the line is full or the server has stopped answering or is full, `StoreError` when the store is closed.
        """
        return await self.submit(script, keys, args, urgent=urgent, first=first)

    def submit(
        self,
        script: Script,
        keys: Sequence[str],
        args: Sequence[Word],
        *,
        urgent: bool = False,
        first: bool = False,
    ) -> asyncio.Future[Reply]:
        """Put a write into its line, as `write` does, and return what will have its reply."""
        if self._closing or self._task is None:
            raise StoreError("the store is closed")
        if self._stalled:
            raise self._gone()
        bounds, packed = self._bounds, script.call(keys, args)
        full = len(self._open) >= bounds.waiting or self._open_bytes + len(packed) > bounds.waiting_bytes
        if full and not first:
            raise Unavailable(
                "Redis cannot keep up: too many alerts are waiting to be stored", retry_after=1.0
            )
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Reply] = loop.create_future()
        write = Write(script, packed, done, loop.time())
        self._open[write] = None
        self._open_bytes += write.size
        if first:
            self._urgent.appendleft(write)
        else:
            (self._urgent if urgent else self._other).append(write)
        self._arrived.set()
        if self._look is None:
            self._look = loop.call_later(self._bounds.stall_seconds / _LOOKS, self._look_for_stall)
        return done

    def note(self, *command: Word) -> None:
        """Send a command on the connection that writes, before the next batch, and wait for nothing: a lost one must be harmless.

        Meant for `on_confirmed`. What is noted while there is no connection is dropped.
        """
        if self._wire is not None and self._wire.usable:
            self._notes.append(pack(command))
            self._arrived.set()

    async def ask(self, *command: Word) -> Reply:
        """Return the primary's answer to a command that only reads; asked again where the connection is lost.

        Raises `Unavailable` when there is none within `stall_seconds`, `StoreError` when the store is closed.
        """
        [answer] = await self.ask_all([command])
        return answer

    async def ask_all(self, commands: Sequence[Sequence[Word]]) -> list[Reply]:
        """Return the answers to commands that only read, sent in one go."""
        if self._closing or self._task is None:
            raise StoreError("the store is closed")
        return await self._readers.ask(commands)

    async def dial(self) -> Wire:
        """Return a new connection to the primary, for who reads for long, such as a follower; it is its caller's to close.

        Raises like `Wire.open`, and `Unavailable` when nobody knows the primary.
        """
        wire = Wire(await self._finder.find(), self._finder.login)
        try:
            await wire.open(self._bounds.answer_seconds)
            await self._require_primary(wire)
        except BaseException:
            await wire.close()
            raise
        return wire

    async def _run(self) -> None:
        while not self._finished():
            try:
                assert self._wire is not None
                await self._serve(self._wire)
                return
            except (RedisError, OSError, TimeoutError, LalertError) as error:
                self._note_trouble(error)
            except Exception as error:
                # The task's whole body: nothing that goes wrong here may end it, for then nobody would write any more.
                log.exception("the link to the store failed")
                self._note_trouble(error)
            await self._reach()

    def _finished(self) -> bool:
        return self._closing and not self._open

    async def _reach(self) -> None:
        """Find the primary and connect to it, again and again; a refusal on the first connection is raised."""
        first = self._wire is None
        while not self._finished():
            if self._wire is not None:
                await self._wire.close()
            self._notes.clear()
            self._loaded.clear()
            await asyncio.sleep(_PAUSES[min(self._attempts, len(_PAUSES) - 1)])
            self._attempts += 1
            wire: Wire | None = None
            try:
                wire = await self._connect()
            except NoPermissionError as error:
                if first:
                    raise StoreError(
                        f"Redis does not let this user do all that is needed ({error}): docs/nodes.md lists the rights"
                    ) from error
                self._note_trouble(error)
            except AuthenticationError as error:
                if first:
                    raise StoreError(
                        f"Redis refuses the login ({error}): see the user in [store] url and what is in password_file"
                    ) from error
                self._note_trouble(error)
            except (RedisError, OSError, TimeoutError, LalertError) as error:
                if first and isinstance(error, StoreError):
                    raise
                self._note_trouble(error)
            if wire is not None:
                self._wire = wire
                self._stalled = False
                # Where something has to be sent again, that will show whether all is well.
                if not self._under_way:
                    self._recovered()
                self._readers.renew()
                return

    async def _connect(self) -> Wire:
        wire = await self.dial()
        try:
            async with asyncio.timeout(self._bounds.stall_seconds):
                await self._on_connect(wire)
            if not wire.usable:
                raise Lost(f"the connection to {wire.place} is closed")
        except BaseException:
            await wire.close()
            raise
        return wire

    async def _require_primary(self, wire: Wire) -> None:
        role = await wire.call("ROLE", seconds=self._bounds.answer_seconds)
        if role[0] != b"master":
            raise Lost(f"{wire.place} is no primary now")

    async def _serve(self, wire: Wire) -> None:
        """Write batch after batch, until it is time to end or the connection fails."""
        while True:
            if not self._under_way:
                self._under_way = self._take()
            # Also where this process was frozen for a while: what is older than that, the server may not remember.
            self._give_up_if_stalled()
            self._under_way = [write for write in self._under_way if not write.given_up]
            if self._under_way:
                await self._commit(wire, self._under_way)
                self._under_way = []
            elif self._stalled:
                await self._require_primary(wire)
                self._recovered()
            elif self._notes:
                await self._exchange(wire, [])
            elif self._closing:
                return
            else:
                await self._idle(wire)

    def _take(self) -> list[Write]:
        batch: list[Write] = []
        for line in (self._urgent, self._other):
            count = size = 0
            # A write that is larger than a batch goes alone.
            while line and (not count or self._fits(count + 1, size + line[0].size)):
                write = line.popleft()
                count += 1
                size += write.size
                batch.append(write)
        return batch

    def _fits(self, count: int, size: int) -> bool:
        return count <= self._bounds.batch and size <= self._bounds.batch_bytes

    async def _idle(self, wire: Wire) -> None:
        self._arrived.clear()
        try:
            async with asyncio.timeout(self._bounds.idle_seconds):
                await self._arrived.wait()
            return
        except TimeoutError:
            pass
        await self._require_primary(wire)

    async def _commit(self, wire: Wire, batch: Sequence[Write]) -> None:
        """Make a batch durable and answer its callers; raises when the connection, or the server's standing, is lost."""
        commands = [write.packed for write in batch]
        if self._wait and not self._apart:
            commands.append(self._wait)
        answers = await self._exchange(wire, commands, [write.script for write in batch])
        for write, answer in zip(batch, answers, strict=False):
            if _elsewhere(answer):
                raise answer
            write.reply = answer
        if self._wait:
            await self._confirm(wire, await self._ask_wait(wire) if self._apart else answers[-1])
        self._settle(batch)

    async def _exchange(
        self, wire: Wire, commands: Sequence[bytes], scripts: Sequence[Script] = ()
    ) -> list[Reply]:
        """Send the notes, scripts that this connection has not sent before, and `commands`; returns the answers to the last."""
        notes, self._notes = self._notes, []
        new = {script.sha: script for script in scripts if script.sha not in self._loaded}
        loads = [pack(("SCRIPT", "LOAD", script.source)) for script in new.values()]
        before = len(notes) + len(loads)
        await wire.send([*notes, *loads, *commands], seconds=self._bounds.answer_seconds)
        answers = await wire.receive(
            before + len(commands), seconds=self._bounds.answer_seconds + self._bounds.confirm_seconds
        )
        for n, answer in enumerate(answers[:before]):
            if isinstance(answer, ResponseError) and (n >= len(notes) or _elsewhere(answer)):
                raise answer
        self._loaded.update(new)
        return answers[before:]

    async def _confirm(self, wire: Wire, answer: Reply) -> None:
        """Wait until so many have on disk what was written last on this connection, for as long as the connection lasts."""
        begun = asyncio.get_running_loop().time()
        while True:
            if isinstance(answer, ResponseError):
                raise answer
            reached = answer if isinstance(answer, list) else [answer]
            if all(has >= needs for has, needs in zip(reached, self._needs, strict=True)):
                return
            if not self._apart or asyncio.get_running_loop().time() - begun >= self._bounds.confirm_seconds:
                self._note_trouble(Unavailable(_short(reached, self._needs)))
            answer = await self._ask_wait(wire)

    async def _ask_wait(self, wire: Wire) -> Reply:
        wait = self._bounds.answer_seconds + self._bounds.confirm_seconds
        await wire.send([self._wait], seconds=self._bounds.answer_seconds)
        [answer] = await wire.receive(1, seconds=wait)
        return answer

    def _settle(self, batch: Sequence[Write]) -> None:
        settled = [write for write in batch if not write.given_up]
        for write in settled:
            self._forget(write)
        durable = [
            (write.script, write.reply) for write in settled if not isinstance(write.reply, ResponseError)
        ]
        if durable or self._stalled:
            self._recovered()
        if durable:
            try:
                self._on_confirmed(durable)
            except Exception:  # what is durable must be answered, whatever a listener did
                log.exception("a listener to the store failed")
        for write in settled:
            failure = _explained(write) if isinstance(write.reply, ResponseError) else None
            if failure is not None:
                self._note_trouble(failure)
            if write.done.done():
                continue
            if failure is None:
                write.done.set_result(write.reply)
            else:
                write.done.set_exception(failure)

    def _forget(self, write: Write) -> None:
        if write in self._open:
            del self._open[write]
            self._open_bytes -= write.size

    def _look_for_stall(self) -> None:
        self._look = None
        self._give_up_if_stalled()
        if self._open:
            loop = asyncio.get_running_loop()
            self._look = loop.call_later(self._bounds.stall_seconds / _LOOKS, self._look_for_stall)

    def _give_up_if_stalled(self) -> None:
        oldest = next(iter(self._open), None)
        now = asyncio.get_running_loop().time()
        if oldest is not None and now - oldest.since >= self._bounds.stall_seconds:
            self._stalled = True
            self._give_up()

    def _give_up(self, closed: str = "") -> None:
        """Tell all who wait. What was not sent is not sent later: who comes again would be overtaken by his own first attempt."""
        for write in self._open:
            write.given_up = True
            if not write.done.done():
                write.done.set_exception(StoreError(closed) if closed else self._gone())
        self._open.clear()
        self._open_bytes = 0
        self._urgent.clear()
        self._other.clear()

    def _gone(self) -> Unavailable:
        why = self._trouble or "no answer"
        return Unavailable(f"the store has stopped answering ({why})", retry_after=_RETRY_SECONDS)

    def _note_trouble(self, error: Exception) -> None:
        trouble = str(error) or type(error).__name__
        if trouble != self._trouble:
            self._trouble = trouble
            log.warning("the store: %s", trouble)

    def _recovered(self) -> None:
        if self._trouble:
            log.info("the store takes writes again")
        self._trouble = ""
        self._attempts = 0
        self._stalled = False


class _Readers:
    """Connections that read, each for one question at a time. Those from before the primary was found anew are not used again."""

    def __init__(self, link: Link, bounds: Bounds) -> None:
        self._link = link
        self._seconds = bounds.answer_seconds
        self._patience = bounds.stall_seconds
        self._room = asyncio.Semaphore(bounds.readers)
        self._idle: list[Wire] = []
        self._old: list[Wire] = []
        self._generation = 0

    def renew(self) -> None:
        self._generation += 1
        self._old += self._idle
        self._idle = []

    async def ask(self, commands: Sequence[Sequence[Word]]) -> list[Reply]:
        trouble: Exception | None = None
        try:
            async with asyncio.timeout(self._patience), self._room:
                while True:
                    try:
                        return await self._attempt(commands)
                    except AuthenticationError:
                        raise
                    except (Lost, OSError, Unavailable) as error:
                        trouble = error
                    except ResponseError as error:
                        if not _elsewhere(error):
                            raise
                        trouble = error
                    await asyncio.sleep(_PAUSES[2])
        except TimeoutError:
            raise Unavailable(
                f"the store has not answered within {self._patience:g} s ({trouble or 'no answer'})",
                retry_after=_RETRY_SECONDS,
            ) from trouble
        except (ResponseError, AuthenticationError) as error:
            raise StoreError(f"Redis refuses to answer: {error}") from error

    async def close(self) -> None:
        self.renew()
        await self._close_old()

    async def _attempt(self, commands: Sequence[Sequence[Word]]) -> list[Reply]:
        await self._close_old()
        generation = self._generation
        wire = self._idle.pop() if self._idle else await self._link.dial()
        try:
            await wire.send(map(pack, commands), seconds=self._seconds)
            answers = await wire.receive(len(commands), seconds=self._seconds)
        finally:
            (self._idle if wire.usable and generation == self._generation else self._old).append(wire)
        for answer in answers:
            if isinstance(answer, ResponseError):
                raise answer
        return answers

    async def _close_old(self) -> None:
        while self._old:
            await self._old.pop().close()


def _wait_command(durability: Durability, replicas: int, seconds: float) -> bytes:
    """Return what is sent behind a batch; nothing where nobody is to be waited for."""
    milliseconds = int(seconds * 1000)
    if durability == "disk":
        return pack(("WAITAOF", 1, replicas, milliseconds))
    return pack(("WAIT", replicas, milliseconds)) if replicas else b""


def _elsewhere(answer: object) -> bool:
    return isinstance(answer, _MOVED) or (
        isinstance(answer, ResponseError) and str(answer).startswith(_MOVED_WORDS)
    )


def _short(reached: Sequence[int], needs: Sequence[int]) -> str:
    if len(needs) > 1 and reached[0] < needs[0]:
        return "Redis's disk does not keep up"
    return f"{reached[-1]} of {needs[-1]} replicas have confirmed what was written"


def _explained(write: Write) -> LalertError:
    """Return what the caller of a refused script is told; nothing of it was done."""
    error = write.reply
    if isinstance(error, OutOfMemoryError):
        return Unavailable(_OUT_OF_MEMORY, retry_after=_RETRY_SECONDS)
    for word, text in _FULL.items():
        if str(error).startswith(word):
            return Unavailable(text, retry_after=_RETRY_SECONDS)
    if isinstance(error, NoPermissionError):
        return StoreError(
            f"Redis does not let this user write ({error}): give it all commands on the keys {TAG}*"
        )
    return StoreError(f"Redis refuses {write.script!r}: {error}")
