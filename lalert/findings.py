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
        "HUB-REFERENCE-UNKNOWN",
        _WARNING,
        "3.2.1",
        "reference {number} ({identifier}) is not known to this hub",
        "{number}番目の参照先{identifier}は、このハブに記録がありません",
        "it is kept and joined if that alert arrives later",
        "参照はそのまま残し、その文書が後から届けば結び付けます。書き誤りであれば訂正してください",
    ),
)

HUB: Final[Mapping[str, Rule]] = {rule.id: rule for rule in _HUB}

TABLES: Final[tuple[Table, ...]] = (
    Table("CAP-", "The Common Alerting Protocol", "CAP(共通警報プロトコル)の規則", cap.RULES),
    Table("JP-", cap.PROFILES["jp"].title, cap.PROFILES["jp"].title_ja, cap.PROFILES["jp"].rules),
    Table("HUB-", "What the hub asks when an alert is handed in", "ハブが受け付けるときの規則", HUB),
)

RULES: Final[Mapping[str, Rule]] = {id: rule for table in TABLES for id, rule in table.rules.items()}
