"""How an entry travels in the stream, and how the stream's ids are the log's offsets.

An id is milliseconds and a sequence number; an offset is both in one integer, `milliseconds * 2**21 + sequence`, which fits into 63 bits until the year
2109. So positions, cursors and rows are the same numbers in every store.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from lalert.errors import StoreError
from lalert.store.sqlite.codec import decode_codes, encode_codes, micros, moment
from lalert.store.sqlite.log import Columns, digest_of

SEQUENCE_BITS: Final = 21
FORGET: Final = "forget"
"""The field of an entry that is no alert: the offsets, as JSON, of those that leave every view here."""
FORMAT: Final = 1
"""Of the fields of an entry. A node refuses to read on at what is newer than what it knows."""


class Unreadable(StoreError):
    """An entry that no lalert has written, or that is damaged: it is passed over, on every node alike, for no other alert may wait behind it."""


def offset_of(stream_id: bytes | str) -> int:
    """Return the offset of a stream id."""
    text = stream_id.decode() if isinstance(stream_id, bytes) else stream_id
    milliseconds, _, sequence = text.partition("-")
    return (int(milliseconds) << SEQUENCE_BITS) + int(sequence)


def id_of(offset: int) -> str:
    """Return the stream id of an offset."""
    return f"{offset >> SEQUENCE_BITS}-{offset & ((1 << SEQUENCE_BITS) - 1)}"


def encode(new: Columns) -> list[str | bytes]:
    """Return the fields of an entry, name and value in turns."""
    assert new.stored is not None
    columns = {
        "id": new.id,
        "sent": new.sent,
        "until": new.until,
        "state": new.state,
        "scope": new.scope,
        "codes": encode_codes(new.jurisdiction),
        "stored": micros(new.stored),
        "references": new.references,
        "timeless": dict(new.timeless),
        "digest": new.digest.hex(),
    }
    return ["v", str(FORMAT), "columns", orjson.dumps(columns), "about", new.about, "raw", new.raw]


def decode(stream_id: bytes, fields: Mapping[bytes, bytes]) -> Columns:
    """Return the entry that was encoded; fields and columns that are not known are left aside.

    Raises `Unreadable`, and `StoreError` for a newer format: behind such a one a node waits until it is upgraded.
    """
    try:
        version = int(fields[b"v"])
        columns: dict[str, Any] = orjson.loads(fields[b"columns"])
        about: dict[str, Any] = orjson.loads(fields[b"about"])
        if version <= FORMAT:
            if digest_of(fields[b"raw"]).hex() != columns["digest"]:
                raise Unreadable(f"the document of the entry {stream_id.decode()} is damaged")
            return Columns(
                id=columns["id"],
                sender=about["sender"],
                identifier=about["identifier"],
                sent=columns["sent"],
                until=columns["until"],
                state=columns["state"],
                scope=columns["scope"],
                jurisdiction=decode_codes(columns["codes"]),
                about=fields[b"about"],
                digest=bytes.fromhex(columns["digest"]),
                raw=fields[b"raw"],
                references=tuple(columns["references"]),
                timeless={key: (who[0], who[1]) for key, who in columns["timeless"].items()},
                offset=offset_of(stream_id),
                stored=moment(columns["stored"]),
            )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise Unreadable(
            f"the entry {stream_id.decode()} of the log is not one of lalert's ({error!r}): has another program written to it?"
        ) from error
    raise StoreError(
        f"the entry {stream_id.decode()} was written by a newer lalert (format {version}, this one knows {FORMAT}); upgrade this node"
    )
