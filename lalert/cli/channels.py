"""`lalert channels`: how each channel of the running node fares, for whoever runs the hub."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click
import orjson

from lalert.cli.admin import NoNodeError, Row, ask_node
from lalert.cli.settings import node_options, settings
from lalert.errors import Unavailable

COUNTS: Final = ("waiting", "in_flight", "failing", "delivered", "dead", "expired")


@click.command()
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--lang", type=click.Choice(["ja", "en"]), default="en", show_default=True)
@node_options
def channels(form: str, lang: str, config_file: Path | None, data: Path | None) -> None:
    """Say of each channel what it has seen of its far end, whether its canary arrives, and how its deliveries fare.

    Exit 0: all are well; 1: one is not, or no node runs here.
    """
    folder = Path(settings(config_file, data).hub.data)
    try:
        rows = ask_node(folder, lambda office: office.channels())
    except NoNodeError:
        raise Unavailable(f"no node runs in {folder}: how channels fare is known to a running one") from None
    if form == "json":
        click.echo(orjson.dumps(rows).decode())
    else:
        for line in report(rows, lang):
            click.echo(line)
    sys.exit(0 if all(_well(row) for row in rows) else 1)


def report(rows: list[Row], lang: str) -> Iterator[str]:
    """Yield the lines that tell a person of the channels."""
    say = WORDS[lang]
    if not rows:
        yield say["none"]
    for row in rows:
        yield f"{row['name']}: {say['well' if _well(row) else 'ill']}"
        if not row["drill_safe"]:
            yield f"  {say['no-drills']}"
        if row["health"] and row["health"]["detail"]:
            yield f"  {say['far-end']}: {row['health']['detail']}"
        yield f"  {_canary(row['canary'], say)}"
        counts = row["deliveries"]
        yield f"  {say['targets'].format(lanes=counts['lanes'])}: " + ", ".join(
            f"{say[name]} {counts[name]}" for name in COUNTS
        )
        if counts["waiting"]:
            yield f"  {say['oldest'].format(oldest=counts['oldest_s'])}"


def _well(row: Row) -> bool:
    return not (row["health"] and not row["health"]["ok"]) and not (
        row["canary"] and not row["canary"]["well"]
    )


def _canary(canary: dict[str, Any] | None, say: dict[str, str]) -> str:
    if canary is None:
        return say["no-canary"]
    if canary["well"]:
        return say["arrived" if canary["arrived"] else "no-flight"].format(age=canary["age_s"])
    detail = canary["last"]["detail"] if canary["last"] else ""
    return say["missed"].format(age=canary["age_s"]) + (f" ({detail})" if detail else "")


WORDS: Final[dict[str, dict[str, str]]] = {
    "en": {
        "none": "no channel is configured",
        "well": "well",
        "ill": "NOT WELL",
        "no-drills": "carries no drills",
        "far-end": "far end",
        "no-canary": "no canary is configured",
        "no-flight": "no canary has been sent yet",
        "arrived": "canary: one arrived {age:.0f} s ago",
        "missed": "canary: NONE HAS ARRIVED for {age:.0f} s",
        "targets": "{lanes} targets",
        "waiting": "waiting",
        "in_flight": "under way",
        "failing": "failing",
        "delivered": "delivered since the start",
        "dead": "given up",
        "expired": "expired",
        "oldest": "the oldest has waited for {oldest:.0f} s",
    },
    "ja": {
        "none": "配信経路は設定されていません",
        "well": "正常",
        "ill": "異常あり",
        "no-drills": "訓練は流しません",
        "far-end": "相手側",
        "no-canary": "カナリア(経路の自動試験)は設定されていません",
        "no-flight": "カナリアはまだ送られていません",
        "arrived": "カナリア：{age:.0f}秒前に到達",
        "missed": "カナリア：{age:.0f}秒間届いていません",
        "targets": "宛先{lanes}件",
        "waiting": "待機",
        "in_flight": "送信中",
        "failing": "失敗中",
        "delivered": "配信済み(起動以降)",
        "dead": "断念",
        "expired": "期限切れ",
        "oldest": "最も古いものは{oldest:.0f}秒待っています",
    },
}
