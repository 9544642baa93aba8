"""`sw2 data …`: look at examples before anything is learned from them, and make some.

sw2 data show --mask DATA              what is learned of each example, in brackets (in colour on a terminal)
sw2 data from-feedback LOG --out FILE  pairs of answers from what was said about them in `sw2 chat --log`
sw2 data commit DATA --message TEXT    what there is now, into the history beside the data
sw2 data diff DATA [OLD [NEW]]         which rows were relabelled, changed, moved, renamed, added, removed
sw2 data log DATA                      the history
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
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
    from sw2.core.history import Change, Commit
    from sw2.core.task import Shown

__all__ = [
    "data_commit_command",
    "data_diff_command",
    "data_from_feedback_command",
    "data_log_command",
    "data_show_command",
]

data_app = typer.Typer(
    help="Look at examples, make some, keep their history.", no_args_is_help=True, rich_markup_mode=None
)
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


PathArgument = Annotated[Path, typer.Argument(metavar="DATA", help="A folder or a table.")]
TaskOption = Annotated[
    str | None, typer.Option("--task", help="Which task reads it; as in the last commit, or found out.")
]


@data_app.command("commit")
@verb
def data_commit_command(
    data: PathArgument,
    message: Annotated[str, typer.Option("--message", "-m", help="What changed, and why.")],
    task: TaskOption = None,
    settings: SettingsOption = None,
    json_output: JsonOption = False,
) -> None:
    """Add the data as it is now to the history beside it."""
    from sw2.catalog import catalog
    from sw2.verbs.history import commit

    made = commit(catalog(), str(data), message, context(0, yes=False, offline=True), task=task, settings=settings)
    if json_output:
        emit({"new": made.new, "commit": _told(made.commit), "changes": _counts(made.changes)})
    elif not made.new:
        typer.echo(f"nothing has changed since commit {made.commit.id[:12]} ({made.commit.message.splitlines()[0]})")
    else:
        typer.echo(f"commit {made.commit.id[:12]}: {made.commit.examples} examples")
        typer.echo(_summed(made.changes))


@data_app.command("diff")
@verb
def data_diff_command(
    data: PathArgument,
    old: Annotated[str, typer.Argument(help="A commit: HEAD, or the beginning of an id.")] = "HEAD",
    new: Annotated[str | None, typer.Argument(help="Another; the data as it is now when left out.")] = None,
    count: Annotated[int, typer.Option("--count", min=1, help="How many rows to show.")] = 50,
    task: TaskOption = None,
    settings: SettingsOption = None,
    json_output: JsonOption = False,
) -> None:
    """Show which rows are not as they were."""
    from sw2.catalog import catalog
    from sw2.verbs.history import diff

    asked = context(0, yes=False, offline=True)
    changes = diff(catalog(), str(data), old, new, asked, task=task, settings=settings)
    if json_output:
        sides = [
            {"kind": each.kind, **{side: row and vars(row) for side, row in (("was", each.was), ("now", each.now))}}
            for each in changes
        ]
        emit({"counts": _counts(changes), "changes": sides})
        return
    for each in changes[:count]:
        typer.echo(f"{each.kind:<10}  {_change(each)}")
    if len(changes) > count:
        say(f"{len(changes) - count} more (--count)")
    typer.echo(_summed(changes))


@data_app.command("log")
@verb
def data_log_command(data: PathArgument, json_output: JsonOption = False) -> None:
    """Show the commits of a data set, the last one first."""
    from sw2.core.history import History

    commits = list(History(data).log())
    if json_output:
        emit({"commits": [_told(each) for each in commits]})
        return
    if not commits:
        say(f"no commit yet:  sw2 data commit {data} --message TEXT")
    for each in commits:
        typer.echo(f"{each.id[:12]}  {each.date}  {each.examples} examples of {len(each.labels)} labels")
        typer.echo("".join(f"    {line}\n" for line in each.message.splitlines()))


def _told(commit: Commit) -> dict[str, object]:
    return {**vars(commit), "examples": commit.examples}


def _counts(changes: Sequence[Change]) -> dict[str, int]:
    from sw2.core.history import KINDS

    counts = Counter(each.kind for each in changes)
    return {kind: counts[kind] for kind in KINDS}


def _summed(changes: Sequence[Change]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in _counts(changes).items() if count) or "nothing has changed"


def _change(change: Change) -> str:
    """A change on one line: the row, and what is not as it was."""
    was, now = change.was, change.now
    if was is None or now is None:
        row = was or now
        assert row is not None
        return f"{row.name}  {row.label}"
    sides = [
        f"{before} -> {after}" if before != after else before
        for before, after in ((was.name, now.name), (was.label, now.label))
    ]
    if was.split != now.split:
        sides.append(f"{was.split} -> {now.split}")
    return "  ".join(sides) + ("" if was.content == now.content else "  (another content)")


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
