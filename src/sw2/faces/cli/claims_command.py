"""`sw2 claims …`: what the field claims, tried on this machine.

sw2 claims list              every claim with its question; imports no torch
sw2 claims run NAME          the quick form: one seed, indicative
sw2 claims run NAME --full   several seeds and intervals
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from sw2.catalog import catalog
from sw2.faces.cli import app
from sw2.faces.cli.common import JsonOption, OfflineOption, SeedOption, YesOption, context, emit, say, verb

__all__ = ["claims_list_command", "claims_run_command"]

claims_app = typer.Typer(help="What the field claims, shown with numbers.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(claims_app, name="claims")


@claims_app.command("list")
@verb
def claims_list_command(json_output: JsonOption = False) -> None:
    """Every claim with its question."""
    found = catalog().claims
    if json_output:
        emit({"claims": {name: _told(name) for name in found}})
        return
    width = max(map(len, found), default=0)
    for name, entry in found.items():
        typer.echo(f"{name:<{width}}  {entry.question}")


@claims_app.command("run")
@verb
def claims_run_command(
    name: Annotated[str, typer.Argument(help="One of `sw2 claims list`.")],
    full: Annotated[bool, typer.Option("--full", help="Several seeds and intervals instead of one seed.")] = False,
    out: Annotated[Path | None, typer.Option("--out", help="A new folder for result.json and report.html.")] = None,
    seed: SeedOption = 0,
    yes: YesOption = False,
    offline: OfflineOption = False,
    json_output: JsonOption = False,
) -> None:
    """Try a claim: what is expected, the rule, the numbers, the verdict."""
    entry = catalog().claim_entry(name)  # before torch is imported, which takes a while

    from sw2.core.card import duration
    from sw2.verbs.claims import try_claim

    say(entry.question)
    say(f"expected: {entry.expected}")
    say(f"rule: {entry.rule}")
    minutes = entry.full_minutes if full else entry.minutes
    say(f"at most {duration(minutes * 60)} on two cores")
    tried = try_claim(catalog(), name, context(seed, yes=yes, offline=offline), full=full, out=out)
    if json_output:
        emit({**tried.to_json(), "out": None if out is None else str(out)})
        return
    _table(tried.result.head, tried.result.rows)
    typer.echo(f"{tried.result.verdict} ({tried.standing}): {tried.result.why}")
    for note in tried.result.notes:
        say(f"note: {note}")
    say(f"took {duration(tried.seconds)}")
    if out is None:
        say("a page with its plots: add --out DIR")
    else:
        typer.echo(f"report   {out / 'report.html'}")


def _table(head: Sequence[str], rows: Sequence[Sequence[str | float | int | None]]) -> None:
    """Columns as wide as they must be; numbers stand right."""
    from sw2.verbs.page import spelled

    cells = [list(head), *([spelled(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    right = [bool(rows) and not isinstance(cell, str) for cell in (rows[0] if rows else head)]
    for line in cells:
        placed = [c.rjust(w) if r else c.ljust(w) for c, w, r in zip(line, widths, right, strict=True)]
        typer.echo("  ".join(placed).rstrip())


def _told(name: str) -> dict[str, object]:
    entry = catalog().claim_entry(name)
    return {key: value for key, value in vars(entry).items() if key != "target"}
