"""What is published, pinned and vendored is what the tree says, and the scripts that watch over it find what they should."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from datetime import date
from importlib.metadata import PackageNotFoundError, distribution, requires
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import lalert
from scripts import changelog, check_tree, sbom, vendor_frontend

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
PLATFORMS = [("linux", "Linux", "x86_64"), ("linux", "Linux", "aarch64"), ("darwin", "Darwin", "arm64")]
PYTHONS = ["3.11", "3.12", "3.13"]


def pins(lock: str) -> dict[str, Version]:
    text = (ROOT / "requirements" / f"{lock}.txt").read_text(encoding="utf-8")
    return {
        canonicalize_name(name): Version(version)
        for name, version in re.findall(r"^([\w.-]+)==([^\s;]+)", text, re.MULTILINE)
    }


def environments() -> Iterator[dict[str, str]]:
    """Yield what markers see on every supported Python and platform."""
    for python in PYTHONS:
        for sys_platform, system, machine in PLATFORMS:
            yield {
                **{key: str(value) for key, value in default_environment().items()},
                "python_version": python,
                "python_full_version": f"{python}.0",
                "sys_platform": sys_platform,
                "platform_system": system,
                "platform_machine": machine,
            }


def asked_for(lines: list[str], environment: dict[str, str], extra: str = "") -> list[Requirement]:
    found = map(Requirement, lines)
    return [
        each for each in found if each.marker is None or each.marker.evaluate({**environment, "extra": extra})
    ]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    [path] = folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


def test_the_wheel_holds_both_packages_with_all_their_files_and_the_schemas(wheel: zipfile.ZipFile) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "lalert", "adapters", "schemas"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    expected = {
        path.removeprefix("adapters/").replace("schemas/", "lalert/schemas/", path.startswith("schemas/"))
        for path in listed
    }
    shipped = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert shipped == expected
    assert {"lalert/py.typed", "lalert_adapters/py.typed", "lalert/schemas/cap-1.2.xsd"} <= shipped
    assert any(name.startswith("lalert/web/templates/") for name in shipped)
    assert any(name.startswith("lalert/geo/data/") for name in shipped)


def test_the_wheel_says_what_it_is(wheel: zipfile.ZipFile) -> None:
    info = f"lalert-{lalert.__version__}.dist-info"
    metadata = wheel.read(f"{info}/METADATA").decode()
    assert "License-Expression: Apache-2.0\n" in metadata
    assert "Requires-Python: >=3.11\n" in metadata
    assert {f"{info}/licenses/LICENSE", f"{info}/licenses/NOTICE"} <= set(wheel.namelist())
    entry_points = wheel.read(f"{info}/entry_points.txt").decode()
    adapters = PROJECT["entry-points"]["lalert.adapters"]
    named = "".join(f"{name} = {where}\n" for name, where in sorted(adapters.items()))
    assert f"[lalert.adapters]\n{named}" in entry_points
    assert "lalert = lalert.cli:main\n" in entry_points


def test_the_lock_meets_what_pyproject_asks_for() -> None:
    locked = pins("runtime")
    for requirement in map(Requirement, PROJECT["dependencies"]):
        assert requirement.specifier.contains(locked[canonicalize_name(requirement.name)]), (
            f"{requirement}: make lock"
        )
    extras = PROJECT["optional-dependencies"]
    developing = pins("dev")
    for requirement in map(Requirement, extras["test"] + extras["dev"]):
        if requirement.name != "lalert":
            assert requirement.specifier.contains(developing[canonicalize_name(requirement.name)]), (
                f"{requirement}: make lock"
            )


def test_tests_run_on_the_versions_that_are_shipped() -> None:
    developing = pins("dev")
    assert {name: developing.get(name) for name in pins("runtime")} == pins("runtime")


@pytest.mark.parametrize("lock", ["build", "runtime", "dev"])
def test_every_package_that_some_python_or_platform_asks_for_is_locked(lock: str) -> None:
    locked = pins(lock)
    missing = set()
    for name in locked:
        try:
            needs = requires(name) or []
        except PackageNotFoundError:
            continue  # marked for another Python than this
        for environment in environments():
            missing |= {
                f"{name} needs {each}"
                for each in asked_for(needs, environment)
                if canonicalize_name(each.name) not in locked
            }
    assert not missing


@pytest.mark.parametrize("lock", ["build", "lock", "runtime", "dev", "fuzz"])
def test_every_locked_package_has_hashes_and_no_line_names_a_place(lock: str) -> None:
    text = (ROOT / "requirements" / f"{lock}.txt").read_text(encoding="utf-8")
    for block in re.split(r"^(?=[\w])", text, flags=re.MULTILINE)[1:]:
        assert re.fullmatch(r"[\w.-]+==\S+( ; .+)? \\\n(    --hash=sha256:[0-9a-f]{64}( \\)?\n)+", block)


def test_what_is_published_as_source_only_is_built_with_locked_tools() -> None:
    assert {"hatchling", "setuptools"} <= pins("build").keys()
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    installs = [line for line in makefile.splitlines() if "$(INSTALL) " in line]
    assert len(installs) == 5
    assert all("--require-hashes" in line or "--no-deps" in line for line in installs)
    assert all("--no-build-isolation" in line for line in installs if "build.txt" not in line)


@pytest.fixture
def vendored(tmp_path: Path) -> Path:
    return shutil.copytree(vendor_frontend.VENDOR, tmp_path / "vendor")


def test_vendored_files_are_as_their_manifest_says() -> None:
    assert not list(vendor_frontend.check(vendor_frontend.VENDOR))


def test_an_edited_vendored_file_is_found(vendored: Path) -> None:
    script = vendored / "leaflet-1.9.4" / "leaflet.js"
    script.write_bytes(script.read_bytes() + b" ")
    assert [fault.partition(":")[0] for fault in vendor_frontend.check(vendored)] == [
        "leaflet-1.9.4/leaflet.js"
    ]


def test_a_missing_and_an_unlisted_vendored_file_are_found(vendored: Path) -> None:
    (vendored / "leaflet-1.9.4" / "leaflet.css").rename(vendored / "leaflet-1.9.4" / "other.css")
    missing, unlisted = vendor_frontend.check(vendored)
    assert "leaflet.css: listed in" in missing
    assert "other.css: not listed in" in unlisted


def test_the_manifest_names_the_packages_that_the_script_pins() -> None:
    manifest = json.loads((vendor_frontend.VENDOR / vendor_frontend.MANIFEST).read_text(encoding="utf-8"))
    assert [(each["package"], each["version"], each["licence"], each["archive"]) for each in manifest] == [
        (package.name, package.version, package.licence, package.integrity)
        for package in vendor_frontend.PACKAGES
    ]
    notice = (ROOT / "NOTICE").read_text(encoding="utf-8")
    for package in vendor_frontend.PACKAGES:
        assert (vendor_frontend.VENDOR / package.folder / "LICENSE").is_file()
        assert package.licence.partition("-")[0] in notice.replace("SIL Open Font License", "OFL")


def test_every_font_that_a_style_sheet_names_is_shipped() -> None:
    folder = vendor_frontend.VENDOR / "biz-udpgothic-5.3.0"
    named = {
        path
        for sheet in folder.glob("*.css")
        for path in re.findall(r"url\(([^)]+)\)", sheet.read_text(encoding="utf-8"))
    }
    assert named == {f"./files/{path.name}" for path in folder.glob("files/*")}


def test_the_change_fragments_are_well_formed() -> None:
    assert not list(changelog.check(ROOT / "changes"))


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("fixed.md", "A sentence.\n", "call it"),
        ("0.fixed.md", "A sentence.\n", "call it"),
        ("7.broken.md", "A sentence.\n", "call it"),
        ("7.fixed.txt", "A sentence.\n", "call it"),
        ("7.fixed.md", " \n", "empty"),
        ("7.fixed.md", "- A sentence.\n", "no list mark"),
        ("7.fixed.md", "A sentence.", "end the last line"),
        ("7.fixed.md", "word " * 200 + "\n", "characters"),
    ],
)
def test_a_malformed_fragment_is_named_with_the_remedy(
    tmp_path: Path, name: str, text: str, why: str
) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "8.added.md").write_text("A good one.\n", encoding="utf-8")
    [fault] = changelog.check(tmp_path)
    assert name in fault
    assert why in fault


def test_a_release_gathers_fragments_by_kind_above_the_older_ones(tmp_path: Path) -> None:
    for name, text in {
        "9.fixed.md": "B was\nmended.\n",
        "10.fixed.md": "C was mended.\n",
        "3.security.md": "A was closed.\n",
    }.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    before = f"# Changelog\n\n{changelog.MARK}\n## 0.1.0 (2026-01-01)\n"
    after = changelog.released(before, "0.2.0", date(2026, 11, 30), changelog.read(tmp_path))
    assert after == (
        f"# Changelog\n\n{changelog.MARK}\n## 0.2.0 (2026-11-30)\n\n### Security\n\n- A was closed. (#3)\n"
        "\n### Fixed\n\n- B was mended. (#9)\n- C was mended. (#10)\n\n## 0.1.0 (2026-01-01)\n"
    )
    with pytest.raises(ValueError, match=r"has 0\.2\.0 already"):
        changelog.released(after, "0.2.0", date(2026, 12, 1), changelog.read(tmp_path))


def findings(root: Path, name: str, text: str) -> list[str]:
    return list(check_tree.check(root / name, text.encode(), check_tree.forbidden(root), root))


def test_a_registry_host_is_found_with_its_line(tmp_path: Path) -> None:
    host = check_tree.REGISTRY_HOSTS[0]
    [fault] = findings(tmp_path, "docs/a.md", f"one\nsee https://{host}.org/x\n")
    assert fault.startswith(f"docs/a.md:2: {host}")


def test_a_path_of_this_machine_is_found_and_a_longer_name_is_not(tmp_path: Path) -> None:
    assert findings(tmp_path, "a.py", f'x = "{tmp_path}/data"\n')
    assert findings(tmp_path, "a.py", f"cd {Path.home()}\n")
    assert not findings(tmp_path, "a.py", f"{tmp_path}-other and ./relative\n")


@pytest.mark.parametrize(
    "line", ["--index-url https://mirror.example", "-i https://x.example", "-e .", "lalert @ file:lalert.whl"]
)
def test_a_lock_that_names_a_place_is_found(tmp_path: Path, line: str) -> None:
    pin = "click==8.5.1 \\\n    --hash=sha256:00\n"
    assert findings(tmp_path, "requirements/runtime.txt", f"{line}\n{pin}")
    assert not findings(tmp_path, "requirements/runtime.txt", pin)


def fake_python(folder: Path, body: str) -> Path:
    path = folder / "python3"
    path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def setup_venv(folder: Path, python: Path) -> subprocess.CompletedProcess[str]:
    command = [ROOT / "scripts" / "setup_venv.sh", folder / "venv", python]
    return subprocess.run(command, text=True, capture_output=True, check=False)


def test_a_python_that_is_too_old_is_refused_by_name(tmp_path: Path) -> None:
    old = fake_python(tmp_path, '[ "$1" = --version ] && echo Python 3.9.2 || exit 1')
    done = setup_venv(tmp_path, old)
    assert done.returncode == 1
    assert "needs Python 3.11 or later" in done.stderr
    assert "Python 3.9.2" in done.stderr
    assert "make PYTHON=" in done.stderr


def test_a_python_without_venv_is_answered_with_the_package_to_install(tmp_path: Path) -> None:
    split = fake_python(tmp_path, f'case "$2" in *ensurepip*) exit 1;; *) exec {sys.executable} "$@";; esac')
    done = setup_venv(tmp_path, split)
    assert done.returncode == 1
    assert f"apt-get install python{sys.version_info.major}.{sys.version_info.minor}-venv" in done.stderr
    assert not (tmp_path / "venv").exists()


def setup_tests(folder: Path, **programs: str) -> subprocess.CompletedProcess[str]:
    """Run the script where only these programs exist, each a line of shell."""
    for name, body in programs.items():
        path = folder / name.replace("_", "-")
        path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
        path.chmod(0o755)
    command = ["/bin/sh", str(ROOT / "scripts" / "setup_tests.sh")]
    return subprocess.run(command, env={"PATH": str(folder)}, text=True, capture_output=True, check=False)


def test_a_missing_browser_that_cannot_be_installed_is_an_error_that_says_what_to_type(
    tmp_path: Path,
) -> None:
    done = setup_tests(tmp_path, id="echo 1000", apt_get="exit 0", sudo="exit 1")
    assert done.returncode == 1
    assert (
        "apt-get install --no-install-recommends chromium fontconfig fonts-noto-cjk xmlsec1 redis-tools"
        in done.stderr
    )
    assert "python -m pytest -m 'not browser and not slow'" in done.stderr


def test_a_missing_browser_is_installed_where_that_is_allowed(tmp_path: Path) -> None:
    done = setup_tests(tmp_path, id="echo 0", apt_get=f'echo "$@" >>{tmp_path}/log')
    assert done.returncode == 0
    assert (tmp_path / "log").read_text(encoding="utf-8").splitlines() == [
        "update -qq",
        "install -y -qq --no-install-recommends chromium fontconfig fonts-noto-cjk xmlsec1 redis-tools",
    ]


def test_a_failed_installation_is_an_error(tmp_path: Path) -> None:
    assert setup_tests(tmp_path, id="echo 0", apt_get='[ "$1" = update ]').returncode == 1


def test_nothing_is_installed_where_browser_and_font_are_there(tmp_path: Path) -> None:
    there = {"chromium": "exit 0", "fc_list": "echo Noto", "xmlsec1": "exit 0", "redis_check_rdb": "exit 0"}
    done = setup_tests(tmp_path, **there, id="echo 0", apt_get=f"touch {tmp_path}/log")
    assert (done.returncode, done.stdout, (tmp_path / "log").exists()) == (0, "", False)


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    env = {key: value for key, value in os.environ.items() if key not in {"MAKEFLAGS", "MAKELEVEL", "MFLAGS"}}
    return subprocess.run(
        ["make", *arguments], cwd=ROOT, env=env, text=True, capture_output=True, check=False
    )


def test_make_help_lists_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    [phony] = re.findall(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    listed = re.findall(r"^  make (\w+)", make("help").stdout, re.MULTILINE)
    assert sorted(listed) == sorted(phony.split())
    assert {"demo", "run", "test", "check", "bench", "torture", "assurance", "sbom", "help"} <= set(listed)


@pytest.mark.parametrize(("target", "issue"), [("assurance", "#10")])
def test_a_target_that_is_not_built_yet_says_so_and_fails(target: str, issue: str) -> None:
    done = make(target)
    assert done.returncode == 2
    assert issue in done.stderr


def test_the_bill_of_materials_lists_what_runs_and_nothing_that_only_tests() -> None:
    root = distribution("lalert")
    manifest = json.loads(sbom.MANIFEST.read_text(encoding="utf-8"))
    document = sbom.bill(root, sbom.closure(root), sbom.front_end(manifest))
    text = json.dumps(document)
    names = re.findall(r'"type": "library", "name": "([^"]+)"', text)
    assert sorted(set(names)) == sorted(names)
    assert {"aiohttp", "lxml", "yarl", "leaflet", "@fontsource/biz-udpgothic"} <= set(names)
    assert not {"pytest", "ruff", "hatchling"} & set(names)
    assert f'"pkg:pypi/lalert@{lalert.__version__}"' in text
    assert document == sbom.bill(root, sbom.closure(root), sbom.front_end(manifest))


def test_the_layers_are_those_that_architecture_md_shows() -> None:
    contracts = PYPROJECT["tool"]["importlinter"]["contracts"]
    [layers] = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    checked = [{name.strip() for name in layer.split("|")} for layer in layers if layer != "__main__"]
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    shown = re.findall(r"^\| \d+ \| ([^|]+) \|", text, re.MULTILINE)
    assert [set(re.findall(r"`(\w+)`", row)) for row in shown] == checked
