"""`lalert serve`, `demo`, `check-config`, `adapters`."""

from __future__ import annotations

import asyncio
import gc
import logging
import select
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, TextIO

import click
import structlog

from lalert import config, registry, signing
from lalert.app import Node
from lalert.app.stores import find_server
from lalert.cli.settings import node_options, settings
from lalert.config import Settings
from lalert.errors import StoreError

log = structlog.get_logger()

AGAIN_SECONDS = 1.0


@click.command()
@node_options
@click.option("--host", help="Address to listen on (default 127.0.0.1).")
@click.option(
    "--port", type=click.IntRange(0, 65_535), help="Port to listen on (default 8080; 0 takes a free one)."
)
def serve(config_file: Path | None, data: Path | None, host: str | None, port: int | None) -> None:
    """Run a node until SIGTERM or Ctrl-C.

    Without a configuration: the embedded store in ./data, on 127.0.0.1:8080. Standard output has one line, when the node accepts.
    """
    chosen = settings(config_file, data, host=host, port=port)
    configure_logging()
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(run(chosen))


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what makes uvloop's event loop where that is installed (`lalert[uvloop]`), else None: asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return None
    made: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return made


def settle() -> None:
    """Have the process serve, now that its node has started: long pauses are nobody's alert.

    What stands now stands for good: without `freeze` each full collection would look at all of it again, in the middle of a fan-out; and an
    alert of 50,000 points needs none. The middle generation is looked at every other time: with Python's ten, the objects of 10,000 streams that have just come were one pause of 0.2 s. Whoever computes gives way after a tenth of a millisecond, which has to be less than a turn of a busy loop: a thread that waits
    for the interpreter asks for it only when nobody has let go of it for so long, and each turn lets go of it for a moment. With a millisecond a
    commit waited for most of a second while many deliveries went out.
    """
    gc.unfreeze()  # what an epoch before has left
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 0, 50)
    sys.setswitchinterval(0.0001)


async def run(chosen: Settings) -> None:
    """Run a node until SIGTERM or SIGINT; standard output has one line, when it accepts."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    served: Settings | None = None
    while not stop.is_set():
        try:
            async with Node(chosen) as node:
                settle()
                if chosen is not served:
                    print(f"lalert ready on {node.url}", flush=True)
                # Whatever port was free at first: it is where people look for the node.
                chosen = served = node.settled
                if node.setup_link is not None:
                    _tell_of_setup(node.setup_link)
                await _first_of(stop, node.lost)
        except StoreError as error:
            if served is None:
                raise
            # What began the new epoch may go on for a while: a hub that has served is not ended by it.
            log.error("this node cannot begin again yet", detail=error.detail)
            await _no_longer_than(AGAIN_SECONDS, stop)
        else:
            if not stop.is_set():
                # Whoever listened was sent away with a position of the old epoch, and comes back to a gap and a snapshot.
                log.error("this node begins again: the log of all nodes has begun a new epoch")


def _tell_of_setup(link: Path) -> None:
    print(
        f"lalert: no key exists yet. A one-time link for the first administrator is in {link}\n"
        "lalert: or on this machine: lalert org create ..., lalert key create ...",
        file=sys.stderr,
        flush=True,
    )


async def _no_longer_than(seconds: float, event: asyncio.Event) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


async def _first_of(*events: asyncio.Event) -> None:
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


@click.command()
@click.option("--port", type=click.IntRange(0, 65_535), default=8080, show_default=True)
@click.option(
    "--speed",
    type=click.FloatRange(min=0.1, max=1_000),
    default=1.0,
    show_default=True,
    help="How many times faster.",
)
@click.option(
    "--once", is_flag=True, help="Stop when the scenario has played; exit 0 only if everything arrived."
)
def demo(port: int, speed: float, once: bool) -> None:
    """Play a storm over 人吉市 on a hub of its own, and show the pages to look at."""
    from lalert.demo import run

    configure_logging(logging.ERROR)
    sys.exit(asyncio.run(run(port=port, speed=speed, once=once)))


@click.command("check-config")
@click.argument("file", type=click.Path(path_type=Path))
def check_config(file: Path) -> None:
    """Check a configuration file; every mistake is named, and exit 2 says there was one."""
    chosen = config.load(file)
    names = registry.plan(chosen.adapters).names()
    find_server(chosen.store)
    if chosen.hub.signing_key_file:
        signing.read_signer(chosen.hub.signing_key_file, chosen.hub.signing_certificate_file)
    click.echo(f"{file}: good ({len(chosen.stations)} stations, adapters: {', '.join(names) or 'none'})")


@click.command()
def adapters() -> None:
    """List the adapters that are installed."""
    for name, point in sorted(registry.installed().items()):
        package = point.dist.name if point.dist else "?"
        click.echo(f"{name:20} {point.value}  ({package})")


def configure_logging(level: int = logging.INFO) -> None:
    """Log to standard error: lines for a person at a terminal, JSON for a machine."""
    terminal = sys.stderr.isatty()
    # A plain traceback: the rich one shows every local variable, keys among them.
    renderer = (
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        if terminal
        else structlog.processors.JSONRenderer(ensure_ascii=False)
    )
    trace = [] if terminal else [structlog.processors.format_exc_info]
    stream = Forgiving(sys.stderr)
    # What is logged without structlog, by the store's threads and by libraries, holds up nobody either.
    logging.lastResort = logging.StreamHandler(stream)
    logging.lastResort.setLevel(logging.WARNING)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *trace,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(stream),  # type: ignore[arg-type]
    )


PIECE: Final = 1_000
"""Characters, so at most 4,000 bytes: a pipe that says that it has room takes 4,096 (POSIX, PIPE_BUF)."""


class Forgiving:
    """A stream for log lines: what cannot be written at once is lost, and nothing else with it.

    A full disk is when alerts need every other part of the hub; and whoever reads the log may have stopped to, which would stop the event loop at a full pipe.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write as much as there is room for; returns how many characters that was."""
        written = 0
        with suppress(OSError):
            for start in range(0, len(text), PIECE):
                if not self._has_room():
                    break
                written += self._stream.write(text[start : start + PIECE])
                self._stream.flush()
        return written

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()

    def _has_room(self) -> bool:
        try:
            return bool(select.select([], [self._stream], [], 0)[1])
        except (OSError, ValueError):
            return True  # no descriptor, as of a test's stream, or one that select cannot watch
