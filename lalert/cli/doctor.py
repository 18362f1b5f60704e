"""`lalert doctor`: what a hub lacks that nobody would notice before it matters."""

from __future__ import annotations

from pathlib import Path

import click

from lalert.app import load_gazetteer
from lalert.cli.settings import node_options, settings
from lalert.geo import Gazetteer, PlaceKind
from lalert.geo.territories import AGREEMENT


@click.command()
@node_options
def doctor(config_file: Path | None, data: Path | None) -> None:
    """Say which municipality boundaries are installed, and what that means for who is told."""
    for line in _boundaries(load_gazetteer(Path(settings(config_file, data).hub.data))):
        click.echo(line)


def _boundaries(known: Gazetteer) -> list[str]:
    kinds = {PlaceKind.MUNICIPALITY, PlaceKind.CITY_WITH_WARDS}
    municipalities = [place.code for place in known.places() if place.kind in kinds]
    official = sum(not known.approximate(code) for code in municipalities)
    count = len(municipalities)
    lines = [
        f"boundaries  official for {official} of {count} municipalities / 公式の境界: {count}市区町村のうち{official}"
    ]
    if official < len(municipalities):
        iou, covered, told = (
            f"{100 * AGREEMENT[key]:.1f}".removesuffix(".0") for key in ("iou", "covered", "told")
        )
        lines += [
            "            the others are approximate, from the points of their towns / 残りはおおよその範囲です",
            f"            against N03-2025, the median of them shares {iou} % of the area that either has and covers {covered} %;",
            f"            to match polygons they are widened, which finds at least {told} % of those concerned, and some neighbours",
            "            install official ones with: lalert gazetteer install FILE|URL",
        ]
    return lines
