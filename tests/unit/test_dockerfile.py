"""The image cannot be built where tests run, so every path, command and number in the Dockerfile is held against the tree."""

from __future__ import annotations

import ast
import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

import click
import pytest

from lalert.cli import main

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Instruction:
    stage: int
    word: str
    rest: str


def instructions() -> list[Instruction]:
    """Return the Dockerfile's instructions with their stage, counted from 0; continued lines are joined."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines()
    stage = -1
    found = []
    for line in joined:
        word, _, rest = line.partition(" ")
        stage += word == "FROM"
        found.append(Instruction(stage, word, rest))
    return found


def only(word: str) -> list[str]:
    return [each.rest for each in instructions() if each.word == word]


def stages() -> list[tuple[str, str]]:
    """Return (image, name) of each stage; the last has no name."""
    return [(image, name) for image, _, name in (rest.partition(" AS ") for rest in only("FROM"))]


def final(word: str) -> str:
    last = instructions()[-1].stage
    [rest] = [each.rest for each in instructions() if each.word == word and each.stage == last]
    return rest


def copied() -> list[str]:
    """Return every path that is copied from the tree."""
    return [source for rest in only("COPY") if not rest.startswith("--from=") for source in rest.split()[:-1]]


def shipped_by(source: str) -> Iterator[PurePosixPath]:
    """Yield the tracked or addable files that a COPY of this path takes along."""
    names = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", source],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return map(PurePosixPath, names.splitlines())


def ignored(path: PurePosixPath) -> bool:
    """Say whether .dockerignore keeps a path out: the last line that matches it or a folder above it decides."""
    verdict = False
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = line.removeprefix("!")
        above = [path, *path.parents][:-1]
        if any(matches(candidate, pattern) for candidate in above):
            verdict = not line.startswith("!")
    return verdict


def matches(path: PurePosixPath, pattern: str) -> bool:
    """Say whether a path is what a .dockerignore pattern names: `*` ends at a slash, a leading `**/` stands for any depth."""
    if pattern.startswith("**/"):
        return fnmatchcase(path.name, pattern.removeprefix("**/"))
    parts = PurePosixPath(pattern).parts
    return len(parts) == len(path.parts) and all(map(fnmatchcase, path.parts, parts))


def test_every_copied_path_exists_and_reaches_the_build() -> None:
    assert copied()
    for source in copied():
        files = list(shipped_by(source))
        assert files, f"{source} is not in the tree"
        assert not [path for path in files if ignored(path)], f".dockerignore keeps parts of {source} out"


def test_the_build_context_holds_nothing_but_what_is_copied() -> None:
    wanted = {path for source in copied() for path in shipped_by(source)}
    assert {path for path in shipped_by(".") if not ignored(path)} == wanted
    assert ignored(PurePosixPath(".git/config"))
    assert ignored(PurePosixPath("data/lalert.db"))
    assert ignored(PurePosixPath("lalert/__pycache__/model.cpython-313.pyc"))


def test_every_requirements_file_is_copied_before_it_is_installed() -> None:
    seen: set[str] = set()
    installed = []
    for each in instructions():
        if each.word == "COPY":
            seen.update(each.rest.split()[:-1])
        for name in re.findall(r"-r (\S+)", each.rest) if each.word == "RUN" else ():
            installed.append(name)
            assert name in seen
            assert "--require-hashes" in each.rest
    assert installed == ["requirements/build.txt", "requirements/runtime.txt"]


def test_everything_that_the_package_needs_to_be_built_is_copied() -> None:
    assert {"pyproject.toml", "README.md", "LICENSE", "NOTICE", "lalert", "adapters", "schemas"} <= set(
        copied()
    )


def test_stages_start_from_one_supported_python_pinned_by_tag() -> None:
    [image] = {image for image, _name in stages()}
    assert re.fullmatch(r"python:3\.1[123](\.\d+)?-slim-[a-z]+", image)


def test_what_is_copied_between_stages_was_made_there() -> None:
    names = {name for _image, name in stages()}
    between = [rest.removeprefix("--from=").split() for rest in only("COPY") if rest.startswith("--from=")]
    assert between
    for stage, source, target in between:
        assert stage in names
        assert source == target  # a virtual environment names its own place in its scripts
        assert f"python -m venv {source}" in only("RUN")


def test_the_node_runs_as_a_user_of_its_own_who_owns_the_data() -> None:
    user = final("USER")
    [made] = [rest for rest in only("RUN") if "useradd" in rest]
    assert user not in {"root", "0"}
    assert re.search(rf"useradd .*\b{user}\b", made)
    assert re.search(rf"--owner {user}\b.* {final('VOLUME')}$", made)
    words = [each.word for each in instructions()]
    assert words.index("USER") < words.index("ENTRYPOINT")


def test_the_command_is_one_that_lalert_has() -> None:
    assert json.loads(final("ENTRYPOINT")) == ["lalert"]
    name, *arguments = json.loads(final("CMD"))
    command = main.get_command(click.Context(main), name)
    assert command is not None
    context = command.make_context(
        name, arguments
    )  # ends the test with a usage error where an option is unknown
    assert context.params["host"] == "0.0.0.0"
    assert str(context.params["data"]) == final("VOLUME")
    assert str(context.params["port"]) == final("EXPOSE")


def test_the_health_check_asks_for_readiness_on_the_port_that_is_served() -> None:
    options, _, command = final("HEALTHCHECK").partition("CMD ")
    program, flag, code = json.loads(command)
    assert (program, flag) == ("python", "-c")
    [address] = [
        node.value
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Constant) and "://" in str(node.value)
    ]
    assert address == f"http://127.0.0.1:{final('EXPOSE')}/readyz"
    assert {"--interval=15s", "--retries=3"} <= set(shlex.split(options))


@pytest.mark.parametrize(
    "path", ["lalert/web/static/vendor/VENDORED.json", "lalert/geo/data/municipalities.csv"]
)
def test_shipped_data_reaches_the_build(path: str) -> None:
    assert not ignored(PurePosixPath(path))
