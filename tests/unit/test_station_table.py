"""A table of stations says what is asked of each, and of every line that does not read what is wrong."""

from __future__ import annotations

import pytest

from lalert.errors import BadRequest
from lalert.stations import read_table


def test_the_columns_become_what_json_would_ask() -> None:
    table = "\ufeffid,name,lat,lon,caution_m,danger_m,codes,hold,hysteresis_m\r\nb,大橋,32.2,130.7,3,4.5,432032 43205,2,0.1\r\n\r\n"
    [row] = read_table(table.encode())
    assert (row.line, row.mistakes) == (2, ())
    assert row.asked == {
        "id": "b",
        "name": "大橋",
        "lat": 32.2,
        "lon": 130.7,
        "thresholds": {"caution_m": 3.0, "danger_m": 4.5},
        "codes": ["432032", "43205"],
        "rule": {"hold": 2, "hysteresis_m": 0.1},
    }


def test_the_columns_of_the_national_list_are_known() -> None:
    table = (
        "code,name,kana,addr_kana,town_code5,pref,city,lat,lon,start_level,warn_level,flood_level\n"
        "0100000001,サラカオーマキキン川,,,01564,北海道,北海道網走郡大空町,43.929585,144.11891,1.47,,3.37\n"
    )
    [row] = read_table(table.encode())
    assert row.asked == {
        "id": "0100000001",
        "name": "サラカオーマキキン川",
        "codes": ["01564"],
        "lat": 43.929585,
        "lon": 144.11891,
        "quality": {"start_m": 1.47},
        "thresholds": {"flooding_m": 3.37},
    }


def test_every_bad_line_is_named() -> None:
    table = "id,name,lat,lon\na,A,32,130\nb,B,1e3,x\nc,C\na,again,32,130\n"
    found = [(row.line, row.mistakes) for row in read_table(table.encode())]
    assert found == [
        (2, ()),
        (3, ("lat: '1e3' is no number", "lon: 'x' is no number")),
        (4, ("2 cells under 4 columns",)),
        (5, ("id: stands in line 2 too",)),
    ]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (b"", "the column id is missing"),
        (b"id,name,lat,lon\n", "holds 0 stations"),
        (b"id,name,lat,lon,height\n", "line 1: 'height' is no column"),
        (b"id,code,name,lat,lon\n", "id stands twice"),
        ("id,名前".encode("cp932"), "is not UTF-8 text"),
        (b'id,name,lat,lon\n"a', "line 2"),
    ],
)
def test_a_table_that_cannot_be_read_is_refused_as_a_whole(table: bytes, said: str) -> None:
    with pytest.raises(BadRequest, match=said):
        read_table(table)
