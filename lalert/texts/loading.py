"""Reads the templates and languages that come along, and an operator's own, with every mistake in them."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import msgspec

from lalert import resources
from lalert.texts.library import Library
from lalert.texts.sandbox import Sandbox
from lalert.texts.values import KNOWS, SHELTER_STATES, Language

LANGUAGES: Final = "languages.toml"
MAX_FILES: Final = 2_000
MAX_BYTES: Final = 65_536

_MOMENT: Final = re.compile(r"(?:[^{}]|\{(?:year|month|day|hour|minute)(?::02)?\})+")


def load(on: Iterable[str] | None, folder: str = "") -> tuple[Library, list[str]]:
    """Return the library of the languages that are `on` (None: of all), with an operator's own `folder` before what is shipped, and every mistake in it."""
    languages, sources = shipped()
    mistakes: list[str] = []
    own: dict[str, str] = {}
    if folder:
        try:
            own, tables = _read(Path(folder))
            languages = {**languages, **_languages(tables)}
        except (OSError, ValueError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
            mistakes.append(f"texts.templates: {error}")
    sandbox = Sandbox({**sources, **own}, KNOWS) if own else _shipped_sandbox()
    for name in own:
        tag = name.partition("/")[0]
        if tag not in languages:
            mistakes.append(f"texts.templates: {name}: {tag} is no language of {LANGUAGES}")
        mistakes += [f"texts.templates: {name}: {why}" for why in sandbox.mistakes(name)]
    wanted = list(languages if on is None else dict.fromkeys(on))
    for tag in wanted:
        if tag not in languages:
            near = difflib.get_close_matches(tag, languages, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(languages))}"
            mistakes.append(f"texts.languages: {tag[:40]!r} is no language of the templates, {hint}")
    return Library(languages, sandbox, [tag for tag in wanted if tag in languages]), mistakes


@cache
def usual() -> Library:
    """Return the shipped templates of the languages that are checked, for whoever has no configuration."""
    return load(checked())[0]


def checked() -> tuple[str, ...]:
    """Return the shipped languages that are on unless the configuration says otherwise."""
    return tuple(tag for tag, language in shipped()[0].items() if language.checked)


@cache
def shipped() -> tuple[Mapping[str, Language], Mapping[str, str]]:
    """Return the languages and the templates that come along."""
    sources, tables = _read(resources.texts_dir())
    return _languages(tables), sources


@cache
def _shipped_sandbox() -> Sandbox:
    return Sandbox(shipped()[1], KNOWS)


def _read(folder: Path) -> tuple[dict[str, str], dict[str, Any]]:
    """Return the templates of a folder by their names below it, and its table of languages. Raises OSError, ValueError."""
    if not folder.is_dir():
        raise ValueError(f"{folder}: there is no such folder")
    root = folder.resolve()
    sources: dict[str, str] = {}
    for path in sorted(folder.rglob("*.txt")):
        name = path.relative_to(folder).as_posix()
        if not path.resolve().is_relative_to(root):
            raise ValueError(f"{name}: lies outside of the folder")
        if len(sources) >= MAX_FILES:
            raise ValueError(f"{folder}: holds more than {MAX_FILES} templates")
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"{name}: holds more than {MAX_BYTES} bytes")
        sources[name] = path.read_text(encoding="utf-8")
    table = folder / LANGUAGES
    return sources, tomllib.loads(table.read_text(encoding="utf-8")) if table.is_file() else {}


def _languages(tables: Mapping[str, Any]) -> dict[str, Language]:
    languages = msgspec.convert(dict(tables), dict[str, Language])
    for tag, language in languages.items():
        if why := _incomplete(language):
            raise ValueError(f"{LANGUAGES}: {tag}.{why}")
    return languages


def _incomplete(language: Language) -> str:
    if not _MOMENT.fullmatch(language.time):
        return "time: takes year, month, day, hour and minute in braces, each with :02 or without"
    if "other" not in language.kinds:
        return "kinds: must have other, for what has no name of its own"
    if not language.shelter_states.keys() >= set(SHELTER_STATES):
        return f"shelter_states: must have {', '.join(SHELTER_STATES)}"
    return ""
