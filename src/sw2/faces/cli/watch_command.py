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
    run: Annotated[Path, typer.Argument(help="A run's folder, a chain's or a search's.")],
    once: Annotated[bool, typer.Option("--once", help="Print the present state and end.")] = False,
    json_output: JsonOption = False,
) -> None:
    """Live curves and training health of a run."""
    if json_output:
        from sw2.verbs.curves import current_run, read_curves

        emit(read_curves(current_run(run)).to_json())
        return
    from sw2.faces.cli.watch import watch

    watch(run, once)
