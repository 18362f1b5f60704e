"""[adapters.urgentmail]: whose telephones, by which carriers, and whether it is meant."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from lalert_adapters.drops import Drop

CITIES_OF_WARDS: Final = frozenset(
    (
        *("011002", "041009", "111007", "121002", "141003", "141305", "141500", "151009", "221007", "221309"),
        *("231002", "261009", "271004", "271403", "281000", "331007", "341002", "401005", "401307", "431001"),
    )
)
"""Codes of the designated cities, in whose place their wards are to be listed: a mail for a ward must not ring in the whole city."""


class UrgentMailConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[adapters.urgentmail]: whose telephones, by which carriers, and whether it is meant."""

    areas: tuple[Annotated[str, msgspec.Meta(pattern="^[0-9]{6}$")], ...]
    """6-digit codes of the municipalities and wards that the contracts with the carriers are for."""
    outlets: tuple[Drop, ...]
    """One for each carrier."""
    dry_run: bool
    """Has no default: a hub that only rehearses and one that rings every telephone must both be meant."""
    dry_run_folder: str = ""
    """Where dry runs are written; without it each outlet's own `folder` has a folder `dry-run`."""
    kinds: tuple[str, ...] = ("evacuation",)
    min_level: Annotated[int, msgspec.Meta(ge=1, le=5)] | None = None
    """The lowest 警戒レベル; an alert without a level passes."""
    max_body: Annotated[int, msgspec.Meta(ge=200, le=500)] = 200
    timeout_s: Annotated[float, msgspec.Meta(ge=1, le=25)] = 15.0

    def __post_init__(self) -> None:
        for code in self.areas:
            # JIS X 0402: with a slip of the pen no telephone would ring.
            total = sum(weight * int(digit) for weight, digit in zip((6, 5, 4, 3, 2), code[:5], strict=True))
            if int(code[5]) != (11 - total % 11) % 10:
                raise ValueError(f"areas: the check digit of {code[:5]} is {(11 - total % 11) % 10}")
            if code in CITIES_OF_WARDS:
                raise ValueError(f"areas: {code} is a city of wards, and mails go to wards: list those")
            if code[2:5] == "000":
                raise ValueError(
                    f"areas: {code} is a prefecture, and mails go to municipalities and wards: list those"
                )
        names = [outlet.name for outlet in self.outlets]
        if not self.areas or not names or len(set(names)) < len(names):
            raise ValueError("areas, outlets: at least one of each is needed, and names of outlets once each")
        if self.dry_run and not self.dry_run_folder and not all(outlet.folder for outlet in self.outlets):
            raise ValueError("dry_run_folder: is needed for the dry runs of an outlet with a url")
