"""`sw2 export PROGRAM --format FORMAT`: a program for other engines, checked there before it says it is done."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sw2.faces.cli import app
from sw2.faces.cli.common import JsonOption, OfflineOption, YesOption, context, emit, verb

__all__ = ["export_command"]


@app.command("export")
@verb
def export_command(
    program: Annotated[str, typer.Argument(help="A program's or run's folder, or named weights.")],
    out: Annotated[Path, typer.Option("--out", help="The new folder to write.")],
    format_name: Annotated[str, typer.Option("--format", help="onnx, or one that the program itself knows.")] = "onnx",
    yes: YesOption = False,
    offline: OfflineOption = False,
    json_output: JsonOption = False,
) -> None:
    """Write a program for other engines."""
    from sw2.catalog import catalog
    from sw2.verbs.export import export

    loaded = catalog().program(program, context(0, yes=yes, offline=offline))
    result = export(loaded, out, format_name)
    if json_output:
        emit(result.to_json())
        return
    typer.echo(f"wrote     {result.path}")
    typer.echo(f"checked   {result.checked} examples, largest difference {result.largest_difference:.1e}")
    for name in result.files:
        typer.echo(f"  {name}")
