"""`lalert gazetteer`: look a place up, or install the official boundaries."""

from __future__ import annotations

import asyncio
import io
import os
import re
import zipfile
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import click

from lalert import resources
from lalert.app import BOUNDARIES, load_gazetteer, make_private
from lalert.cli.settings import node_options, settings
from lalert.errors import BadRequest, InvalidGeometry, NotFound
from lalert.geo import Change, Former, Gazetteer, Place, normalise_code

MAX_BYTES = 1_000_000_000
DOWNLOAD_SECONDS = 1_800.0


@click.group()
def gazetteer() -> None:
    """Municipalities and wards: codes, names, places."""


@gazetteer.command()
@click.argument("code")
@node_options
def show(code: str, config_file: Path | None, data: Path | None) -> None:
    """Show what is known of a municipality, ward or prefecture code (2, 5 or 6 digits)."""
    found = settings(config_file, data)
    known = load_gazetteer(Path(found.hub.data), found.gazetteer.geocodes)
    canonical = normalise_code(code)
    place = known.place(canonical)
    if place is None:
        raise NotFound(f"{canonical} is well formed, but no municipality, ward or prefecture has it")
    former = known.former(canonical)
    for name, value in (_became(known, former) if former else _is(known, place)).items():
        click.echo(f"{name:11}{value}")


def _became(known: Gazetteer, former: Former) -> dict[str, str]:
    return {
        "code": former.code,
        "name": former.name,
        "kind": "no longer in use",
        "prefecture": _name(known, former.code[:2]),
        "ended": f"{former.ended}, {_CHANGES[former.change]}",
        "today": ", ".join(_name(known, heir) for heir in former.successors),
    }


_CHANGES = {
    Change.MERGED: "merged with others",
    Change.RENUMBERED: "given another code",
    Change.DESIGNATED: "made a city with wards",
    Change.WARDS: "joined with other wards",
    Change.SPLIT: "divided among several",
}


def _is(known: Gazetteer, place: Place) -> dict[str, str]:
    parts = [child.code for child in known.children(place.code)]
    return {
        "code": place.code,
        "name": f"{place.name} ({place.kana})",
        "English": place.name_en,
        "kind": place.kind,
        "prefecture": "-" if place.code == place.prefecture else _name(known, place.prefecture),
        "office": f"{place.lat:.5f} N {place.lon:.5f} E",
        "boundary": "approximate, from the points of its towns (おおよその範囲)"
        if known.approximate(place.code)
        else "official",
        "parts": f"{len(parts)}: {' '.join(parts[:8])}{' ...' if len(parts) > 8 else ''}" if parts else "-",
    }


@gazetteer.command()
@click.argument("source", metavar="FILE|URL")
@node_options
def install(source: str, config_file: Path | None, data: Path | None) -> None:
    """Install official boundaries from N03 GeoJSON (.geojson, or the .zip as it is published).

    Several files add up, such as one for each prefecture; the same name again replaces.
    """
    folder = Path(settings(config_file, data).hub.data)
    make_private(folder)
    raw = (
        asyncio.run(_download(source)) if source.startswith(("https://", "http://")) else _read(Path(source))
    )
    geojson = _unzipped(raw)
    known = Gazetteer.from_csv(resources.gazetteer_csv(), resources.former_codes_csv()).with_boundaries(
        geojson
    )
    official = sum(known.official(place.code) for place in known.places())
    make_private(folder / BOUNDARIES)
    target = folder / BOUNDARIES / f"{_stem(source)}.geojson"
    partial = target.with_suffix(".part")
    with partial.open("wb") as file:
        file.write(geojson)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(target)
    click.echo(
        f"installed the boundaries of {official} places in {target}; a running node uses them after a restart"
    )


def _name(known: Gazetteer, code: str) -> str:
    place = known.place(code)
    return f"{place.name} ({code})" if place else code


def _stem(source: str) -> str:
    """Return a plain file name for what a file or address gave, so that the same source replaces itself and others add up."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", Path(urlsplit(source).path).stem).strip("-")[:80] or "boundaries"


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise BadRequest(f"{path}: is larger than {MAX_BYTES // 1_000_000} MB")
        return path.read_bytes()
    except OSError as error:
        raise NotFound(f"{path}: cannot be read ({error.strerror})") from error


async def _download(url: str) -> bytes:
    timeout = aiohttp.ClientTimeout(total=DOWNLOAD_SECONDS)
    body = bytearray()
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as response:
            if response.status != 200:
                raise NotFound(f"{url}: answered {response.status}")
            async for chunk in response.content.iter_chunked(1_048_576):
                body += chunk
                if len(body) > MAX_BYTES:
                    raise BadRequest(f"{url}: is larger than {MAX_BYTES // 1_000_000} MB")
    except (aiohttp.ClientError, TimeoutError) as error:
        raise NotFound(f"{url}: cannot be fetched ({error})") from error
    return bytes(body)


def _unzipped(raw: bytes) -> bytes:
    if not raw.startswith(b"PK"):
        return raw
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            names = [info for info in archive.infolist() if info.filename.endswith((".geojson", ".json"))]
            if len(names) != 1:
                raise InvalidGeometry(
                    f"the archive holds {len(names)} GeoJSON files; unpack it and name the one"
                )
            if names[0].file_size > MAX_BYTES:
                raise InvalidGeometry("the GeoJSON in the archive is too large")
            return archive.read(names[0])
    except zipfile.BadZipFile as error:
        raise InvalidGeometry(f"the archive is damaged ({error})") from error
