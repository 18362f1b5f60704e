"""The message itself (RFC 5322): what all recipients of an alert share is made once, the few lines that are each one's own are put before it."""

from __future__ import annotations

import html
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8
from email.utils import format_datetime
from typing import Final

from lalert.model import Entry
from lalert.plugin import CANARY_NOTE, CANARY_TITLE, Text

MAX_SUBJECT: Final = 150
"""Characters; what is longer ends with an ellipsis. The drill mark stands at the beginning and is never cut."""


def common(entry: Entry, text: Text, cap: bytes, sender: Address, link: str | None) -> bytes:
    """Return the part that does not depend on the recipient: subject, text, HTML and the CAP document, in lines that any server takes.

    Every attempt carries the same: `Date` is when the alert was accepted.
    """
    message = _headed(sender, subject(text.title), entry.stored)
    message.set_content(plain(text, link), cte="base64")
    message.add_alternative(_page(text, link), subtype="html", cte="base64")
    message.add_attachment(cap, maintype="application", subtype="cap+xml", filename="alert.xml")
    # Last: set before, it would have become the text part's alone.
    message["Content-Language"] = text.lang
    return message.as_bytes()


def note(token: str, sender: Address, now: datetime) -> bytes:
    """Return the part of a canary that does not depend on its recipient."""
    message = _headed(sender, f"{CANARY_TITLE} {token}", now)
    message.set_content(f"{CANARY_TITLE}\n\n{CANARY_NOTE}\n\n{token}\n", cte="base64")
    return message.as_bytes()


def _headed(sender: Address, line: str, when: datetime) -> EmailMessage:
    message = EmailMessage(policy=SMTP)
    message["From"] = sender
    message["Subject"] = line
    message["Date"] = format_datetime(when)
    # RFC 3834, 5: no holiday notice comes back. `Precedence` and the third are for servers that know only those.
    message["Auto-Submitted"] = "auto-generated"
    message["Precedence"] = "bulk"
    message["X-Auto-Response-Suppress"] = "All"
    return message


def own(recipient: str, message_id: str, mailto: str | None, one_click: str | None) -> bytes:
    """Return the lines of one recipient; `message_id`, `mailto` and `one_click` are ASCII without spaces."""
    head = EmailMessage(policy=SMTP if recipient.isascii() else SMTPUTF8)
    local, _, domain = recipient.rpartition("@")
    head["To"] = Address(username=local, domain=domain)
    # Written as they are: the library would break a long word without spaces by encoding it, and no reader decodes that here.
    lines = [f"Message-ID: <{message_id}>"]
    ways = [
        f"<{way}>" for way in (one_click, f"mailto:{mailto}?subject=unsubscribe" if mailto else None) if way
    ]
    if ways:
        lines.append("List-Unsubscribe: " + ",\r\n ".join(ways))
    if one_click:
        lines.append("List-Unsubscribe-Post: List-Unsubscribe=One-Click")  # RFC 8058, 3.1
    return (
        head.as_bytes().rstrip(b"\r\n") + b"\r\n" + "".join(f"{line}\r\n" for line in lines).encode("ascii")
    )


def subject(title: str) -> str:
    """Return a title as one line of at most `MAX_SUBJECT` characters."""
    line = " ".join("".join(c if c.isprintable() else " " for c in title).split())
    return line if len(line) <= MAX_SUBJECT else line[: MAX_SUBJECT - 1].rstrip() + "…"


def plain(text: Text, link: str | None) -> str:
    """Return the text part."""
    return "\n\n".join(part for part in (text.title, text.body, link) if part) + "\n"


def _page(text: Text, link: str | None) -> str:
    blocks = "".join(
        f"<p>{html.escape(block).replace(chr(10), '<br>')}</p>\n"
        for block in text.body.split("\n\n")
        if block
    )
    address = html.escape(link or "")
    more = f'<p><a href="{address}">{address}</a></p>\n' if link else ""
    return (
        f'<!doctype html>\n<html lang="{html.escape(text.lang)}">\n<head><meta charset="utf-8">'
        f"<title>{html.escape(text.title)}</title></head>\n<body>\n"
        f'<h1 style="font-size:1.3em">{html.escape(text.title)}</h1>\n{blocks}{more}</body>\n</html>\n'
    )
