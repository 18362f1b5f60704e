"""Web Push: notes on the phones and computers of those who asked for them on the page of a place (docs/adapters/webpush.md)."""

from __future__ import annotations

from lalert_adapters.webpush.channel import WebPush as WebPush
from lalert_adapters.webpush.channel import WebPushConfig as WebPushConfig
