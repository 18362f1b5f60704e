"""E-mail: one message per alert and recipient, through the operator's own mail server (docs/adapters/email.md)."""

from __future__ import annotations

from lalert_adapters.email.channel import Email as Email
from lalert_adapters.email.channel import EmailConfig as EmailConfig
