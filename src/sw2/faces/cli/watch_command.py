"""`sw2 watch RUN`: live curves and training health; works on a finished run too."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sw2.faces.cli import app
from sw2.faces.cli.common import JsonOption, emit, verb

__all__ = ["watch_command"]


@app.command("watch")
@verb
def watch_command(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
    once: Annotated[bool, typer.Option("--once", help="Print the present state and end.")] = False,
    json_output: JsonOption = False,
) -> None:
    """Live curves and training health of a run."""
    from sw2.verbs.chain import current_run

    run = current_run(run)
    if json_output:
        from sw2.verbs.curves import read_curves

        emit(read_curves(run).to_json())
        return
    from sw2.faces.cli.watch import watch

    watch(run, once)
