"""Areas of the Japan Meteorological Agency that are larger than a municipality: which municipalities lie in each."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Final

from lalert.errors import InvalidCode, LalertError
from lalert.geo.abroad import Located
from lalert.geo.codes import normalise_code

REGION_NAMES: Final = frozenset(
    {
        "jp:jmaRegion",
        "気象情報／府県予報区・細分区域等",
        "AreaForecastLocalM",
        "府県予報区",
        "一次細分区域",
        "市町村等をまとめた地域",
        "class15",
        "class15s",
        "class10",
        "class10s",
        "offices",
    }
)
"""The valueNames of a <geocode> whose value is JMA's code of a 府県予報区, a 一次細分区域 or 市町村等をまとめた地域, 6 digits."""


def region_prefecture(code: str) -> str:
    """Return the prefecture of a code of JMA, its first two digits; raises InvalidCode for what is no such code."""
    if len(code) != 6 or not (code.isascii() and code.isdigit()):
        raise InvalidCode(f"{code[:20]!r} is no area code of JMA: write 6 digits")
    return normalise_code(code[:2])


class Regions:
    """The municipalities, 6 digits, of each 一次細分区域, which all larger and smaller areas are told by."""

    def __init__(self, municipalities: Mapping[str, frozenset[str]]) -> None:
        self._municipalities = municipalities

    @classmethod
    def from_csv(cls, table: bytes) -> Regions:
        """Return what a table holds that scripts/build_regions.py made. Raises LalertError naming the line at fault."""
        rows = csv.DictReader(io.StringIO(table.decode()))
        try:
            return cls({row["region"]: frozenset(row["codes"].split()) for row in rows})
        except (LookupError, AttributeError, csv.Error) as error:
            raise LalertError(f"the table of regions, line {rows.line_num}: {error}") from None

    def locate(self, name: str, value: str) -> Located | None:
        """Return the municipalities of an area, of one that is not known its whole prefecture; None where it is no area of JMA.

        Of 市町村等をまとめた地域 it is the 一次細分区域 around it: more than the area, and nobody is left out.
        """
        if name not in REGION_NAMES:
            return None
        try:
            prefecture = region_prefecture(value)
        except InvalidCode:
            return None
        return Located(self._within(value) or frozenset({prefecture}), rough=False)

    def _within(self, code: str) -> frozenset[str]:
        around = (code, f"{code[:5]}0", f"{code[:4]}00")
        beginning = code.rstrip("0").ljust(2, "0") if code.endswith("000") else None
        return frozenset().union(
            *(
                codes
                for region, codes in self._municipalities.items()
                if region in _OFFICES.get(code, around) or (beginning and region.startswith(beginning))
            )
        )


_OFFICES: Final = {"014100": ("014010", "014020"), "460100": ("460010", "460020", "460030")}
"""The two 府県予報区 whose code does not end in 000. Of the others, the codes of their 一次細分区域 begin with what is before the 000."""
