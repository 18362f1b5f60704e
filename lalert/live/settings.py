"""The bounds of the live streams; the defaults are safe for one node that faces the public."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LiveSettings:
    """Seconds and bytes. What is bounded here is bounded per node."""

    heartbeat_s: float = 15.0
    max_connections: int = 20_000
    max_per_address: int = 1_000
    """Of those without a key; behind a proxy, give the true address to `sse` and `websocket`."""
    max_per_key: int = 1_000
    buffer_bytes: int = 262_144
    """What may wait in this process for one connection before the next event makes it too slow."""
    kernel_bytes: int = 131_072
    """SO_SNDBUF: without it one stalled reader hides 4 MB in the kernel."""
    writers: int = 0
    """Threads that write a large fan-out, at most four; 0 for one on each core that this process may use, at most two."""
    stall_s: float = 10.0
    flush_s: float = 5.0
    """How long whoever was cut off has to take what was queued, the farewell included; then the socket is reset."""
    vanished_s: float = 30.0
    """TCP_USER_TIMEOUT: how long the kernel waits for a peer that acknowledges nothing."""
    retry_s: tuple[float, float] = (1.0, 5.0)
    """Between which a receiver's pause before it connects again is spread."""
    tick_s: float = 0.5
    """How often keys and stalled connections are looked at; a revoked key is cut off within two of these."""
    window_entries: int = 1_000
    window_bytes: int = 16_777_216
    page_entries: int = 64
    """Of one look into the store."""
    replay_limit: int = 100_000
    """How many entries one resume may examine before it is answered by a snapshot instead."""
    catch_ups: int = 4
    """How many resuming connections may work at once: more would slow down the fan-out."""
    messages_per_s: int = 100
    """What one WebSocket may send, on average; bursts may be twenty times as much."""
    max_languages: int = 64
    """How many languages are encoded for at once; whoever asks for yet another gets every language of the alert."""
    body_cache_bytes: int = 16_777_216
    stop_s: float = 10.0

    @property
    def drain_bytes(self) -> int:
        """Return how much may wait for a resuming connection before it has to drain; well below what makes a live one too slow."""
        return min(65_536, self.buffer_bytes // 2)
