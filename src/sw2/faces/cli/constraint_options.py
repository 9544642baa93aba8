"""The options of one group that `sw2 run` and `sw2 chat` share: what an answer has to be.

What it does not do: compile a constraint; that takes a program's tokenizer.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sw2.base.errors import UsageError

if TYPE_CHECKING:
    from sw2.parts.decoding.constraint import Constraint

__all__ = ["ChoiceOption", "GrammarOption", "JsonSchemaOption", "RegexOption", "constraint_of"]

JsonSchemaOption = Annotated[
    str | None,
    typer.Option("--json-schema", metavar="FILE|JSON", help="The answer is JSON of this schema: a file, or its text."),
]
RegexOption = Annotated[
    str | None, typer.Option("--regex", metavar="PATTERN", help="The answer as a whole matches this expression.")
]
ChoiceOption = Annotated[
    list[str] | None, typer.Option("--choice", metavar="TEXT", help="The answer is one of these; repeated for each.")
]
GrammarOption = Annotated[
    Path | None, typer.Option("--grammar", metavar="FILE", help="The answer is a text of this grammar (Lark).")
]


def constraint_of(
    json_schema: str | None, regex: str | None, choice: Sequence[str] | None, grammar: Path | None
) -> Constraint | None:
    """The constraint that the options stand for; None without any.

    Raises:
        UsageError: several were given, a file cannot be read, or one is plainly not what it has to be.
    """
    from sw2.parts.decoding.constraint import Constraint

    given = {"--json-schema": json_schema, "--regex": regex, "--choice": choice or None, "--grammar": grammar}
    named = [name for name, value in given.items() if value is not None]
    if len(named) > 1:
        raise UsageError("An answer has one constraint.", wanted=f"one of {', '.join(given)}", got=" and ".join(named))
    if json_schema is not None:
        inline = json_schema.lstrip().startswith("{")
        return Constraint.json_schema(json_schema if inline else _read(Path(json_schema), "--json-schema"))
    if regex is not None:
        return Constraint.regex(regex)
    if choice:
        return Constraint.choice(choice)
    if grammar is not None:
        return Constraint.grammar(_read(grammar, "--grammar"))
    return None


def _read(path: Path, option: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise UsageError("There is no such file.", where=option, got=path) from error
    except UnicodeDecodeError as error:
        raise UsageError("The file is not text.", where=path, wanted="UTF-8", got=error.reason) from error
