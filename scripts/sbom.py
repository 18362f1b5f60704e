"""Write a software bill of materials (CycloneDX 1.6, JSON) of what a running hub consists of: sbom.py [OUTPUT].

Read from the metadata of the installed packages, following lalert's own requirements, so that tools of the test
environment are not listed; the vendored front end comes from its manifest. The same environment gives the same bytes.
"""

from __future__ import annotations

import json
import sys
import uuid
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import TypedDict

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
MANIFEST = ROOT / "lalert" / "web" / "static" / "vendor" / "VENDORED.json"

Component = TypedDict(
    "Component",
    {
        "bom-ref": str,
        "type": str,
        "name": str,
        "version": str,
        "purl": str,
        "licenses": list[dict[str, object]],
    },
)


class Dependency(TypedDict):
    ref: str
    dependsOn: list[str]


def main() -> int:
    output = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "dist" / "sbom.cdx.json"
    root = distribution("lalert")
    python = closure(root)
    vendored = front_end(json.loads(MANIFEST.read_text(encoding="utf-8")))
    document = bill(root, python, vendored)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{output.name}: {len(python)} Python packages, {len(vendored)} vendored")
    return 0


def required(package: Distribution) -> list[Distribution]:
    """Return the installed distributions that a package needs on this Python and platform, extras left out.

    A requirement of the package's own extras is not followed; one that asks for another's extra (`redis[hiredis]`) is, if installed.
    """
    found = []
    for line in package.requires or ():
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            try:
                found.append(distribution(requirement.name))
            except PackageNotFoundError:
                sys.exit(
                    f"{package.name} needs {requirement.name}, which is not installed: make demo installs everything"
                )
    return found


def closure(root: Distribution) -> dict[str, Distribution]:
    """Return everything that the package needs, directly or not, by canonical name."""
    found: dict[str, Distribution] = {}
    waiting = required(root)
    while waiting:
        package = waiting.pop()
        if found.setdefault(canonicalize_name(package.name), package) is package:
            waiting += required(package)
    return found


def bill(root: Distribution, python: dict[str, Distribution], vendored: list[Component]) -> dict[str, object]:
    components = [component(python[name]) for name in sorted(python)] + vendored
    dependencies = [dependency(package) for package in (root, *(python[name] for name in sorted(python)))]
    dependencies[0]["dependsOn"] += [part["bom-ref"] for part in vendored]
    serial = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps([components, dependencies], sort_keys=True))
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {"component": {**component(root), "type": "application"}},
        "components": components,
        "dependencies": dependencies,
    }


def component(package: Distribution) -> Component:
    return {
        "bom-ref": purl(package),
        "type": "library",
        "name": canonicalize_name(package.name),
        "version": package.version,
        "purl": purl(package),
        "licenses": licences(package),
    }


def dependency(package: Distribution) -> Dependency:
    return {"ref": purl(package), "dependsOn": sorted(purl(needed) for needed in required(package))}


def purl(package: Distribution) -> str:
    return f"pkg:pypi/{canonicalize_name(package.name)}@{package.version}"


def licences(package: Distribution) -> list[dict[str, object]]:
    """Return the SPDX expression where the package gives one (PEP 639), else what it says in words; nothing is guessed."""
    metadata = package.metadata
    if "License-Expression" in metadata:
        return [{"expression": metadata["License-Expression"]}]
    classifiers = metadata.get_all("Classifier") or []
    names = [line.rsplit(" :: ", 1)[-1] for line in classifiers if line.startswith("License :: ")]
    said = metadata["License"].strip() if "License" in metadata else ""
    if said and "\n" not in said:  # some put their whole licence text there
        names = [said]
    return [{"license": {"name": name}} for name in names]


def front_end(manifest: list[dict[str, str]]) -> list[Component]:
    return [
        {
            "bom-ref": (ref := f"pkg:npm/{package['package'].replace('@', '%40')}@{package['version']}"),
            "type": "library",
            "name": package["package"],
            "version": package["version"],
            "purl": ref,
            "licenses": [{"expression": package["licence"]}],
        }
        for package in manifest
    ]


if __name__ == "__main__":
    sys.exit(main())
