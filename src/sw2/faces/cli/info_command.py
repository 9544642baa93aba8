"""`sw2 info PROGRAM`: its card; what it is, from which data, how big and how good."""

from __future__ import annotations

from typing import Annotated

import typer

from sw2.faces.cli import app
from sw2.faces.cli.common import JsonOption, OfflineOption, YesOption, context, emit, show_scores, verb

__all__ = ["info_command"]


@app.command("info")
@verb
def info_command(
    program: Annotated[str, typer.Argument(help="A program's or run's folder, or named weights.")],
    yes: YesOption = False,
    offline: OfflineOption = False,
    json_output: JsonOption = False,
) -> None:
    """What a program is and how it was made."""
    from sw2.catalog import catalog
    from sw2.core.card import count, item, size, spoken
    from sw2.core.model import count_parameters

    loaded = catalog().program(program, context(0, yes=yes, offline=offline))
    card = loaded.card.to_json()
    parameters = {role: count_parameters(net.module) for role, net in loaded.nets.items()}
    if len(parameters) == 1:  # packed weights are no parameters; whoever read them has counted
        parameters = {role: card["facts"].get("parameters", number) for role, number in parameters.items()}
    if loaded.path:
        disk = sum(file.stat().st_size for file in loaded.path.iterdir() if file.is_file())
    else:
        disk = sum(tensor.numel() * tensor.element_size() for tensor in loaded.tensors().values())
    if json_output:
        nets = {role: {"model": net.model, "parameters": parameters[role]} for role, net in loaded.nets.items()}
        emit({
            "task": loaded.task.name, "id": loaded.id, "nets": nets, "bytes": disk,
            "uses": {role: used.id for role, used in loaded.uses.items()},
            "capabilities": loaded.capabilities(), "card": card,
        })  # fmt: skip
        return
    typer.echo(f"task          {loaded.task.name}")
    typer.echo(f"id            {loaded.id[:12]}")
    for role, net in loaded.nets.items():
        typer.echo(f"network       {net.model} ({role}), {count(parameters[role])} parameters")
    for role, used in loaded.uses.items():
        typer.echo(f"uses          a program for {used.task.name} ({role}), id {used.id[:12]}")
    typer.echo(f"size          {size(disk)}")
    typer.echo(f"capabilities  {', '.join(loaded.capabilities()) or 'none beyond answering'}")
    show_scores(card["scores"])
    for title in ("data", "made", "planned", "measured", "facts"):
        for key, value in spoken(card[title]).items():
            typer.echo(f"{title:<14}{item(key, value, ' ' * 16)}")
