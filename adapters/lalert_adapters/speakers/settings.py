"""[adapters.speakers]: which loudspeakers there are, and what they say."""

from __future__ import annotations

import importlib.util
from typing import Annotated, Literal

import msgspec

from lalert.model import Filter, Status
from lalert_adapters.drops import Drop

Line = Annotated[str, msgspec.Meta(max_length=100)]


class Speaker(Drop, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One loudspeaker, or one controller of many: where its sound goes, and for which areas it speaks."""

    areas: tuple[Annotated[str, msgspec.Meta(pattern="^[0-9]{2}([0-9]{4})?$")], ...]
    """Codes of 6 digits, or of 2 for a prefecture."""
    drills: bool = False
    """Also Exercise and Test, said to be such at the beginning and the end."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.areas:
            raise ValueError(f"{self.name}: areas is empty: it would speak for everywhere")
        for code in self.areas:
            # JIS X 0402: with a slip of the pen it would stay silent.
            total = sum(weight * int(digit) for weight, digit in zip((6, 5, 4, 3, 2), code[:5], strict=False))
            if len(code) == 6 and int(code[5]) != (11 - total % 11) % 10:
                raise ValueError(
                    f"{self.name}: areas: the check digit of {code[:5]} is {(11 - total % 11) % 10}"
                )


class SpeakersConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[adapters.speakers]."""

    speakers: tuple[Speaker, ...]
    kinds: tuple[str, ...] = ("evacuation",)
    """What is said aloud; an Update or Cancel of what was said is said too."""
    min_level: Annotated[int, msgspec.Meta(ge=1, le=5)] | None = None
    """The lowest 警戒レベル; an alert without a level passes."""
    opening: Line = ""
    """Said first, such as こちらは、防災人吉です。"""
    closing: Line = ""
    repeat: Annotated[int, msgspec.Meta(ge=1, le=3)] = 2
    max_body: Annotated[int, msgspec.Meta(ge=60, le=800)] = 300
    """Characters beside the title: 300 are about a minute."""
    speed: Annotated[float, msgspec.Meta(ge=0.6, le=1.5)] = 0.9
    """1.0 is how the voice speaks by itself; outdoors slower is clearer."""
    sample_rate: Literal[48_000, 24_000, 16_000, 8_000] = 48_000
    readings: dict[str, str] = {}
    """Kana by what is written, before the sender's and the gazetteer's."""
    synthesis_s: Annotated[float, msgspec.Meta(ge=1, le=30)] = 25.0
    timeout_s: Annotated[float, msgspec.Meta(ge=1, le=25)] = 15.0

    def __post_init__(self) -> None:
        names = [speaker.name for speaker in self.speakers]
        if not names or len(set(names)) < len(names):
            raise ValueError("speakers: at least one is needed, and each name once")
        if importlib.util.find_spec("pyopenjtalk") is None:
            raise ValueError("speakers: need a voice, install it: pip install 'lalert[tts]'")

    def filter_of(self, speaker: Speaker) -> Filter:
        """Return what a loudspeaker is to hear of."""
        drills = {Status.EXERCISE, Status.TEST} if speaker.drills else set()
        return Filter(
            areas=frozenset(speaker.areas),
            min_level=self.min_level,
            statuses=frozenset({Status.ACTUAL, *drills}),
        )
