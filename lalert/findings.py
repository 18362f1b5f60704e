"""Every rule that a finding about an alert can carry, whoever judges: the tables of CAP's own rules, of its profiles, and of the hub.

A table is registered by its row in `TABLES`; the page /rules and the tests read them from here. An id is never reused for another meaning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from lalert import cap
from lalert.cap import Rule
from lalert.errors import ProblemSeverity

_ERROR = ProblemSeverity.ERROR
_WARNING = ProblemSeverity.WARNING


@dataclass(frozen=True, slots=True)
class Table:
    """Rules of one origin, with its name for people."""

    prefix: str
    title: str
    title_ja: str
    rules: Mapping[str, Rule]


# What the hub judges when an alert is handed in: who says it, when, and of what. docs/errors.md has a row for each.
_HUB = (
    Rule(
        "HUB-STATUS-DRAFT",
        _ERROR,
        "3.2.1",
        "a Draft is never sent out",
        "下書き(Draft)は配信できません",
        "submit it with status Actual, Exercise or Test",
        "statusをActual(実際)、Exercise(訓練)、Test(試験)のいずれかにして送ってください",
    ),
    Rule(
        "HUB-SENT-FUTURE",
        _ERROR,
        "lalert",
        "sent is {minutes} minutes ahead of the hub's clock ({now})",
        "sentがハブの時計({now})より{minutes}分先の時刻です",
        "check the sender's clock and its offset from UTC",
        "送信側の時計と、時差(日本時間は+09:00)を確認してください",
    ),
    Rule(
        "HUB-SENT-PAST",
        _ERROR,
        "lalert",
        "sent is {minutes} minutes behind the hub's clock ({now})",
        "sentがハブの時計({now})より{minutes}分前の時刻で、古すぎます",
        "check the sender's clock and its offset from UTC",
        "送信側の時計と、時差(日本時間は+09:00)を確認してください",
    ),
    Rule(
        "HUB-REFERENCE-STATUS",
        _ERROR,
        "3.2.1",
        "this is {status} but refers to {identifier}, which is {other}",
        "この文書は{status}ですが、{other}の{identifier}を参照しています。訓練・試験の文書で本番の情報を(またはその逆を)更新・取消することはできません",
        "refer only to alerts of the same status",
        "同じstatusの文書だけを参照してください",
    ),
    Rule(
        "HUB-REFERENCES-MANY",
        _ERROR,
        "lalert",
        "the alert {what}; {limit} are the most this hub keeps",
        "{what_ja}。上限は{limit}件です",
        "split it into several messages",
        "複数の文書に分けてください",
    ),
    Rule(
        "HUB-REFERENCE-SCOPE",
        _ERROR,
        "3.2.1",
        "this is {scope}, but {identifier}, which it would end, was told to everybody: they would never hear of it",
        "この文書のscopeは{scope}ですが、参照している{identifier}は一般に公開されています。終わったことや変わったことが、公開先に伝わりません",
        "send it with scope Public; what only some may read belongs in a message of its own, which is an Alert",
        "scopeをPublicにして送ってください。一部の人だけに伝える内容は、別の文書(msgTypeがAlert)にしてください",
    ),
    Rule(
        "HUB-ALERT-REFERS",
        _WARNING,
        "3.2.1",
        "an Alert replaces nothing: what it refers to stays in force beside it",
        "msgTypeがAlertの文書は参照先を更新しません。参照先の情報は、そのまま有効です",
        "to replace what it refers to, send it as an Update with a new identifier; otherwise leave <references> out",
        "参照先を更新するときは、新しいidentifierを付け、更新(Update)として送り直してください。そうでなければ<references>を外してください",
    ),
    Rule(
        "HUB-REFERENCE-UNKNOWN",
        _WARNING,
        "3.2.1",
        "reference {number} ({identifier}) is not known to this hub",
        "{number}番目の参照先{identifier}は、このハブに記録がありません",
        "it is kept and joined if that alert arrives later",
        "参照はそのまま残し、その文書が後から届けば結び付けます。書き誤りであれば訂正してください",
    ),
    Rule(
        "HUB-REFERENCE-AMBIGUOUS",
        _ERROR,
        "CAP 1.0, 3.2",
        "reference {number} ({identifier}) could mean several alerts, because it names no time",
        "{number}番目の参照先{identifier}は送信時刻がなく、該当する文書が複数あるため、どれを指すか決められません",
        "refer by sender,identifier,sent as in CAP 1.1 and 1.2; an Update is told all the same, but joined to none of them",
        "CAP 1.1以降の形式(sender,identifier,sent)で参照してください。更新(Update)の内容は配信しますが、どの文書とも結び付けません",
    ),
    Rule(
        "HUB-REFERENCE-EXPIRED",
        _WARNING,
        "3.2.1",
        "reference {number} ({identifier}) is to an alert that was over at {expires}",
        "{number}番目の参照先{identifier}は、{expires}に有効期限が切れています",
        "the update is in force again by itself; send the next one before the last has expired",
        "この更新は新たに有効になります。続ける場合は、期限が切れる前に次の更新を送ってください",
    ),
    Rule(
        "HUB-REFERENCE-CANCELLED",
        _WARNING,
        "3.2.1",
        "reference {number} ({identifier}) is to an alert that was cancelled",
        "{number}番目の参照先{identifier}は、すでに取り消されています",
        "what was cancelled stays so; the update is in force by itself. Begin a new alert (msgType Alert) after a Cancel",
        "取り消した情報は戻らず、この更新だけが有効になります。取消の後は新しい文書(msgTypeがAlert)として送ってください",
    ),
    Rule(
        "HUB-REFERENCE-SUPERSEDED",
        _WARNING,
        "3.2.1",
        "reference {number} ({identifier}) is to an alert that {newest} has already replaced",
        "{number}番目の参照先{identifier}は、すでに{newest}に更新されています",
        "refer to the newest revision, so that nobody's change is lost",
        "ほかの人の変更を消さないよう、最新の版を参照してください",
    ),
    Rule(
        "HUB-REVISION-OLD",
        _WARNING,
        "3.2.1",
        "a newer state of what this refers to is known: it is kept, but told to nobody as new",
        "この文書より新しい版がすでに届いています。記録はしますが、新しい情報としては配信しません",
        "if this is the newest after all, send it again with the present time as sent",
        "こちらが最新であれば、sentを現在の時刻にして送り直してください",
    ),
    Rule(
        "HUB-CANCEL-REASON",
        _WARNING,
        "3.2.1",
        "the Cancel gives no reason",
        "取消(Cancel)の理由がありません",
        "say in <note> why it is cancelled: those who were told will ask",
        "取消の理由を<note>に書いてください。受け取った人に伝わります",
    ),
    Rule(
        "HUB-CORRECTION-UNKNOWN",
        _WARNING,
        "lalert",
        "the alert is marked as a correction, but there is nothing in force that it could correct: it is told as new",
        "訂正の印がありますが、訂正の対象となる有効な情報が見つからないため、通常の情報として配信します",
        "a correction is an Update that refers to the newest revision of one alert in force; leave the mark out of anything else",
        "訂正は、有効な情報の最新版を参照する更新(Update)として送ってください。それ以外では訂正の印(code)を外してください",
    ),
    Rule(
        "HUB-CORRECTION-MAJOR",
        _ERROR,
        "lalert",
        "a correction must not change {field} (was: {before}; now: {after})",
        "訂正では{field}を変更できません(変更前: {before}、変更後: {after})",
        "leave it as it was, or send an ordinary Update without the mark in <code>: everybody is then alerted again",
        "元の値に戻すか、<code>の訂正の印を外して通常の更新(Update)として送ってください。その場合は全員に改めて通知されます",
    ),
    Rule(
        "HUB-SNAPSHOT-AREA-DROPPED",
        _WARNING,
        "lalert",
        "in force until now, and neither issued nor lifted by this revision: {codes}; it counts as lifted",
        "これまで有効だった地域が、発令にも解除にも含まれていません: {codes}。解除されたものとして扱います",
        "name every area in each revision: in an info that holds there, or in one with responseType AllClear",
        "版ごとに全地域を書いてください。継続する地域は発令のinfoに、解除する地域はresponseTypeがAllClearのinfoに入れます",
    ),
)

HUB: Final[Mapping[str, Rule]] = {rule.id: rule for rule in _HUB}

TABLES: Final[tuple[Table, ...]] = (
    Table("CAP-", "The Common Alerting Protocol", "CAP(共通警報プロトコル)の規則", cap.RULES),
    Table("JP-", cap.PROFILES["jp"].title, cap.PROFILES["jp"].title_ja, cap.PROFILES["jp"].rules),
    Table("EDXL-", "The envelope EDXL-DE 1.0", "EDXL-DE 1.0(封筒)の規則", cap.ENVELOPE_RULES),
    Table("HUB-", "What the hub asks when an alert is handed in", "ハブが受け付けるときの規則", HUB),
)

RULES: Final[Mapping[str, Rule]] = {id: rule for table in TABLES for id, rule in table.rules.items()}
