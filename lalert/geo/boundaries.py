"""Reads official municipality boundaries (国土数値情報 行政区域データ, N03) from GeoJSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import shapely
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from lalert.errors import InvalidCode, InvalidGeometry, TooLarge
from lalert.geo.codes import normalise_code

MAX_BYTES: Final = 256 * 2**20
MAX_FEATURES: Final = 250_000  # the whole nation has about 125,000: every islet is a feature of its own

_CODE_PROPERTIES = ("N03_007", "code", "lgcode")
# shapely reads nested lists as they come, so malformed ones end in whatever error it ran into first.
_MALFORMED = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    OverflowError,
    shapely.errors.ShapelyError,
)


def read_boundaries(geojson: bytes) -> dict[str, BaseGeometry]:
    """Return code -> territory, in (lon, lat) degrees, all features of one code joined.

    A feature's code is its `N03_007` (5 digits), else its `code`, else its `lgcode`. Features without one, or with a prefecture's
    (所属未定地: land that belongs to no municipality), are left out. Rings that cross themselves are repaired. Raises
    TooLarge, or InvalidGeometry that names the feature (counted from 0) and what to do.
    """
    parts: dict[str, list[BaseGeometry]] = {}
    for index, feature in enumerate(_features(geojson)):
        code = _code(index, feature)
        if code is not None:
            parts.setdefault(code, []).append(_territory(index, feature))
    boundaries = {
        code: shapes[0] if len(shapes) == 1 else shapely.union_all(shapes) for code, shapes in parts.items()
    }
    empty = sorted(code for code, boundary in boundaries.items() if boundary.is_empty)
    if empty:
        raise InvalidGeometry(f"the features of {', '.join(empty[:5])} enclose nothing: fetch the file again")
    if not boundaries:
        raise InvalidGeometry(
            "no feature has a municipality code: use an N03 file, or give each feature a property `code`"
        )
    return boundaries


def _features(geojson: bytes) -> list[object]:
    if len(geojson) > MAX_BYTES:
        raise TooLarge(
            f"the boundaries have {len(geojson)} bytes, at most {MAX_BYTES} are taken: install the files of single "
            "prefectures one after the other, or simplify the file"
        )
    try:
        document = json.loads(geojson, object_hook=_geometry_at_once, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidGeometry(
            f"the boundaries are not JSON ({error}): unpack the .geojson of the N03 archive"
        ) from None
    features = document.get("features") if isinstance(document, dict) else None
    if not isinstance(features, list):
        raise InvalidGeometry(
            "the boundaries are not a GeoJSON FeatureCollection: use the .geojson of the N03 archive"
        )
    if len(features) > MAX_FEATURES:
        raise TooLarge(
            f"the boundaries have {len(features)} features, at most {MAX_FEATURES} are taken: install the files of "
            "single prefectures one after the other"
        )
    return features


@dataclass(frozen=True, slots=True)
class _Unreadable:
    """Stands for a geometry whose coordinates could not be read, until its feature's number is known."""

    reason: str


def _geometry_at_once(found: dict[str, object]) -> object:
    """Make each geometry when its JSON object ends: its lists of lists take ten times the room, and a nation has many."""
    if "coordinates" not in found:
        return found
    try:
        return shapely.force_2d(shape(found))
    except _MALFORMED as error:
        return _Unreadable(str(error))


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _code(index: int, feature: object) -> str | None:
    properties = feature.get("properties") if isinstance(feature, Mapping) else None
    if not isinstance(properties, Mapping):
        raise InvalidGeometry(
            f"feature {index} has no properties: its municipality code should be there as N03_007"
        )
    text = next((properties[name] for name in _CODE_PROPERTIES if properties.get(name)), None)
    if text is None:
        return None
    try:
        code = normalise_code(str(text))
    except InvalidCode as error:
        raise InvalidGeometry(f"feature {index}: {error.detail}") from None
    return code if len(code) == 6 else None


def _territory(index: int, feature: object) -> BaseGeometry:
    territory = feature.get("geometry") if isinstance(feature, Mapping) else None
    if isinstance(territory, _Unreadable):
        raise InvalidGeometry(
            f"feature {index} has coordinates that do not read ({territory.reason:.80}): fetch the file again"
        )
    kind = territory.geom_type if isinstance(territory, BaseGeometry) else territory
    if kind not in ("Polygon", "MultiPolygon"):  # a tuple: what came may not be hashable
        raise InvalidGeometry(
            f"feature {index} has the geometry {kind!s:.40}: a boundary should be a Polygon or a MultiPolygon"
        )
    # Asked of the points, because the bounds of a geometry pass over NaN; written so that NaN fails.
    if not (np.abs(shapely.get_coordinates(territory)) <= (180, 90)).all():
        raise InvalidGeometry(
            f"feature {index} lies outside longitude -180..180 and latitude -90..90: boundaries are in degrees, lon first"
        )
    if not shapely.is_valid(territory):
        territory = _areal(shapely.make_valid(territory))
    return territory


def _areal(geometry: BaseGeometry) -> BaseGeometry:
    """Return the parts that have an area: repairing a ring may leave the line of a spike."""
    parts = shapely.get_parts(shapely.get_parts(geometry))
    return shapely.union_all(parts[shapely.get_dimensions(parts) == 2])
