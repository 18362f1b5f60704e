"""`lalert validate`, `submit`, `tail`: alerts on the command line."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import click
import orjson

from lalert import cap
from lalert.errors import InvalidAlert, LalertError, NotXml, Problem
from lalert.geo import Gazetteer
from lalert.model import Area
from lalert.resources import former_codes_csv, gazetteer_csv

SEVERITY_JA = {"error": "エラー", "warning": "警告", "advice": "助言", "info": "参考"}

key_options = [
    click.option("--key", envvar="LALERT_KEY", help="A key of the hub (or LALERT_KEY, or --key-file)."),
    click.option(
        "--key-file",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="A file that holds the key.",
    ),
]


def with_key(command: Any) -> Any:  # noqa: ANN401  # a click decorator
    """Add --key and --key-file."""
    for option in reversed(key_options):
        command = option(command)
    return command


def the_key(key: str | None, key_file: Path | None) -> str | None:
    """Return the key from wherever it was given."""
    return key_file.read_text(encoding="utf-8").strip() if key_file else key


@click.command()
@click.argument("files", nargs=-1, required=True)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option(
    "--profile",
    type=click.Choice(list(cap.PROFILES)),
    default="cap",
    show_default=True,
    help="Rules beyond the standard: cap has none, jp has those of docs/profile-jp.md.",
)
@click.option("--lang", type=click.Choice(["ja", "en"]), default="en", show_default=True)
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    help="lalert.toml of the node that is to take them: its places count, the table of [gazetteer] geocodes among them.",
)
def validate(files: Sequence[str], form: str, profile: str, lang: str, config_file: Path | None) -> None:
    """Check CAP files, bare or in an EDXL-DE 1.0 envelope; `-` reads standard input.

    Exit 0: all valid (warnings allowed); 1: some invalid; 2: a file that cannot be read, once all others are judged.
    """
    verdict = 0
    known, placed = _of_node(config_file) if config_file else (None, None)

    def places() -> Gazetteer:
        return known or _gazetteer()

    judged = _judged_by(cap.PROFILES[profile], places, placed)
    for name in files:
        raw = read_document(name)
        if raw is None:
            verdict = 2
            continue
        # Asked of envelopes alone, so that nobody else waits for the table.
        report = judged(cap.examine(raw, ground=lambda code: places().catchment(code)))
        verdict = max(verdict, int(not report.valid))
        if form == "json":
            line = {
                "file": name,
                "valid": report.valid,
                "version": report.version,
                "envelope": cap.EDXL if report.envelope else None,
                "problems": [_problem(problem, lang) for problem in report.problems],
            }
            click.echo(orjson.dumps(line).decode())
            continue
        for text in _told(name, report, lang):
            click.echo(text)
    sys.exit(verdict)


def _told(name: str, report: cap.Report, lang: str) -> Iterator[str]:
    """Yield the lines that tell people of a verdict; what a tolerant policy would make of an error is said as well."""
    around, around_ja = (f" in {cap.EDXL}", f"({cap.EDXL}の封筒入り)") if report.envelope else ("", "")
    verdict, verdict_ja = f"INVALID{around}", f"誤りのある文書です{around_ja}"
    if report.valid:
        verdict = f"valid CAP {report.version}{around}"
        verdict_ja = f"CAP {report.version}として正しい文書です{around_ja}"
    yield f"{name}: {_in(lang, verdict, verdict_ja)}"
    for problem in report.problems:
        severity = problem.severity.value
        where = f"{severity:7} line {problem.line}"
        where = _in(lang, where, f"{SEVERITY_JA[severity]} {problem.line}行目")
        message = _in(lang, problem.message, problem.message_ja)
        yield f"  {where}: {problem.path}: {message} [{problem.rule}]"
        if advice := _in(lang, problem.help, problem.help_ja):
            yield f"          {advice}"
        if problem.repair:
            tolerated = f"where the sender is tolerated: {problem.repair}"
            yield f"          {_in(lang, tolerated, f'許容された送信者の場合: {problem.repair_ja}')}"


@cache
def _gazetteer() -> Gazetteer:
    return Gazetteer.from_csv(gazetteer_csv(), former_codes_csv())


def _of_node(config_file: Path) -> tuple[Gazetteer, Callable[[Area], bool]]:
    """Return the places that a node knows, and what says of an area whether its foreign geocodes place it."""
    # A whole node's worth of modules, for which nobody else is to wait.
    from lalert import config
    from lalert.app import load_gazetteer
    from lalert.matching import placed_exactly

    chosen = config.load(config_file)
    known = load_gazetteer(Path(chosen.hub.data), chosen.gazetteer.geocodes)
    return known, partial(placed_exactly, gazetteer=known)


def _judged_by(
    profile: cap.Profile, places: Callable[[], Gazetteer], placed: Callable[[Area], bool] | None
) -> Callable[[cap.Report], cap.Report]:
    """Return what adds a profile's findings to a report; the places that it asks for are read only if there are any rules."""
    lookup = places().place if profile.rules else None

    def judged(report: cap.Report) -> cap.Report:
        found = cap.judge(report.alert, profile, lookup, placed) if report.alert else ()
        if not found:
            return report
        if report.envelope is not None:
            found = tuple(map(report.envelope.placed, found))
        return replace(
            report, problems=tuple(sorted((*report.problems, *found), key=lambda problem: problem.line))
        )

    return judged


def read_document(name: str) -> bytes | None:
    """Return a file's bytes, of a larger one than is judged a byte more than that; None of one that cannot be read, which is said."""
    try:
        if name == "-":
            return sys.stdin.buffer.read(cap.MAX_BYTES + 1)
        with Path(name).open("rb") as file:
            return file.read(cap.MAX_BYTES + 1)
    except OSError as error:
        click.echo(f"lalert: {name}: cannot be read ({error.strerror})", err=True)
        return None


def _in(lang: str, english: str, japanese: str) -> str:
    return japanese if lang == "ja" and japanese else english


def _problem(problem: Problem, lang: str) -> dict[str, str | int]:
    members = {name: value for name, value in problem.members().items() if not name.endswith("_ja")}
    members["message"] = _in(lang, problem.message, problem.message_ja)
    members["help"] = _in(lang, problem.help, problem.help_ja)
    if problem.repair:
        members["repair"] = _in(lang, problem.repair, problem.repair_ja)
    return members


@click.command()
@click.argument("files", nargs=-1, required=True)
@click.option(
    "--hub", required=True, envvar="LALERT_HUB", help="Address of the hub, such as http://127.0.0.1:8080"
)
@with_key
def submit(files: Sequence[str], hub: str, key: str | None, key_file: Path | None) -> None:
    """Post CAP files to a hub and print the position of each; exit 1 if any was refused, 2 if one cannot be read."""
    sys.exit(asyncio.run(_submit(files, hub, the_key(key, key_file))))


async def _submit(files: Sequence[str], hub: str, key: str | None) -> int:
    failed = 0
    from lalert.client import Client

    async with Client(hub, key) as client:
        for name in files:
            raw = read_document(name)
            if raw is None:
                failed = 2
                continue
            try:
                answer = await client.submit(raw)
            except LalertError as error:
                failed = max(failed, 1)
                click.echo(f"lalert: {name}: {error.detail}", err=True)
                for problem in _findings(error):
                    click.echo(
                        f"  {problem.severity:7} line {problem.line}: {problem.path}: {problem.message} [{problem.rule}]",
                        err=True,
                    )
            else:
                click.echo(answer["position"])
    return failed


def _findings(error: LalertError) -> Sequence[Problem]:
    if isinstance(error, InvalidAlert):
        return error.problems
    return (error.problem,) if isinstance(error, NotXml) and error.problem is not None else ()


_FILTERS = (
    ("area", "Municipality or prefecture code."),
    ("point", "A place: LAT,LON."),
    ("polygon", "A surface: LAT,LON LAT,LON ..."),
    ("bbox", "A surface: WEST,SOUTH,EAST,NORTH."),
    ("min-severity", "Minor, Moderate, Severe or Extreme."),
    ("min-level", "警戒レベル, 1 to 5."),
    ("level", "`required` leaves out alerts without a 警戒レベル."),
    ("category", "A CAP category, such as Met."),
    ("event", "The exact event."),
    ("sender", "The exact sender."),
    ("status", "actual (the default), exercise, test, system or all."),
)


def with_filters(command: Any) -> Any:  # noqa: ANN401  # a click decorator
    """Add the filters of a stream, each repeatable; the hub judges them, so that there is one judge."""
    for name, text in reversed(_FILTERS):
        command = click.option(f"--{name}", multiple=True, help=f"{text} Repeatable.")(command)
    return command


@click.command()
@click.option(
    "--hub",
    "hubs",
    required=True,
    multiple=True,
    envvar="LALERT_HUB",
    help="Address of the hub, such as http://127.0.0.1:8080; given twice, two nodes of it are followed at once.",
)
@with_key
@click.option("--after", help="Go on after this position.")
@with_filters
@click.option("--count", type=click.IntRange(min=1), help="Stop after so many alerts.")
def tail(
    hubs: Sequence[str],
    key: str | None,
    key_file: Path | None,
    after: str | None,
    count: int | None,
    **filters: Sequence[str],
) -> None:
    """Print alerts as they come, one JSON object a line; goes on by itself after a break."""
    pairs = [(name, value) for name, values in filters.items() for value in values]
    try:
        asyncio.run(_tail(hubs, the_key(key, key_file), pairs, after, count))
    except KeyboardInterrupt:
        sys.exit(130)


async def _tail(
    hubs: Sequence[str], key: str | None, pairs: list[tuple[str, str]], after: str | None, count: int | None
) -> None:
    printed = 0
    from lalert.client import Client, merged_stream

    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Client(hub, key)) for hub in hubs]
        alone = len(clients) == 1
        events = (clients[0].stream if alone else partial(merged_stream, clients))(pairs, after=after)
        await stack.enter_async_context(aclosing(events))
        async for event in events:
            if event.kind == "heartbeat":
                continue
            click.echo(orjson.dumps({"type": event.kind, **event.data}).decode())
            printed += event.kind == "alert"
            if count is not None and printed >= count:
                return
