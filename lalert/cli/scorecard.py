"""`lalert scorecard`: what each sender's documents got wrong, as a letter to the town hall."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Any

import click

from lalert.cli.admin import Row, run
from lalert.cli.alerts import SEVERITY_JA
from lalert.cli.settings import node_options
from lalert.model import JST
from lalert.store import MAX_DAYS


@click.command()
@click.option("--org", "org_id", metavar="ORG", help="One organisation alone.")
@click.option("--sender", help="One CAP sender alone.")
@click.option(
    "--days", type=click.IntRange(1, MAX_DAYS), default=30, show_default=True, help="Back from today."
)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--lang", type=click.Choice(["ja", "en"]), default="ja", show_default=True)
@node_options
def scorecard(
    org_id: str | None,
    sender: str | None,
    days: int,
    form: str,
    lang: str,
    config_file: Path | None,
    data: Path | None,
) -> None:
    """Say what became of each sender's documents: how many were taken, with which mistakes, and what to do about them.

    The text is made to be pasted into a mail to whoever sends them.
    """
    found = run(config_file, data, lambda office: office.scorecards(org_id, sender, days))
    if form == "json":
        click.echo(json.dumps(found, ensure_ascii=False))
        return
    letters = [letter(card, found["since"], found["until"], lang) for card in found["scorecards"]]
    nothing = {"ja": "この期間に受け取った文書はありません。", "en": "No documents came in these days."}
    click.echo("\n\n".join(letters) or nothing[lang])


def letter(card: Row, since: str, until: str, lang: str) -> str:
    """Return one sender's scorecard as plain text, which no mail program can disarrange."""
    lines = _in_japanese(card, since, until) if lang == "ja" else _in_english(card, since, until)
    return "\n".join(lines)


def _in_japanese(card: Row, since: str, until: str) -> Iterator[str]:
    sender = {None: "発信者不明(文書から読み取れないもの)", "<others>": "そのほかの発信者"}.get(
        card["sender"], card["sender"]
    )
    yield f"{card['name']}({card['org']})　発信者：{sender}"
    yield f"期間：{_day_ja(since)}から{_day_ja(until)}まで"
    yield (
        f"文書：{card['documents']}件(問題なし{card['accepted']}件、"
        f"警告などがあったが配信{card['defective']}件、受け付けず{card['refused']}件)"
    )
    if not card["reasons"]:
        yield "指摘はありません。"
    for number, reason in enumerate(card["reasons"], 1):
        yield ""
        yield f"{number}. {reason['message_ja']}"
        yield (
            f"　　{reason['documents']}件({_share(reason)})　{SEVERITY_JA.get(reason['severity'], '参考')}　規則：{reason['rule']}"
        )
        yield f"　　直し方：{reason['help_ja']}"
        last = datetime.fromisoformat(reason["last"]).astimezone(JST)
        example = _example(reason["example"], ("識別子", "箇所", "行"), "：", "、")
        yield f"　　最後：{last.month}月{last.day}日{last.hour}時{last.minute:02}分{f'({example})' if example else ''}"


def _in_english(card: Row, since: str, until: str) -> Iterator[str]:
    sender = {None: "unknown (none could be read)", "<others>": "all other senders"}.get(
        card["sender"], card["sender"]
    )
    yield f"{card['name']} ({card['org']}), sender: {sender}"
    yield f"From {since} to {until}"
    yield (
        f"Documents: {card['documents']} ({card['accepted']} without a defect, {card['defective']} sent with defects, "
        f"{card['refused']} refused)"
    )
    if not card["reasons"]:
        yield "Nothing to report."
    for number, reason in enumerate(card["reasons"], 1):
        yield ""
        yield f"{number}. {reason['message']}"
        yield f"   {reason['documents']} documents ({_share(reason)}), {reason['severity']}, rule {reason['rule']}"
        yield f"   What to do: {reason['help']}"
        last = datetime.fromisoformat(reason["last"]).astimezone(JST)
        example = _example(reason["example"], ("identifier", "place", "line"), " ", ", ")
        yield f"   Last on {last:%Y-%m-%d at %H:%M} JST{f' ({example})' if example else ''}"


def _example(example: dict[str, Any], names: tuple[str, str, str], sign: str, comma: str) -> str:
    values = (example["identifier"], example["path"], example["line"])
    return comma.join(f"{name}{sign}{value}" for name, value in zip(names, values, strict=True) if value)


def _share(reason: Row) -> str:
    return f"{reason['share']:.1%}"


def _day_ja(text: str) -> str:
    day = date.fromisoformat(text)
    return f"{day.year}年{day.month}月{day.day}日"
