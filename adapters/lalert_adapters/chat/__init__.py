"""Chat rooms: one adapter for the incoming webhooks of Slack, Microsoft Teams, Discord and Mattermost (docs/adapters/chat.md)."""

from __future__ import annotations

from lalert_adapters.chat.channel import Chat as Chat
from lalert_adapters.chat.channel import ChatConfig as ChatConfig
