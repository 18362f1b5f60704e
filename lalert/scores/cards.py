"""From counted days to a scorecard: per sender, what became of its documents, which rules were broken how often, and what to do about each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

from lalert.findings import RULES
from lalert.store import UNKNOWN, Reason, Score

_PLACE = re.compile(r"\{\w+\}")

_Words = tuple[str, str, str, str]

REFUSALS: Final[Mapping[str, _Words]] = {
    "sender-not-yours": (
        "the sender is not one of this organisation's",
        "この団体に登録のない発信者(sender)です",
        "use a sender that is registered, or ask the hub's operator to add it",
        "登録した発信者を使うか、運用者に追加を依頼してください",
    ),
    "exercise-only-key": (
        "a key for exercises was used for something real",
        "訓練専用の鍵で、訓練でない文書が送られました",
        "send drills with status Exercise or Test; use the other key for the real thing",
        "訓練ではstatusをExerciseかTestにし、本番では本番用の鍵を使ってください",
    ),
    "area-not-yours": (
        "the alert reaches beyond the organisation's places",
        "担当する地域の外が対象に含まれています",
        "alert only for places of your own; correct the geocode, polygon or circle",
        "対象を担当地域の中に収めてください。geocode、polygon、circleを確認してください",
    ),
    "reference-not-yours": (
        "it refers to another organisation's alert",
        "ほかの団体の文書を参照しています",
        "refer only to alerts of your own",
        "自分の団体の文書だけを参照してください",
    ),
    "conflict": (
        "an identity that was used before came again with other content",
        "一度使った識別子で、内容の違う文書が送られました",
        "give what has changed a new identifier, and send it as an Update",
        "内容を変えた文書には新しいidentifierを付け、更新(Update)として送ってください",
    ),
}
_OTHERWISE: Final[_Words] = (
    "the document was refused",
    "受け付けられませんでした",
    "look the code up in docs/errors.md",
    "docs/errors.mdで、このコードの説明を確認してください",
)


@dataclass(frozen=True, slots=True)
class Card:
    """One sender over some days: documents taken without a defect, taken with one, refused, and the reasons, the most frequent first."""

    org: str
    sender: str
    accepted: int
    defective: int
    refused: int
    reasons: tuple[tuple[str, Reason], ...]

    @property
    def documents(self) -> int:
        return self.accepted + self.defective + self.refused


@dataclass(frozen=True, slots=True)
class Cards:
    """The scorecards of the days from `since` to `until`, both included, in Japan's time."""

    since: date
    until: date
    cards: tuple[Card, ...]


def cards_of(scores: Iterable[Score], since: date, until: date) -> Cards:
    """Add the days of each sender up; who has most defects and refusals comes first."""
    by_sender: dict[tuple[str, str], list[Score]] = {}
    for score in scores:
        by_sender.setdefault((score.org, score.sender), []).append(score)
    found = [_card(org, sender, days) for (org, sender), days in sorted(by_sender.items())]
    return Cards(since, until, tuple(sorted(found, key=lambda card: -(card.defective + card.refused))))


def cards_json(found: Cards, names: Mapping[str, str]) -> dict[str, Any]:
    """Return scorecards as JSON; `names` are the organisations', for people."""
    return {
        "since": found.since.isoformat(),
        "until": found.until.isoformat(),
        "scorecards": [
            {
                "org": card.org,
                "name": names.get(card.org, card.org),
                "sender": None if card.sender == UNKNOWN else card.sender,
                "documents": card.documents,
                "accepted": card.accepted,
                "defective": card.defective,
                "refused": card.refused,
                "reasons": [_reason_json(name, reason, card.documents) for name, reason in card.reasons],
            }
            for card in found.cards
        ],
    }


def _card(org: str, sender: str, days: Sequence[Score]) -> Card:
    reasons: dict[str, Reason] = {}
    for day in days:
        for name, reason in day.reasons.items():
            before = reasons.get(name)
            reasons[name] = reason if before is None else before.then(reason)
    return Card(
        org,
        sender,
        accepted=sum(day.accepted for day in days),
        defective=sum(day.defective for day in days),
        refused=sum(day.refused for day in days),
        reasons=tuple(sorted(reasons.items(), key=lambda item: (-item[1].documents, item[0]))),
    )


def _reason_json(name: str, reason: Reason, documents: int) -> dict[str, Any]:
    rule = RULES.get(name)
    if rule is not None:
        words = (rule.message, rule.message_ja, rule.help, rule.help_ja)
    else:
        words = REFUSALS.get(name, _OTHERWISE)
    message, message_ja, help, help_ja = (_PLACE.sub("…", text) for text in words)
    return {
        "rule": name,
        "severity": rule.severity.value if rule is not None else "error",
        "documents": reason.documents,
        "share": round(reason.documents / documents, 4),
        "first": reason.first.isoformat(timespec="seconds"),
        "last": reason.last.isoformat(timespec="seconds"),
        "example": {
            "identifier": reason.example.identifier,
            "path": reason.example.path,
            "line": reason.example.line,
        },
        "message": message,
        "message_ja": message_ja,
        "help": help,
        "help_ja": help_ja,
        "doc": f"/rules#{name}" if rule is not None else None,
    }
