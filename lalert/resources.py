"""The only place that knows where the files shipped with lalert live."""

from __future__ import annotations

from functools import cache
from pathlib import Path

_PACKAGE = Path(__file__).parent


@cache
def schemas_dir() -> Path:
    """Return the folder of the XSDs, JSON schemas and API descriptions: inside an installed package, beside it in a checkout."""
    installed = _PACKAGE / "schemas"
    return installed if installed.is_dir() else _PACKAGE.parent / "schemas"


def schema(name: str) -> bytes:
    """Return one file of the schemas folder, such as `cap-1.2.xsd` or `openapi.yaml`."""
    return (schemas_dir() / name).read_bytes()


def gazetteer_csv() -> bytes:
    """Return the table of municipalities, wards and prefectures."""
    return (_PACKAGE / "geo" / "data" / "municipalities.csv").read_bytes()


def former_codes_csv() -> bytes:
    """Return the table of municipality codes that ended, with their successors."""
    return (_PACKAGE / "geo" / "data" / "former_codes.csv").read_bytes()


def abroad_csv() -> bytes:
    """Return the table of rough outlines of places abroad."""
    return (_PACKAGE / "geo" / "data" / "abroad.csv").read_bytes()


def jma_regions_csv() -> bytes:
    """Return the table of the municipalities in each region of the Japan Meteorological Agency."""
    return (_PACKAGE / "geo" / "data" / "jma_regions.csv").read_bytes()


def texts_dir() -> Path:
    """Return the folder of the templates of texts."""
    return _PACKAGE / "texts" / "templates"


def web_dir(name: str) -> Path:
    """Return the folder `static` or `templates` of the hub's pages."""
    return _PACKAGE / "web" / name
