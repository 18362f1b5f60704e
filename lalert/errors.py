"""Everything that lalert raises on purpose.

    LalertError
    ├── Refused                 the caller's fault; the same request will fail again
    │   ├── NotXml              400  not well-formed, a DOCTYPE, an entity, a limit passed
    │   ├── InvalidAlert        422  well-formed, but not a conforming alert; carries every problem
    │   ├── BadRequest          400  an unknown parameter, a malformed filter or position
    │   ├── Unauthenticated     401  no key, or one that is unknown, expired or revoked
    │   ├── Forbidden           403  a valid key that may not do this
    │   ├── NotFound            404
    │   ├── Conflict            409  the same identity with other bytes
    │   ├── TooLarge            413
    │   ├── UnsupportedType     415
    │   ├── InvalidCode         a municipality code that is none, or whose check digit is wrong
    │   └── InvalidGeometry     a ring or circle that encloses nothing, or no number
    ├── Unavailable             503/429  the hub's state; the same request may succeed later
    ├── UnknownPosition         a position of another epoch, of the future, or already trimmed
    ├── Fenced                  a node wrote under a lease that another node has taken over
    ├── ConfigError             every mistake of a configuration file at once
    ├── StoreError              the store cannot be opened or is no longer to be trusted
    └── DeliveryError           what an adapter says of one delivery
        ├── TemporaryFailure    another try is worth it (`retry_after` seconds, if the peer said so)
        ├── PermanentFailure    no other try will help; goes to the dead letters
        └── Gone                the target unsubscribed or no longer exists: drop it

Each leaf answers two questions: whose fault is it, and is another try worth it? `code` is stable and documented in
docs/errors.md; `detail` is a sentence for a person and never holds a secret.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar


class ProblemSeverity(StrEnum):
    """How much a problem weighs: only `error` makes an alert invalid."""

    ERROR = "error"
    WARNING = "warning"
    ADVICE = "advice"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding about one place of a document.

    `rule` is a stable id (`CAP-…`), `path` the element path (`/alert/info[1]/area[1]/polygon[1]`), `line` counts from 1
    (0 where none is known), `message` says what is wrong in English and `message_ja` in Japanese, `help` what to do.
    `repair` is what the hub did where it accepted the document all the same (a tolerant policy), "" where it did nothing.
    """

    rule: str
    severity: ProblemSeverity
    path: str
    line: int
    message: str
    message_ja: str = ""
    help: str = ""
    help_ja: str = ""
    repair: str = ""
    repair_ja: str = ""

    @property
    def doc(self) -> str:
        """Return where the rule is explained: the page under any hub's address, with the rule's anchor."""
        return f"/rules#{self.rule}"

    def members(self) -> dict[str, str | int]:
        """Return the finding as JSON names its parts (INTERFACE, `problems` and `defects`); what was not repaired has no `repair`."""
        named: dict[str, str | int] = {
            "rule": self.rule,
            "severity": self.severity.value,
            "path": self.path,
            "line": self.line,
            "message": self.message,
            "message_ja": self.message_ja,
            "help": self.help,
            "help_ja": self.help_ja,
            "doc": self.doc,
        }
        return named | {"repair": self.repair, "repair_ja": self.repair_ja} if self.repair else named


class LalertError(Exception):
    """Base of all errors that lalert raises on purpose."""

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500

    def __init__(self, detail: str, *, code: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.error_code = code or self.code


class Refused(LalertError):
    """The caller's fault: the same request fails again until the caller changes it."""

    code = "refused"
    status = 400


class NotXml(Refused):
    """Not well-formed XML, or a construct that is never read: DOCTYPE, entity, a limit passed (XML 1.0, 2.8 and 4)."""

    code = "not-xml"
    status = 400

    def __init__(self, detail: str, *, line: int = 0, code: str | None = None) -> None:
        super().__init__(detail, code=code)
        self.line = line
        self.problem: Problem | None = None
        """Which rule of the catalogue says so, where one does."""


class InvalidAlert(Refused):
    """Well-formed, but not a conforming CAP alert; `problems` lists every finding, not only the first."""

    code = "invalid-alert"
    status = 422

    def __init__(self, problems: Sequence[Problem]) -> None:
        errors = [p for p in problems if p.severity is ProblemSeverity.ERROR]
        first = errors[0] if errors else problems[0]
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        super().__init__(f"{first.path}: {first.message}{more}")
        self.problems = tuple(problems)


class BadRequest(Refused):
    """A parameter, filter, header or body field that does not read; `detail` names it and says what it should be."""

    code = "bad-request"
    status = 400


class Unauthenticated(Refused):
    """No key where one is needed, or a key that is unknown, expired or revoked: the answer never says which."""

    code = "unauthenticated"
    status = 401


class Forbidden(Refused):
    """A valid key that may not do this: another sender, area, mode, scope or role."""

    code = "forbidden"
    status = 403


class NotFound(Refused):
    """Nothing is known under that name."""

    code = "not-found"
    status = 404


class Conflict(Refused):
    """The same (sender, identifier, sent) was accepted before with other bytes (CAP 1.2, 3.2.1: identity is unique)."""

    code = "conflict"
    status = 409


class TooLarge(Refused):
    """A body over its limit."""

    code = "too-large"
    status = 413


class UnsupportedType(Refused):
    """A content type that this address does not take."""

    code = "unsupported-type"
    status = 415


class InvalidCode(Refused):
    """A municipality code that is none, or whose check digit is wrong (JIS X 0401/0402 with the MIC check digit)."""

    code = "invalid-code"
    status = 400


class InvalidGeometry(Refused):
    """A ring or circle that encloses nothing, crosses itself, or holds something that is no number."""

    code = "invalid-geometry"
    status = 400


class Unavailable(LalertError):
    """The hub cannot take this now; the same request may succeed after `retry_after` seconds."""

    code = "unavailable"
    status = 503

    def __init__(self, detail: str, *, retry_after: float = 1.0, code: str | None = None) -> None:
        super().__init__(detail, code=code)
        self.retry_after = retry_after


class TooManyRequests(Unavailable):
    """A limit per key or address was passed; try again after `retry_after` seconds."""

    code = "too-many-requests"
    status = 429


class UnknownPosition(LalertError):
    """A position of another epoch, of the future, or already trimmed: the reader must take a snapshot."""

    code = "unknown-position"
    status = 410


class Fenced(LalertError):
    """Nothing was written: the leases with these names are not this node's any more, so their work is another's now."""

    code = "fenced"

    def __init__(self, names: Collection[str]) -> None:
        super().__init__(f"another node has taken over {', '.join(sorted(names))}")
        self.names = frozenset(names)


class ConfigError(LalertError):
    """A configuration that does not hold; `mistakes` has one sentence each, all of them."""

    code = "config"

    def __init__(self, mistakes: Sequence[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = tuple(mistakes)


class StoreError(LalertError):
    """The store cannot be opened, is locked by another node, or is no longer to be trusted."""

    code = "store"


class DeliveryError(LalertError):
    """What an adapter says of one delivery; whether, when and how long to retry is the dispatcher's business alone.

    `request` and `response` are for the history: what was sent and what was answered, in a line each, as in `Outcome`.
    """

    code = "delivery"
    request = ""
    response = ""


class TemporaryFailure(DeliveryError):
    """Another try is worth it; `retry_after` is in seconds, where the peer asked for a pause."""

    code = "delivery-temporary"

    def __init__(self, detail: str, *, retry_after: float | None = None) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class PermanentFailure(DeliveryError):
    """No other try will help: the delivery goes to the dead letters, where a person can redeliver it."""

    code = "delivery-permanent"


class Gone(DeliveryError):
    """The target unsubscribed or no longer exists: its subscription is dropped."""

    code = "delivery-gone"
