"""Templates: from inputs to the text of a message, in a small part of Jinja, with bounds.

What a template may say is `{{ … }}`, `{% if %}`, `{% for %}` and comments; names of inputs and `schema`; comparisons,
`and`, `or`, `not`, `in`, conditional expressions, attributes, items, lists; the filters and tests in the tables below.
What it may not (`set`, macros, calls, includes, sums, products) is refused when the file is read, with its line. So
nothing can grow in a loop; what is written and how often loops go round is counted, and has an end.

Names are known when a file is read: one that is no input is refused there, before anybody is asked.

It runs in Jinja's immutable sandbox, undefined values are errors, and more than `MOST_RENDERED` characters or
`MOST_ROUNDS` rounds of all loops together are one too.

Sources: https://jinja.palletsprojects.com/en/stable/sandbox/
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, final

import jinja2
from jinja2 import nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from sw2.base.errors import ProgramError, UsageError
from sw2.base.names import nearest
from sw2.domains.prompts.values import Given, as_json, written

__all__ = ["MOST_RENDERED", "MOST_ROUNDS", "SCHEMA", "Template"]

SCHEMA: Final = "schema"
"""The name under which a template finds the JSON Schema of the answer."""
MOST_RENDERED: Final = 1 << 20
MOST_ROUNDS: Final = 1 << 20
_DEEPEST: Final = 2

_ALLOWED: Final = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.Const, nodes.If, nodes.For, nodes.Getattr,
    nodes.Getitem, nodes.Filter, nodes.Test, nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not,
    nodes.CondExpr, nodes.List, nodes.Tuple, nodes.Neg,
)  # fmt: skip

_FILTERS: Final[Mapping[str, Callable[..., Any]]] = {
    "bare": lambda value: value.bare() if isinstance(value, Given) else value,
    "join": lambda values, between="": between.join(str(each) for each in values),
    "length": len,
    "lower": lambda value: str(value).lower(),
    "tojson": as_json,
    "trim": lambda value: str(value).strip(),
    "upper": lambda value: str(value).upper(),
}
_TESTS: Final = ("defined", "equalto", "even", "false", "in", "none", "number", "odd", "string", "true", "undefined")


_COUNTED: Final = "_counted"
"""A filter that templates cannot name: around what a loop goes through, so that rounds are counted."""


@jinja2.pass_context
def _counted(context: jinja2.runtime.Context, values: Iterable[Any]) -> Iterator[Any]:
    if isinstance(values, str):
        raise TypeError("a text is no list")
    rounds = context[_COUNTED]  # of one rendering
    for value in values:
        if next(rounds) >= MOST_ROUNDS:
            raise ValueError(f"more than {MOST_ROUNDS:,} rounds of loops")
        yield value


def _environment() -> ImmutableSandboxedEnvironment:
    made = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined, finalize=written, autoescape=False
    )
    made.filters.clear()
    made.filters.update({**_FILTERS, _COUNTED: _counted})
    for name in set(made.tests) - set(_TESTS):
        del made.tests[name]
    made.globals.clear()
    return made


_JINJA: Final = _environment()


@final
class Template:
    """One message of a prompt.

    Args:
        source: the template.
        names: the names of the inputs.
        where: the file.
        line: of the file, on which the template begins.

    Raises:
        ProgramError: it cannot be read, says what is not allowed, or names no input; with the line.
    """

    def __init__(self, source: str, names: Iterable[str], where: str, line: int) -> None:
        self._where, self._line = where, line
        known = {*names, SCHEMA}
        try:
            tree = _JINJA.parse(source)
            self._check(tree, known)
            for loop in tree.find_all(nodes.For):
                loop.iter = nodes.Filter(loop.iter, _COUNTED, [], [], None, None, lineno=loop.iter.lineno)
            self._template = _JINJA.from_string(tree)
        except jinja2.TemplateSyntaxError as error:
            raise self._fault("This template cannot be read.", error.lineno, "a closed Jinja template", error.message)\
                from error  # fmt: skip
        except (RecursionError, SyntaxError) as error:  # Jinja writes Python, which has limits of its own
            raise self._fault(
                "This template cannot be read.", 1, "blocks that stand less deep", "deeper ones"
            ) from error

    def render(self, values: Mapping[str, Any]) -> str:
        """The message.

        Raises:
            UsageError: the template does not go with these values, or writes too much.
        """
        pieces: list[str] = []
        size = 0
        try:
            for piece in self._template.generate({**values, _COUNTED: itertools.count()}):
                pieces.append(piece)
                size += len(piece)
                if size > MOST_RENDERED:
                    raise UsageError(
                        "This template writes too much.", where=self._where, wanted=f"{MOST_RENDERED:,} characters",
                        got="more",
                    )  # fmt: skip
        except UsageError:
            raise
        except Exception as error:  # whatever an expression can raise
            raise UsageError(
                "This template does not go with these inputs.",
                where=f"{self._where}, line {self._line - 1 + _line_of(error)}",
                wanted="values that its expressions can take",
                got=str(error) or type(error).__name__,
            ) from error
        return "".join(pieces).strip()

    def _check(self, tree: nodes.Template, known: set[str]) -> None:
        """Refuse what is not allowed, what is unknown, and loops in loops in loops."""

        def look(node: nodes.Node, names: set[str], depth: int) -> None:
            if not isinstance(node, _ALLOWED):
                word = type(node).__name__.lower()
                raise self._fault(
                    "This template says more than a prompt may.", node.lineno, "text, {{ … }}, if and for", word
                )
            if isinstance(node, nodes.Name) and node.ctx == "load" and node.name not in names:
                close = nearest(node.name, names)
                do = f"Did you mean '{close}'?" if close else "Name it under [inputs]."
                raise self._fault(
                    f"There is no input called '{node.name}'.", node.lineno, ", ".join(sorted(known)), node.name, do
                )
            if isinstance(node, nodes.Filter) and node.name not in _FILTERS:
                raise self._fault("There is no such filter here.", node.lineno, ", ".join(_FILTERS), node.name)
            if isinstance(node, nodes.Test) and node.name not in _TESTS:
                raise self._fault("There is no such test here.", node.lineno, ", ".join(_TESTS), node.name)
            if isinstance(node, nodes.For):
                if depth == _DEEPEST or node.recursive:
                    raise self._fault("These loops stand too deep.", node.lineno, f"{_DEEPEST} at most", "more")
                look(node.iter, names, depth)
                for part in node.else_:
                    look(part, names, depth)
                inner = names | {each.name for each in node.find_all(nodes.Name) if each.ctx == "store"} | {"loop"}
                for part in (*node.body, *([node.test] if node.test else [])):
                    look(part, inner, depth + 1)
                return
            for child in node.iter_child_nodes():
                look(child, names, depth)

        look(tree, known, 0)

    def _fault(self, message: str, line: int, wanted: str, got: object, do: str | None = None) -> ProgramError:
        return ProgramError(
            message, where=f"{self._where}, line {self._line - 1 + line}", wanted=wanted, got=got, do=do
        )


def _line_of(error: BaseException) -> int:
    """The line of the template in which an error came up; Jinja puts it into the traceback."""
    line, step = 1, error.__traceback__
    while step is not None:
        if step.tb_frame.f_code.co_filename == "<template>":
            line = step.tb_lineno
        step = step.tb_next
    return line
