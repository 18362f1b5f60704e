"""`lalert route test`: who would get an alert, before it is sent."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import click
import orjson

from lalert.app import offline_router
from lalert.cli.admin import NoNodeError, Row, ask_node
from lalert.cli.alerts import SEVERITY_JA, read_document, the_key, with_key
from lalert.cli.settings import node_options, settings
from lalert.errors import BadRequest, LalertError
from lalert.route import LISTED, MAX_LISTED
from lalert.web.route import filter_of, local_answer


@click.group()
def route() -> None:
    """Who is told of what."""


@route.command("test")
@click.argument("file")
@click.option(
    "--hub",
    envvar="LALERT_HUB",
    help="Address of a hub to ask with a sender's key; else the hub here is asked.",
)
@with_key
@click.option("--org", help="The organisation that would send it, where the hub here cannot tell.")
@click.option("--as", "asked", metavar="FILTER", help="Explain one filter, such as 'area=43203&min_level=3'.")
@click.option(
    "--limit",
    type=click.IntRange(1, MAX_LISTED),
    default=LISTED,
    show_default=True,
    help="List no more than so many of each.",
)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--lang", type=click.Choice(["ja", "en"]), default="en", show_default=True)
@node_options
def test(
    file: str,
    hub: str | None,
    key: str | None,
    key_file: Path | None,
    org: str | None,
    asked: str | None,
    limit: int,
    form: str,
    lang: str,
    config_file: Path | None,
    data: Path | None,
) -> None:
    """Say who would get the alert in FILE (`-` reads standard input), how many, and why. Nothing is sent or kept.

    With --hub the hub at that address answers, for the key's organisation; else the node of --config or --data, or its store if none runs, for
    whoever runs it. Exit 0: it would be accepted; 1: it would not; 2: it could not be asked.
    """
    raw = read_document(file)
    if raw is None:
        sys.exit(2)
    try:
        filter_of(asked)
    except BadRequest as error:
        raise click.BadParameter(error.detail, param_hint="--as") from error
    query: Row = {"limit": str(limit)} | ({"as": asked} if asked is not None else {})
    try:
        if hub is not None:
            answer = asyncio.run(_ask_hub(hub, the_key(key, key_file), raw, query))
        else:
            answer = _ask_here(config_file, data, raw, query | ({"org": org} if org else {}))
    except LalertError as error:
        click.echo(f"lalert: {error.detail}", err=True)
        sys.exit(2)
    if form == "json":
        click.echo(orjson.dumps(answer).decode())
    else:
        for line in report(file, answer, lang):
            click.echo(line)
    sys.exit(0 if answer["accepted"] else 1)


async def _ask_hub(hub: str, key: str | None, raw: bytes, query: Row) -> Row:
    from lalert.client import Client

    async with Client(hub, key) as client:
        return await client.route(raw, query.items())


def _ask_here(config_file: Path | None, data: Path | None, raw: bytes, query: Row) -> Row:
    chosen = settings(config_file, data)

    async def on_store() -> Row:
        async with offline_router(chosen) as router:
            return await local_answer(
                router, raw, query.get("org"), int(query["limit"]), filter_of(query.get("as"))
            )

    try:
        return ask_node(Path(chosen.hub.data), lambda office: office.route(raw, query))
    except NoNodeError:
        return asyncio.run(on_store())


def report(name: str, answer: Mapping[str, Any], lang: str) -> Iterator[str]:
    """Yield the lines that tell a person of an answer."""
    say = WORDS[lang]
    yield f"{name}: {_verdict(answer, say)}"
    if answer["detail"] and not answer["problems"]:
        yield f"  {answer['detail']} [{answer['code']}]"
    for problem in answer["problems"]:
        yield f"  {_problem(problem, lang)}"
    if answer["alert"]:
        yield from _alert(answer, say)
    if answer["status"] == 201:
        yield from _audience(answer, say, lang)
    if answer["as"]:
        yield from _asked(answer, say, lang)


def _verdict(answer: Mapping[str, Any], say: Mapping[str, str]) -> str:
    status = {201: "accepted", 200: "repeat"}.get(answer["status"], "refused")
    return say[status].format(status=answer["status"], total=answer["total"])


def _problem(problem: Mapping[str, Any], lang: str) -> str:
    severity, message = problem["severity"], problem["message"]
    if lang == "ja":
        severity, message = SEVERITY_JA[severity], problem.get("message_ja") or message
    return f"{severity}: {problem['path']}: {message} [{problem['rule']}]"


def _alert(answer: Mapping[str, Any], say: Mapping[str, str]) -> Iterator[str]:
    alert = answer["alert"]
    drill = say["drill"].format(mark=alert["mark"]) if alert["mark"] else ""
    parts = [
        f"{alert['status']}{drill}",
        alert["msgType"],
        alert["scope"],
        alert["event"],
        alert["severity"],
        say["level"].format(level=alert["level"]) if alert["level"] else "",
        say["kind"].format(kind=alert["kind"]) if alert["kind"] else "",
    ]
    yield f"  {', '.join(part for part in parts if part)}"
    places = [f"{place['code']} {place['name'] or '?'}" for place in alert["places"][:_PLACES]]
    more = say["more"].format(number=alert["codes"] - len(places)) if alert["codes"] > len(places) else ""
    yield f"  {say['nowhere'] if alert['nowhere'] else say['places']}: {', '.join(places) or '-'}{more}"
    if alert["over"]:
        yield f"  {say['over']}"
    if alert["outdated"]:
        yield f"  {say['outdated']}"
    if continues := answer["continues"]:
        for earlier in continues["alerts"][-_PLACES:]:
            again = say["replaces"] if earlier["id"] in continues["replaces"] else say["continues"]
            yield f"  {again}: {earlier['msgType']} {earlier['identifier']} ({earlier['sent']})"


def _audience(answer: Mapping[str, Any], say: Mapping[str, str], lang: str) -> Iterator[str]:
    yield ""
    streams = answer["streams"]
    if streams is None:
        yield f"{'-':>8}  {say['no-node']}"
    else:
        yield f"{streams['total']:>8}  {say['streams'].format(**streams)}"
        yield from _by(streams["by"], say)
    for channel in answer["channels"]:
        bar = f": {say[channel['bar']]}" if channel["bar"] else ""
        number = 0 if channel["bar"] else channel["total"]
        yield f"{number:>8}  {channel['channel']}{bar}"
        yield from _by(channel["by"], say)
        for told in channel["listed"]:
            yield f"{'':10}{told['target']}"
            own = [reason for reason in told["reasons"] if not reason["again"]]
            for reason in (own or told["reasons"])[:_REASONS]:
                yield f"{'':12}{reason[lang]}"
        if channel["yours"] > len(channel["listed"]):
            yield f"{'':10}{say['unlisted'].format(number=channel['yours'] - len(channel['listed']))}"
        if channel["total"] > channel["yours"]:
            yield f"{'':10}{say['others'].format(number=channel['total'] - channel['yours'])}"
    feeds = answer["feeds"]
    yield f"{feeds['total']:>8}  {say['feeds']}"
    for path in [path for path in feeds["listed"] if path.partition("?")[0].endswith(".atom")][:_PLACES]:
        yield f"{'':10}{path}"


def _by(counts: list[Mapping[str, Any]], say: Mapping[str, str]) -> Iterator[str]:
    for one in counts[:_PLACES]:
        rule = say[f"by-{one['rule']}"].format(area=one["area"], name=one["name"] or "?")
        yield f"{one['number']:>12}  {rule}{say['again'] if one['again'] else ''}"


def _asked(answer: Mapping[str, Any], say: Mapping[str, str], lang: str) -> Iterator[str]:
    asked = answer["as"]
    pairs = " ".join(f"{name}={','.join(values)}" for name, values in asked["filter"].items())
    yield ""
    yield f"{say['wanted'] if asked['wanted'] else say['unwanted']}: {pairs or say['everything']}"
    for reason in asked["reasons"]:
        yield f"  {reason[lang]}"
    if not answer["accepted"]:
        yield f"  {say['nobody']}"


_PLACES: Final = 12
_REASONS: Final = 3
WORDS: Final[Mapping[str, Mapping[str, str]]] = {
    "en": {
        "accepted": "would be accepted ({status}); {total} would be told",
        "repeat": "was accepted before ({status}); nobody would be told again",
        "refused": "WOULD BE REFUSED ({status}); nobody would be told",
        "drill": " (a drill, marked {mark}: only for those who asked for drills)",
        "level": "警戒レベル {level}",
        "kind": "kind {kind}",
        "places": "concerns",
        "nowhere": "names no place, so it concerns the whole jurisdiction",
        "more": " and {number} more",
        "over": "HAS EXPIRED: streams hear that it is over, and nothing is delivered",
        "outdated": "OUTDATED: something newer replaces it, so it is not told as new",
        "replaces": "takes the place of",
        "continues": "continues, and reaches who was told of",
        "streams": "streams now: {sse} SSE, {websocket} WebSocket",
        "no-node": "no node runs here: streams cannot be counted",
        "feeds": "feeds would change (Atom and RSS)",
        "again": ", told before",
        "unlisted": "and {number} more that may be shown (--limit)",
        "others": "and {number} of other organisations",
        "wanted": "YES, this filter gets it",
        "unwanted": "NO, this filter does not get it",
        "everything": "(no condition)",
        "nobody": "it would be refused, so nobody gets it",
        "not-drill-safe": "not sent: this channel carries no drills",
        "not-configured": "not sent: this channel is not configured",
        "too-late": "not sent: it has expired",
        "by-anywhere": "follow every place",
        "by-jurisdiction": "are in the sender's jurisdiction",
        "by-area": "follow {area} {name}",
        "by-point": "by a point inside",
        "by-polygon": "by a polygon that meets it",
        "by-bbox": "by a box that meets it",
        "by-unjudged": "by a filter that cannot be judged",
    },
    "ja": {
        "accepted": "受理されます({status})。配信先は{total}件です",
        "repeat": "受理済みの文書です({status})。再配信はされません",
        "refused": "受理されません({status})。どこにも配信されません",
        "drill": "({mark}。訓練・試験を希望した受信者のみ)",
        "level": "警戒レベル{level}",
        "kind": "種別{kind}",
        "places": "対象",
        "nowhere": "場所の指定なし(管轄全域が対象)",
        "more": " ほか{number}件",
        "over": "有効期限切れです。ストリームには終了として伝え、個別の配信は行いません",
        "outdated": "より新しい情報に置き換え済みです。新しい情報としては配信されません",
        "replaces": "置き換える情報",
        "continues": "引き継ぐ情報(その受信者にも届きます)",
        "streams": "接続中のストリーム(SSE {sse}、WebSocket {websocket})",
        "no-node": "ノードが動いていないため、ストリームは数えられません",
        "feeds": "更新されるフィード(AtomとRSS)",
        "again": "(前の情報の受信者)",
        "unlisted": "ほか{number}件(--limitで表示)",
        "others": "ほかの組織の{number}件",
        "wanted": "届きます",
        "unwanted": "届きません",
        "everything": "(条件なし)",
        "nobody": "受理されないため、どこにも届きません",
        "not-drill-safe": "送りません(訓練を流さない経路)",
        "not-configured": "送りません(この経路は設定されていません)",
        "too-late": "送りません(有効期限切れ)",
        "by-anywhere": "すべての場所を購読",
        "by-jurisdiction": "発信者の管轄内",
        "by-area": "{area} {name}を購読",
        "by-point": "区域内の地点を購読",
        "by-polygon": "区域と重なる多角形を購読",
        "by-bbox": "区域と重なる矩形を購読",
        "by-unjudged": "判定できない条件",
    },
}
