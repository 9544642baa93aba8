"""`sw2 shrink PROGRAM --bits 4 --out DIR`: fewer bits, and what that costs; more than a stated loss is not saved."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sw2.faces.cli import app
from sw2.faces.cli.common import JsonOption, OfflineOption, SeedOption, SettingsOption, YesOption, context, emit, verb

if TYPE_CHECKING:
    from sw2.verbs.shrink import Shrunk

__all__ = ["shrink_command"]


@app.command("shrink")
@verb
def shrink_command(
    program: Annotated[str, typer.Argument(help="A program's or run's folder, or named weights.")],
    out: Annotated[Path, typer.Option("--out", help="The new folder to write.")],
    bits: Annotated[int, typer.Option("--bits", help="Bits of a weight: 4 or 8.")],
    method: Annotated[
        str | None, typer.Option("--method", help="How weights are rounded; otherwise the best one that is known.")
    ] = None,
    compare: Annotated[bool, typer.Option("--compare", help="Measure every method, and save that one.")] = False,
    data: Annotated[
        str | None,
        typer.Option("--data", help="What to calibrate and judge on; otherwise the data that it was learned from."),
    ] = None,
    examples: Annotated[
        int | None, typer.Option("--examples", min=1, help="Judge on so many held-out examples; otherwise on all.")
    ] = None,
    most_loss: Annotated[
        float, typer.Option("--most-loss", min=0.0, help="Save nothing that is worse by more than this share.")
    ] = 0.03,
    settings: SettingsOption = None,
    seed: SeedOption = 0,
    yes: YesOption = False,
    offline: OfflineOption = False,
    json_output: JsonOption = False,
) -> None:
    """Make a program smaller and faster."""
    from sw2.base.store import refuse_taken
    from sw2.catalog import catalog
    from sw2.verbs.shrink import shrink

    refuse_taken(out)
    found = context(seed, yes=yes, offline=offline)
    loaded = catalog().program(program, found)
    shrunk = shrink(
        loaded,
        bits,
        found,
        method=method,
        compare=compare,
        source=data,
        settings=settings or [],
        examples=examples,
        most_loss=most_loss,
    )
    if not json_output:
        _show(shrunk)
    path = shrunk.save(out)
    if json_output:
        emit({**shrunk.to_json(), "path": str(path)})
    else:
        typer.echo(f"wrote     {path}")


def _show(shrunk: Shrunk) -> None:
    from sw2.core.card import figure, size

    wide = 2 + max(16, len(shrunk.metric))
    typer.echo(f"{'':<16}{'weights':>10}{shrunk.metric:>{wide}}{shrunk.unit:>12}{'loss':>10}")
    for row in shrunk.rows:
        loss = f"{row.loss:+.2%}" if row is not shrunk.rows[0] else ""
        cells = f"{size(row.bytes):>10}{figure(row.score):>{wide}}{row.per_second:>12.1f}{loss:>10}"
        typer.echo(f"{row.name:<16}{cells}")
    typer.echo(f"n={shrunk.examples} held-out examples")
