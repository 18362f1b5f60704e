"""`lalert texts`: what people would read, for whoever writes a template or checks a translation."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import click

from lalert import cap, matching
from lalert.app import load_gazetteer
from lalert.cli.alerts import read_document
from lalert.cli.settings import settings
from lalert.config import library_of
from lalert.model import JST, Alert, Entry, Facts, Origin, OriginKind, Status
from lalert.plugin import Room, full_width, utf8, utf16

MEASURES: Final[Mapping[str, Callable[[str], int]]] = {
    "characters": len,
    "full-width": full_width,
    "utf-16": utf16,
    "utf-8": utf8,
}


@click.command()
@click.argument("files", nargs=-1, required=True)
@click.option(
    "--config", "config_file", type=click.Path(path_type=Path), envvar="LALERT_CONFIG", help="lalert.toml"
)
@click.option(
    "--lang",
    "languages",
    multiple=True,
    help="A language; may be given several times. Default: every one that there are templates of.",
)
@click.option("--channel", default="", help="The type of an adapter, such as email.")
@click.option("--title", type=click.IntRange(0), help="How long a title may be.")
@click.option("--body", type=click.IntRange(0), help="How long a body may be.")
@click.option("--measure", type=click.Choice(list(MEASURES)), default="characters", show_default=True)
@click.option("--no-addresses", is_flag=True, help="Take web and mail addresses out.")
@click.option("--exercise", is_flag=True, help="Show the alert as a drill.")
def texts(
    files: Sequence[str],
    config_file: Path | None,
    languages: Sequence[str],
    channel: str,
    title: int | None,
    body: int | None,
    measure: str,
    no_addresses: bool,
    exercise: bool,
) -> None:
    """Show what people would read of CAP files, in languages that are off too; `-` reads standard input.

    Exit 0: shown; 1: a template failed; 2: a file that cannot be read, or is no alert.
    """
    chosen = settings(config_file, None)
    library = library_of(chosen, every=True)
    gazetteer = load_gazetteer(Path(chosen.hub.data), chosen.gazetteer.geocodes)
    room = Room(title, body, MEASURES[measure], urls=not no_addresses)
    for name in files:
        alert = _alert(name)
        if exercise:
            alert = replace(alert, status=Status.EXERCISE)
        entry = _entry(alert, matching.facts_of(alert, gazetteer))
        for lang in languages or library.languages:
            text = library.text(entry, lang, room, channel)
            failed = f" — {text.template_failed} FAILED" if text.template_failed else ""
            click.echo(f"== {name} — {lang} ({text.lang}){failed}\n{text.title}\n\n{text.body}\n")
    sys.exit(1 if library.failures else 0)


def _alert(name: str) -> Alert:
    raw = read_document(name)
    report = cap.examine(raw) if raw is not None else None
    if report is not None and report.alert is not None:
        return report.alert
    if report is not None:
        click.echo(f"lalert: {name}: is no alert that could be read; see lalert validate", err=True)
    sys.exit(2)


def _entry(alert: Alert, facts: Facts) -> Entry:
    now = alert.sent.astimezone(JST)
    return Entry("0-0", now, now, alert, Origin(OriginKind.CONSOLE), alert.id, facts)
