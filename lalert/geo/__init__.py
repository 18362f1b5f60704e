"""Where things are: areas as geometry, municipality codes, the gazetteer. Pure: bytes are handed in."""

from __future__ import annotations

from lalert.geo.abroad import Located as Located
from lalert.geo.boundaries import read_boundaries as read_boundaries
from lalert.geo.codes import check_digit as check_digit
from lalert.geo.codes import normalise_code as normalise_code
from lalert.geo.former import Change as Change
from lalert.geo.former import Former as Former
from lalert.geo.gazetteer import Gazetteer as Gazetteer
from lalert.geo.gazetteer import Place as Place
from lalert.geo.gazetteer import PlaceKind as PlaceKind
from lalert.geo.geocodes import Geocodes as Geocodes
from lalert.geo.geocodes import read_geocodes as read_geocodes
from lalert.geo.regions import REGION_NAMES as REGION_NAMES
from lalert.geo.regions import region_prefecture as region_prefecture
from lalert.geo.shapes import DECIMALS as DECIMALS
from lalert.geo.shapes import area_geometry as area_geometry
from lalert.geo.shapes import bbox as bbox
from lalert.geo.shapes import circle_geometry as circle_geometry
from lalert.geo.shapes import joint_bbox as joint_bbox
from lalert.geo.shapes import judged_ring as judged_ring
from lalert.geo.shapes import polygon_geometry as polygon_geometry
from lalert.geo.shapes import repair as repair
from lalert.geo.shapes import repaired_rings as repaired_rings
from lalert.geo.shapes import ring_problem as ring_problem
from lalert.geo.shapes import to_geojson as to_geojson
from lalert.geo.shapes import union as union
from lalert.geo.shapes import with_twins as with_twins
