"""Templates as the texts of strangers: only what fills in words is let in, so that none can call, read or keep anything, or run for long."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import jinja2
from jinja2 import nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_SOURCE: Final = 16_384
"""Characters of a template."""
MAX_OUTPUT: Final = 20_000
"""Characters that a template may write."""
MAX_LOOPS: Final = 8
MAX_INCLUDES: Final = 8

FILTERS: Final = ("capitalize", "first", "join", "last", "length", "lower", "title", "trim", "upper")
TESTS: Final = ("defined", "none")

# What is not here is refused: calls, arithmetic, macros, assignments, imports, blocks, literals of lists. So a template takes at most
# (MAX_INCLUDES + 1) * MAX_LOOPS * (things in a list) steps, and no value in it grows.
_ALLOWED: Final = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.If, nodes.For, nodes.Include, nodes.CondExpr, nodes.Compare, nodes.Operand,
    nodes.And, nodes.Or, nodes.Not, nodes.Const, nodes.Name, nodes.Getattr, nodes.Filter, nodes.Test,
)  # fmt: skip
_INCLUDES: Final = re.compile(r"\{%[-+]?\s*include\b")
_LOOP: Final = frozenset({"index", "first", "last", "length"})


class TemplateFailed(Exception):
    """A template could not be made into a text; `name` says which."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"{name}: {why}")
        self.name = name


class Sandbox:
    """Templates by their names, `LANGUAGE/...`; `knows` names every value that they are given, with the fields it has or its things have."""

    def __init__(self, sources: Mapping[str, str], knows: Mapping[str, frozenset[str]]) -> None:
        self._sources = dict(sources)
        self._knows = knows
        self._environment = _Environment(
            loader=jinja2.DictLoader(self._sources),
            undefined=jinja2.StrictUndefined,
            autoescape=False,  # plain text; who shows it as HTML escapes it
            auto_reload=False,
            cache_size=-1,
        )
        self._environment.globals.clear()
        self._environment.filters = {name: self._environment.filters[name] for name in FILTERS}
        self._environment.tests = {name: self._environment.tests[name] for name in TESTS}

    def __contains__(self, name: str) -> bool:
        return name in self._sources

    def mistakes(self, name: str) -> list[str]:
        """Return what is wrong with a template, each with its line."""
        source = self._sources[name]
        if len(source) > MAX_SOURCE:
            return [f"holds {len(source)} characters, at most {MAX_SOURCE} are taken"]
        try:
            tree = self._environment.parse(source)
        except jinja2.TemplateSyntaxError as error:
            return [f"line {error.lineno}: {error.message}"]
        except RecursionError:
            return ["is nested too deeply"]
        return [*self._unfit(name, tree), *self._too_many(tree)]

    def warm(self, folders: Iterable[str]) -> None:
        """Compile what is in some folders."""
        wanted = set(folders)
        for name in self._sources:
            if name.partition("/")[0] in wanted:
                self._environment.get_template(name)

    def render(self, name: str, values: Mapping[str, Any]) -> str:
        """Return what a template makes of the values; raises `TemplateFailed`."""
        written: list[str] = []
        size = 0
        try:
            for chunk in self._environment.get_template(name).generate(values):
                written.append(chunk)
                size += len(chunk)
                if size > MAX_OUTPUT:
                    raise TemplateFailed(name, f"writes more than {MAX_OUTPUT} characters")
        except (jinja2.TemplateError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:  # fmt: skip
            raise TemplateFailed(name, f"{type(error).__name__}: {error}") from error
        return "".join(written)

    def _unfit(self, name: str, tree: nodes.Template) -> Iterator[str]:
        loops = {
            each.target.name: each.iter.name
            for each in tree.find_all(nodes.For)
            if isinstance(each.target, nodes.Name) and isinstance(each.iter, nodes.Name)
        }
        for node in tree.find_all(nodes.Node):
            if why := self._why_not(name, node, loops):
                yield f"line {node.lineno}: {why}"

    def _why_not(
        self, name: str, node: nodes.Node, loops: Mapping[str, str]
    ) -> str:  # one answer for each kind of node
        if not isinstance(node, _ALLOWED):
            return f"{type(node).__name__} is not taken: a template fills in words, chooses and repeats"
        if isinstance(node, nodes.Name):
            return "" if node.name in loops or node.name == "loop" else _unknown(node.name, self._knows)
        if isinstance(node, nodes.Getattr):
            return self._why_no_field(node, loops)
        if isinstance(node, nodes.Filter):
            return _why_no_filter(node)
        if isinstance(node, nodes.Test):
            return "" if node.name in TESTS and not node.args else _unknown(node.name, TESTS)
        if isinstance(node, nodes.For):
            return _why_no_loop(node)
        if isinstance(node, nodes.Include):
            return self._why_no_include(name, node)
        return ""

    def _why_no_field(self, node: nodes.Getattr, loops: Mapping[str, str]) -> str:
        if not isinstance(node.node, nodes.Name):
            return f".{node.attr}: only a name has fields"
        of = node.node.name
        fields = _LOOP if of == "loop" else self._knows.get(loops.get(of, ""), frozenset())
        return _unknown(node.attr, fields)

    def _why_no_include(self, name: str, node: nodes.Include) -> str:
        wanted = node.template.value if isinstance(node.template, nodes.Const) else None
        if not isinstance(wanted, str):
            return "include takes the name of one file in quotation marks"
        path = self._environment.join_path(wanted, name)
        if path not in self._sources:
            return f"include: there is no {path}"
        if _INCLUDES.search(self._sources[path]):
            return f"include: {path} includes something itself"
        return ""

    def _too_many(self, tree: nodes.Template) -> Iterator[str]:
        loops, includes = list(tree.find_all(nodes.For)), list(tree.find_all(nodes.Include))
        if len(loops) > MAX_LOOPS:
            yield f"has {len(loops)} loops, at most {MAX_LOOPS} are taken"
        if len(includes) > MAX_INCLUDES:
            yield f"includes {len(includes)} files, at most {MAX_INCLUDES} are taken"
        for loop in loops:
            if loop.find(nodes.For) or loop.find(nodes.Include):
                yield f"line {loop.lineno}: a loop holds another, or includes a file"


class _Environment(ImmutableSandboxedEnvironment):
    """The second wall, behind what is let in at all."""

    def join_path(self, template: str, parent: str) -> str:
        return f"{parent.partition('/')[0]}/{template}"


def _unknown(name: str, known: Mapping[str, object] | frozenset[str] | tuple[str, ...]) -> str:
    if name in known:
        return ""
    near = difflib.get_close_matches(name, known, n=1)
    return (
        f"{name}: unknown, did you mean {near[0]}?"
        if near
        else f"{name}: unknown; known here: {', '.join(sorted(known)) or 'nothing'}"
    )


def _why_no_filter(node: nodes.Filter) -> str:
    if node.name not in FILTERS or node.kwargs or node.dyn_args or node.dyn_kwargs:
        return f"the filter {node.name}: known are {', '.join(FILTERS)}"
    if node.name == "join" and not isinstance(node.node, nodes.Name):
        return "the filter join is for a list"
    constant = all(isinstance(arg, nodes.Const) and len(str(arg.value)) <= 20 for arg in node.args)
    return "" if constant else f"the filter {node.name} takes a text of at most 20 characters"


def _why_no_loop(node: nodes.For) -> str:
    if (
        node.recursive
        or node.test is not None
        or not isinstance(node.iter, nodes.Name)
        or not isinstance(node.target, nodes.Name)
    ):
        return "a loop is written: for ONE in LIST"
    return ""
