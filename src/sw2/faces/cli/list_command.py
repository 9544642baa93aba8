"""`sw2 list [tasks|chains|models|weights|data|prompts|formats]`: what there is. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated

import typer

from sw2.base.names import pick
from sw2.catalog import Catalog, catalog
from sw2.faces.cli import app
from sw2.faces.cli.common import JsonOption, emit, verb

__all__ = ["list_command"]


def _size(number: int) -> str:
    return f"{number / 1e6:.1f} MB" if number else "no download"


def _tasks(found: Catalog) -> dict[str, str]:
    return {
        name: f"{entry.summary} Models: {', '.join(entry.models)}."
        + (f" Objectives: {', '.join(entry.objectives)}." if entry.objectives else "")
        for name, entry in found.tasks.items()
    }


def _chains(found: Catalog) -> dict[str, str]:
    return {name: f"{entry.summary} Makes a program for {entry.task}." for name, entry in found.chains.items()}


def _models(found: Catalog) -> dict[str, str]:
    return {name: f"{entry.summary} ({entry.source})" for name, entry in found.models.items()}


def _weights(found: Catalog) -> dict[str, str]:
    return {
        name: f"{entry.summary} {_size(entry.bytes)}, {entry.licence}." for name, entry in found.weights_entries.items()
    }


def _data(found: Catalog) -> dict[str, str]:
    return {
        name: f"{entry.summary} For {', '.join((entry.task, *entry.also))}; {_size(entry.bytes)}, {entry.licence}."
        for name, entry in found.data.items()
    }


def _prompts(found: Catalog) -> dict[str, str]:
    return {name: summary for name, (_, summary) in found.files.items()}


def _formats(found: Catalog) -> dict[str, str]:
    return {
        name: f"{entry.summary} Opens {f'*{entry.suffix}' if entry.suffix else f'folders with {entry.file}'}."
        for name, entry in found.formats.items()
    }


_KINDS: Mapping[str, Callable[[Catalog], dict[str, str]]] = {
    "tasks": _tasks,
    "chains": _chains,
    "models": _models,
    "weights": _weights,
    "data": _data,
    "prompts": _prompts,
    "formats": _formats,
}


@app.command("list")
@verb
def list_command(
    what: Annotated[
        str, typer.Argument(help="tasks, chains, models, weights, data, prompts or formats; everything when left out.")
    ] = "all",
    json_output: JsonOption = False,
) -> None:
    """What can be learned, with which models, from which named data and weights."""
    wanted = _KINDS if what == "all" else {what: pick("list", what, {**_KINDS})}
    found = catalog()
    tables = {kind: rows(found) for kind, rows in wanted.items()}
    if json_output:
        emit(tables)
        return
    for kind, rows in tables.items():
        typer.echo(f"{kind}:")
        width = max((len(name) for name in rows), default=0)
        for name, text in rows.items():
            typer.echo(f"  {name:<{width}}  {text}")
