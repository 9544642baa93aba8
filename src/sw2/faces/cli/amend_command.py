"""`sw2 amend PROGRAM LOG`: changes to what a program answers from, kept beside it in a log; questions after them.

Inserts come first, then deletes, then the questions, then the fold. Each of the first two is done whole or not at all,
and what is done stays done when what follows it is refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sw2.faces.cli import app
from sw2.faces.cli.common import JsonOption, OfflineOption, YesOption, context, emit, verb

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sw2.core.program import Program

__all__ = ["amend_command"]

_MANY = "may be repeated; @file or - holds one in each line."


@app.command("amend")
@verb
def amend_command(
    program: Annotated[str, typer.Argument(help="A program's or run's folder.")],
    log: Annotated[Path, typer.Argument(help="The file that keeps the changes; made if it is not there.")],
    inputs: Annotated[list[str] | None, typer.Argument(help="What to ask after the changes, as in sw2 run.")] = None,
    insert: Annotated[
        list[str] | None, typer.Option("--insert", metavar="INPUT", help=f"Take this in; {_MANY}")
    ] = None,
    delete: Annotated[
        list[str] | None, typer.Option("--delete", metavar="INPUT", help=f"Take away one; {_MANY}")
    ] = None,
    fold: Annotated[
        Path | None, typer.Option("--fold", help="Write all that is there now to this file, to train a new program on.")
    ] = None,
    yes: YesOption = False,
    offline: OfflineOption = False,
    json_output: JsonOption = False,
) -> None:
    """Change what a program answers from, beside it, and ask it then."""
    from sw2.catalog import catalog
    from sw2.core.capabilities import Amend
    from sw2.core.kinds import parse_arguments
    from sw2.faces.cli.run_command import show

    loaded = catalog().program(program, context(0, yes=yes, offline=offline))
    amend = loaded.capability(Amend)  # type: ignore[type-abstract]
    came, went = (_each(loaded, some or []) for some in (insert, delete))
    asked = inputs or []
    raws = parse_arguments(loaded.task.inputs, asked) if asked else []
    with amend.amended(log) as amended:
        if came:
            amended.insert(came)
        if went:
            amended.delete(went)
        answers = amended.answer(raws)
        count = len(amended)
        folded = None if fold is None else amended.fold(fold)
    if json_output:
        done = {"inserted": len(came), "deleted": len(went), "count": count, "answers": answers}
        emit(done | ({} if folded is None else {"folded": str(folded)}))
        return
    for text, answer in zip(asked, answers, strict=True):
        show(text, answer, loaded.task.outputs)
    if came or went or not asked:
        typer.echo(f"inserted {len(came)}, deleted {len(went)}; there are {count} now")
    if folded is not None:
        typer.echo(f"wrote {folded}")


def _each(program: Program, given: Sequence[str]) -> list[Any]:
    """What is given, and the lines of files."""
    from sw2.core.kinds import parse_arguments

    texts = parse_arguments(program.task.inputs, list(given)) if given else []
    return [line for text in texts for line in (text.splitlines() if isinstance(text, str) else [text]) if line]
