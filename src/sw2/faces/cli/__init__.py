"""The command line: `sw2 VERB …`, a file per verb.

Every verb takes `--json` (one JSON object on standard output, progress on standard error). Exit codes: 0 done,
1 failed, 2 wrong use, 130 interrupted. A user's mistake never shows a traceback; a mistake of ours always does.

Modules behind a verb are imported when it runs, so that `sw2 list` and `sw2 --help` stay instant.
"""

from __future__ import annotations

import importlib

import typer

__all__ = ["VERBS", "app", "main"]

app = typer.Typer(
    name="sw2",
    help="A toolchain for Software 2.0: programs learned from examples.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

# In the order of the help page; each module registers its commands on `app` by being imported.
VERBS = ("list", "train", "watch", "run", "chat", "eval", "info", "export")


@app.callback(invoke_without_command=True)
def _root(
    version: bool = typer.Option(False, "--version", help="Print the version and exit.", is_eager=True),
) -> None:
    if version:
        import sw2

        typer.echo(f"sw2 {sw2.__version__}")
        raise typer.Exit


def main() -> None:
    """The entry point of the `sw2` command."""
    for verb in VERBS:
        importlib.import_module(f"sw2.faces.cli.{verb}_command")
    app()
