"""`lalert audit`: whether the audit chain is whole, and what stands in it."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from lalert.app import audit_of_file
from lalert.audit import HEADS_FILE, heads_in, line_json, line_of
from lalert.cli.admin import Office, run
from lalert.cli.settings import node_options, settings
from lalert.errors import NotFound, Refused
from lalert.model import JST
from lalert.store.audit import Accepted, Check, Document, Fault, Flaw, Head, KeptLine

_FLAWS: Final[Mapping[Flaw, tuple[str, str]]] = {
    Flaw.CHANGED: (
        "{number}行目が書き換えられています。",
        "Line {number} was changed.",
    ),
    Flaw.MISSING: (
        "{number}行目がありません。",
        "Line {number} is missing.",
    ),
    Flaw.OUT_OF_ORDER: (
        "{number}行目の場所に別の行があります。行が入れ替えられたか、差し込まれています。",
        "Another line stands in the place of line {number}: lines were moved or put in.",
    ),
    Flaw.REWRITTEN: (
        "{number}行目が控えと一致しません。この行までの記録が作り直されています。",
        "Line {number} is not the one whose hash was kept: the chain up to it was made anew.",
    ),
    Flaw.CUT_OFF: (
        "{number}行目から先がありません。控えにある記録が失われたか、作り直されています。",
        "From line {number} on there is nothing, but a hash that was kept is of a line that is not here: it was cut off, or made anew.",
    ),
    Flaw.DOCUMENT: (
        "警報{alert}の文書が、受け付けたときのもの({number}行目)と違います。",
        "The document of alert {alert} is not the one that was accepted (line {number}).",
    ),
    Flaw.UNKNOWN: (
        "警報{alert}が保存されていますが、受け付けた記録がありません。",
        "Alert {alert} is in the log, but no line says that it was accepted.",
    ),
}
_SOUND: Final = (
    "監査記録は{lines}行すべて正しくつながっています。最新の控え：{head}",
    "The audit chain is sound: {lines} lines. Its head: {head}",
)
_DOCUMENTS: Final = (
    "保存されている警報{documents}件は、すべて受け付けたときのままです。",
    "The {documents} alerts in the log are what was accepted.",
)
_LANG = click.option("--lang", type=click.Choice(["ja", "en"]), default="ja", show_default=True)


@click.group()
def audit() -> None:
    """The audit chain: who accepted, changed and sent what, and when."""


@audit.command()
@click.option(
    "--head",
    "known",
    metavar="HEAD",
    multiple=True,
    help="A head that was kept elsewhere; may be given again.",
)
@click.option(
    "--file",
    type=click.Path(path_type=Path),
    help="A backup, or what `audit show --format json` wrote, in place of the hub's own store.",
)
@_LANG
@node_options
def verify(
    known: tuple[str, ...], file: Path | None, lang: str, config_file: Path | None, data: Path | None
) -> None:
    """Check every line of the chain, that it holds every head that is known, and that the alerts in the log are those that were accepted.

    Exits 1 and names the first line that is wrong.

    Known are the heads that the hub has published, those in DATA/audit-heads.txt, and those given with --head (NUMBER:HASH, or the hash alone).
    """
    given = [_head(text) for text in known]
    if file is not None:
        with _of_file(file) as (lines, heads, documents):
            found = Found(Check([*heads, *given]))
            for line in lines:
                found.take(line)
            if documents is not None:
                found.documents = 0
                found.blame(found.compare(documents))
    else:
        noted = heads_in(Path(settings(config_file, data).hub.data) / HEADS_FILE)
        found = run(
            config_file,
            data,
            lambda office: _checked(office, [one.head for one in noted] + given),
            reads=True,
        )
    click.echo(sentence(found, lang))
    sys.exit(1 if found.fault else 0)


@audit.command()
@click.option(
    "--since",
    metavar="TIME",
    help="From when on: 2026-06-01, or 2026-06-01T10:00 (Japan's time, or with an offset).",
)
@click.option("--org", "org_id", metavar="ORG", help="One organisation's lines alone.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@node_options
def show(
    since: str | None, org_id: str | None, form: str, config_file: Path | None, data: Path | None
) -> None:
    """Print the lines of the chain; as JSON, one object a line, they can be verified elsewhere."""
    start = _moment(since) if since else None

    async def print_all(office: Office) -> None:
        async for line in _lines(office):
            shown = line_json(line)
            if _wanted(shown, start, org_id):
                click.echo(json.dumps(shown, ensure_ascii=False) if form == "json" else _text(shown))

    run(config_file, data, print_all, reads=True)


@dataclass(slots=True)
class Found:
    """What a chain turns out to be while its lines and then the documents are read; `documents` is None where there are none to compare."""

    check: Check
    accepted: Accepted = field(default_factory=Accepted)
    documents: int | None = None
    wrong: Fault | None = None
    last: int = 0

    @property
    def fault(self) -> Fault | None:
        return self.check.end() or self.wrong

    def take(self, line: KeptLine) -> None:
        self.check.take(line)
        self.accepted.take(line)
        self.last = line.number

    def compare(self, documents: Iterable[Document]) -> list[Document]:
        """Compare documents with their lines; returns those with which something is wrong."""
        bad: list[Document] = []
        for document in documents:
            self.documents = (self.documents or 0) + 1
            if self.accepted.fault(document) is not None:
                bad.append(document)
        return bad

    def blame(self, bad: Iterable[Document]) -> None:
        """Keep the first of what is wrong with some documents, unless their lines have come by now."""
        self.wrong = next((fault for one in bad if (fault := self.accepted.fault(one))), None)


def sentence(found: Found, lang: str) -> str:
    """Return what was found, for people."""
    english, fault, head = int(lang == "en"), found.fault, found.check.head
    if fault is not None:
        return _FLAWS[fault.flaw][english].format(number=fault.number, alert=fault.alert)
    words = [_SOUND[english].format(lines=head.number, head=head)]
    if found.documents is not None:
        words.append(_DOCUMENTS[english].format(documents=found.documents))
    return "\n".join(words)


async def _checked(office: Office, known: list[Head]) -> Found:
    found = Found(Check([*await office.audit_heads(), *known]), documents=0)
    async for line in _lines(office):
        found.take(line)
    bad: list[Document] = []
    after: str | None = None
    while page := await office.documents(after):
        bad += found.compare(page)
        after = page[-1].position
    # What came in meanwhile has its line by now.
    async for line in _lines(office, found.last):
        found.take(line)
    found.blame(bad)
    return found


async def _lines(office: Office, after: int = 0) -> AsyncIterator[KeptLine]:
    while page := await office.audit_lines(after):
        for line in page:
            yield line
        # Read by number: what stands there twice or out of order cannot be in a table whose key it is.
        after = page[-1].number


def _of_file(
    file: Path,
) -> AbstractContextManager[tuple[Iterator[KeptLine], list[Head], Iterator[Document] | None]]:
    try:
        with file.open("rb") as opened:
            database = opened.read(16).startswith(b"SQLite format 3")
    except OSError as error:
        raise NotFound(f"{file}: cannot be read ({error.strerror})") from error
    return audit_of_file(file) if database else nullcontext((_exported(file), [], None))


def _exported(file: Path) -> Iterator[KeptLine]:
    if not file.stat().st_size:
        raise Refused(f"{file} holds no line; export the chain again")
    with file.open(encoding="utf-8", errors="replace") as opened:
        for number, text in enumerate(opened, 1):
            try:
                yield line_of(json.loads(text))
            except (ValueError, RecursionError) as error:
                raise Refused(
                    f"{file}, line {number}: is no line that `lalert audit show --format json` has written"
                ) from error


def _wanted(shown: Mapping[str, Any], start: datetime | None, org: str | None) -> bool:
    if "time" not in shown:
        return True
    if start is not None and datetime.fromisoformat(shown["time"]) < start:
        return False
    return org is None or shown["org"] == org


def _text(shown: Mapping[str, Any]) -> str:
    if "time" not in shown:
        return f"{shown['number']:>8}  (unreadable; `lalert audit verify` says more)"
    time = datetime.fromisoformat(shown["time"]).astimezone(JST)
    details = " ".join(f"{name}={_value(value)}" for name, value in shown["details"].items())
    words = [_value(shown[name] or "-") for name in ("org", "actor", "action", "subject")]
    return "  ".join([f"{shown['number']:>8}", f"{time:%Y-%m-%d %H:%M:%S}", *words, details]).rstrip()


def _value(value: object) -> str:
    return value if isinstance(value, str) and value.isprintable() else json.dumps(value)


def _head(text: str) -> Head:
    try:
        return Head.parse(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--head") from error


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise click.BadParameter(
            f"{text!r} is no time such as 2026-06-01T10:00", param_hint="--since"
        ) from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=JST)).astimezone(UTC)
