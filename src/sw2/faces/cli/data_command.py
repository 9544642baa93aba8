"""`sw2 data …`: look at examples before anything is learned from them, and make some.

sw2 data show --mask DATA              what is learned of each example, in brackets (in colour on a terminal)
sw2 data from-feedback LOG --out FILE  pairs of answers from what was said about them in `sw2 chat --log`
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sw2.faces.cli import app
from sw2.faces.cli.common import (
    JsonOption,
    OfflineOption,
    SeedOption,
    SettingsOption,
    YesOption,
    context,
    emit,
    say,
    verb,
)

if TYPE_CHECKING:
    from sw2.core.data import Data
    from sw2.core.task import Shown

__all__ = ["data_from_feedback_command", "data_show_command"]

data_app = typer.Typer(help="Look at examples, and make some.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(data_app, name="data")


@data_app.command("show")
@verb
def data_show_command(
    data: Annotated[str, typer.Argument(help="A path, or a name from `sw2 list data`.")],
    mask: Annotated[bool, typer.Option("--mask", help="Mark what is learned.")] = False,
    task: Annotated[str | None, typer.Option("--task", help="Which task reads it; found out when left out.")] = None,
    program: Annotated[
        str | None, typer.Option("--with", metavar="PROGRAM", help="Prepared as for this program.")
    ] = None,
    split: Annotated[str, typer.Option("--split", help="Which examples.")] = "train",
    first: Annotated[int, typer.Option("--first", min=1, help="How many.")] = 3,
    settings: SettingsOption = None,
    seed: SeedOption = 0,
    yes: YesOption = False,
    offline: OfflineOption = False,
    json_output: JsonOption = False,
) -> None:
    """Show examples as a network gets them."""
    from sw2.catalog import catalog
    from sw2.verbs.show import open_data

    asked = context(seed, yes=yes, offline=offline)
    start = catalog().program(program, asked) if program else None
    opened = open_data(catalog(), data, asked, task=task, start=start, settings=settings or [])
    rows = [row for rows in opened.masked(opened.examples(split, 0, first), split) for row in rows]
    if json_output:
        emit({"task": opened.task.name, "split": split, "rows": [[vars(piece) for piece in row] for row in rows]})
        return
    _facts(opened.data)
    for row in rows:
        typer.echo("".join(_spelled(piece) if mask else piece.text for piece in row).rstrip("\n") + "\n")


@data_app.command("from-feedback")
@verb
def data_from_feedback_command(
    log: Annotated[Path, typer.Argument(help="A file of `sw2 chat --log`.")],
    out: Annotated[Path, typer.Option("--out", help="The new file, JSON lines.")],
    json_output: JsonOption = False,
) -> None:
    """Make pairs of answers, the better one and the worse, from a log of conversations."""
    from sw2.verbs.feedback import pairs, write_pairs

    made = pairs(log)
    write_pairs(made, out)
    if json_output:
        counted = {"counts": made.counts, "unusable": made.unusable, "unread": made.unread}
        emit({"pairs": len(made.pairs), "out": str(out), **counted})
        return
    typer.echo(f"{len(made.pairs)} pairs: {made.counts['edits']} from edits, {made.counts['thumbs']} from thumbs")
    for why, count in made.unusable.items():
        typer.echo(f"not usable: {count}, {why}")
    for why, count in made.unread.items():
        typer.echo(f"not read: {count} lines, {why}")
    say(f"learn from it:  sw2 train chat {out} --objective dpo --from PROGRAM")


def _spelled(piece: Shown) -> str:
    if not piece.learned:
        return piece.text
    return typer.style(piece.text, fg="green", bold=True) if sys.stdout.isatty() else f"⟦{piece.text}⟧"


def _facts(data: Data) -> None:
    say(f"{data.name}: " + ", ".join(f"{len(split)} {name}" for name, split in data.splits.items()))
    for row in data.rejected[:5]:
        say(f"skipped {row.where}: {row.why}")
    if len(data.rejected) > 5:
        say(f"skipped {len(data.rejected) - 5} more")
