"""Fetch the front-end packages that the hub serves itself, check them, and keep only the files that pages use.

`vendor_frontend.py` downloads and writes; `vendor_frontend.py --check` compares what is committed with VENDORED.json and needs no
network. Both the archive's integrity (pinned below, as the package registry published it) and every file's checksum are
checked, so a changed release or a hand-edited file is found.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

VENDOR = Path(__file__).resolve().parent.parent / "lalert" / "web" / "static" / "vendor"
MANIFEST = "VENDORED.json"
NPM_ADVICE = "npm is needed to fetch packages (Debian: apt-get install npm)"
_WOFF_FALLBACK = re.compile(r", url\([^)]*\.woff\) format\('woff'\)")
_WOFF2 = re.compile(r"url\(\./(files/[^)]+\.woff2)\)")

Files = dict[str, bytes]


@dataclass(frozen=True, slots=True)
class Package:
    """A package of the npm registry: `integrity` is the sha512 of its archive, `select` picks (and may rewrite) files."""

    name: str
    version: str
    licence: str
    integrity: str
    select: Callable[[Files], Files]

    @property
    def folder(self) -> str:
        return f"{self.name.rsplit('/', 1)[-1]}-{self.version}"


def leaflet(archive: Files) -> Files:
    """Return the one script, its style sheet and images; sources and maps stay away."""
    wanted = re.compile(r"dist/(leaflet\.(js|css)|images/[^/]+\.png)")
    kept = {path.removeprefix("dist/"): data for path, data in archive.items() if wanted.fullmatch(path)}
    return kept | {"LICENSE": archive["LICENSE"]}


def biz_udpgothic(archive: Files) -> Files:
    """Return both weights as unicode-range subsets in woff2: a page loads only those that its text needs.

    The old woff fallback is cut from the style sheets, and the undivided `japanese` subset, which no style sheet names, is left out.
    """
    sheets = {name: archive[name].decode() for name in ("400.css", "700.css")}
    kept = {name: _WOFF_FALLBACK.sub("", sheet).encode() for name, sheet in sheets.items()}
    for sheet in sheets.values():
        kept |= {path: archive[path] for path in _WOFF2.findall(sheet)}
    return kept | {"LICENSE": archive["LICENSE"]}


PACKAGES = (
    Package(
        "leaflet",
        "1.9.4",
        "BSD-2-Clause",
        "sha512-nxS1ynzJOmOlHp+iL3FyWqK89GtNL8U8rvlMOsQdTTssxZwCXh8N2NB3GDQOL+YR3XnWyZAxwQixURb+FA74PA==",
        leaflet,
    ),
    Package(
        "@fontsource/biz-udpgothic",
        "5.3.0",
        "OFL-1.1",
        "sha512-uBcdaC2/Bg7GEhzWSb2REs8azL1ys+KpI8TmPnJa2xtaD8DVMgsRbtIcEss8xjN5KRtp8E0+LFbG43FhkWZdPw==",
        biz_udpgothic,
    ),
)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--check", action="store_true", help="only compare the committed files with VENDORED.json"
    )
    if parser.parse_args(argv).check:
        faults = list(check(VENDOR))
        print(*faults, sep="\n") if faults else print(f"vendored files: {count(VENDOR)} as listed")
        return 1 if faults else 0
    write(VENDOR, {package: package.select(fetch(package)) for package in PACKAGES})
    print(
        f"{count(VENDOR)} files, {sum(p.stat().st_size for p in VENDOR.rglob('*') if p.is_file()) / 1e6:.2f} MB"
    )
    return 0


def fetch(package: Package) -> Files:
    """Return the files of a package's archive by path; end the program where the archive is not the pinned one."""
    npm = shutil.which("npm")
    if npm is None:
        sys.exit(NPM_ADVICE)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [npm, "pack", "--silent", "--pack-destination", folder, f"{package.name}@{package.version}"],
            check=True,
            cwd=folder,
            stdout=subprocess.DEVNULL,
        )
        [archive] = Path(folder).glob("*.tgz")
        found = integrity(archive.read_bytes())
        if found != package.integrity:
            sys.exit(
                f"{package.name}@{package.version}: the archive is {found}, pinned is {package.integrity}"
            )
        return dict(members(archive))


def members(archive: Path) -> Iterator[tuple[str, bytes]]:
    """Yield (path below the archive's one root folder, contents) of plain files; nothing is unpacked to disk."""
    with tarfile.open(archive) as tar:
        for member in tar:
            stream = tar.extractfile(member) if member.isfile() else None
            if stream is not None:
                yield member.name.partition("/")[2], stream.read()


def write(vendor: Path, chosen: dict[Package, Files]) -> None:
    """Replace the vendor folder by these files and their manifest; the same input gives the same bytes."""
    shutil.rmtree(vendor, ignore_errors=True)
    for package, files in chosen.items():
        for path, data in files.items():
            target = vendor / package.folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
    listing = [
        {
            "package": package.name,
            "version": package.version,
            "licence": package.licence,
            "archive": package.integrity,
            "files": {
                f"{package.folder}/{path}": {"sha256": sha256(data), "integrity": integrity(data)}
                for path, data in sorted(files.items())
            },
        }
        for package, files in chosen.items()
    ]
    (vendor / MANIFEST).write_text(json.dumps(listing, indent=1) + "\n", encoding="utf-8")


def check(vendor: Path) -> Iterator[str]:
    """Yield a sentence for every file that is missing, changed or not listed."""
    listed: dict[str, str] = {}
    for package in json.loads((vendor / MANIFEST).read_text(encoding="utf-8")):
        listed |= {path: facts["sha256"] for path, facts in package["files"].items()}
    present = {
        p.relative_to(vendor).as_posix(): p for p in vendor.rglob("*") if p.is_file() and p.name != MANIFEST
    }
    for path in sorted(listed.keys() | present.keys()):
        if path not in present:
            yield f"{path}: listed in {MANIFEST}, but missing: make vendor"
        elif path not in listed:
            yield f"{path}: not listed in {MANIFEST}: make vendor"
        elif sha256(present[path].read_bytes()) != listed[path]:
            yield f"{path}: differs from {MANIFEST}: vendored files are never edited by hand"


def count(vendor: Path) -> int:
    return sum(1 for p in vendor.rglob("*") if p.is_file() and p.name != MANIFEST)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def integrity(data: bytes) -> str:
    """Return a Subresource Integrity value (W3C SRI) of the data."""
    return "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode()


if __name__ == "__main__":
    sys.exit(main())
