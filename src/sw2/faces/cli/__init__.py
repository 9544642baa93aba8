"""The command line: `sw2 VERB …`, a file per verb.

Every verb takes `--json` (one JSON object on standard output, progress on standard error). Exit codes: 0 done,
1 failed, 2 wrong use, 130 interrupted. A user's mistake never shows a traceback; a mistake of ours always does.

Modules behind a verb are imported when it runs, so that `sw2 list` and `sw2 --help` stay instant.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

import typer
from typer.core import TyperGroup

from sw2.base.errors import UsageError

__all__ = ["VERBS", "app", "main"]

# What the parser raises, whatever the mistake. Typer has no name of its own for it.
_PARSE_ERROR: type[Exception] = typer.BadParameter.__bases__[0]


class _Root(TyperGroup):
    """The command `sw2`, whose `--json` covers what cannot even be parsed."""

    def main(self, args: Sequence[str] | None = None, *rest: Any, **options: Any) -> Any:
        given = sys.argv[1:] if args is None else list(args)
        if "--json" not in given:
            return super().main(args, *rest, **options)
        try:
            code = super().main(given, *rest, **{**options, "standalone_mode": False})
        except _PARSE_ERROR as error:
            from sw2.faces.cli.common import emit

            context = getattr(error, "ctx", None)
            path = context.command_path if context else "sw2"
            text = getattr(error, "format_message", error.__str__)()
            emit(UsageError(text, where=path, do=f"See `{path} --help`.").to_json())
            sys.exit(UsageError.exit_code)
        sys.exit(code or 0)


app = typer.Typer(
    name="sw2",
    cls=_Root,
    help="A toolchain for Software 2.0: programs learned from examples.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

_SOURCE = Path(__file__).parents[2]
_usual = warnings.showwarning

# In the order of the help page; each module registers its commands on `app` by being imported.
VERBS = (
    "list",
    "train",
    "search",
    "watch",
    "run",
    "amend",
    "chat",
    "ask",
    "serve",
    "studio",
    "eval",
    "compare",
    "claims",
    "info",
    "export",
    "shrink",
    "data",
    "label",
)


@app.callback(invoke_without_command=True)
def _root(
    version: bool = typer.Option(False, "--version", help="Print the version and exit.", is_eager=True),
) -> None:
    if version:
        import sw2

        typer.echo(f"sw2 {sw2.__version__}")
        raise typer.Exit


def _show(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """A warning of ours is a note to who typed the command, without the line of source that gave it."""
    if Path(filename).is_relative_to(_SOURCE):
        typer.echo(f"note: {message}", err=True)
    else:
        _usual(message, category, filename, lineno, file, line)


def main() -> None:
    """The entry point of the `sw2` command."""
    warnings.showwarning = _show
    for verb in VERBS:
        importlib.import_module(f"sw2.faces.cli.{verb}_command")
    app()
