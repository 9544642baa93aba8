"""`sw2 eval PROGRAM DATA`: scores beside baselines, and by slices; `--fail-under` makes it a test for CI."""

from __future__ import annotations

from typing import Annotated

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
    show_scores,
    verb,
)

__all__ = ["eval_command"]


@app.command("eval")
@verb
def eval_command(
    program: Annotated[str, typer.Argument(help="A program's or run's folder, a prompt, or named weights.")],
    data: Annotated[
        str | None, typer.Argument(help="A path, or a name from `sw2 list data`; of a prompt its own tests.")
    ] = None,
    task: Annotated[
        str | None, typer.Option("--task", help="Judge it by this task; that of the named data, or its own.")
    ] = None,
    split: Annotated[str, typer.Option("--split", help="Which examples.")] = "test",
    fail_under: Annotated[
        float | None,
        typer.Option("--fail-under", help="Exit with 1 when the main score is worse than this, or a slice surely is."),
    ] = None,
    slices: Annotated[
        str | None,
        typer.Option(
            "--slices", metavar="COLUMN", help="The main score by label, a column, or `metadata`: all of them."
        ),
    ] = None,
    settings: SettingsOption = None,
    seed: SeedOption = 0,
    yes: YesOption = False,
    offline: OfflineOption = False,
    json_output: JsonOption = False,
) -> None:
    """Judge a program on held-out examples."""
    from sw2.catalog import catalog
    from sw2.verbs.evaluate import evaluation
    from sw2.verbs.slices import fails

    found = context(seed, yes=yes, offline=offline)
    loaded = catalog().program(program, found)
    judged = evaluation(catalog(), loaded, data, found, slices=slices, split=split, settings=settings or [], task=task)
    rows = [{**part.score.to_json(), "of": f"{part.column} = {part.value}"} for part in judged.slices]
    if json_output:
        told = [{"column": part.column, "slice": part.value, **part.score.to_json()} for part in judged.slices]
        emit({
            "program": loaded.id,
            "scores": [score.to_json() for score in judged.scores],
            **({"slices": told} if slices is not None else {}),
        })  # fmt: skip
    else:
        show_scores([score.to_json() for score in judged.scores])
        if rows:
            typer.echo()
            show_scores(rows)
    if fail_under is None:
        return
    main = judged.scores[0]
    missed = main.value < fail_under if main.better == "higher" else main.value > fail_under
    if missed:
        say(f"sw2: {main.name} is {main.value:.4f}, worse than {fail_under}")
    for part, row in zip(judged.slices, rows, strict=True):
        if fails(part.score, fail_under):
            missed = True
            low, high = row["interval"]
            say(
                f"sw2: {main.name} where {row['of']} is {part.score.value:.4f} over {part.score.examples} examples "
                f"({low:.4f} to {high:.4f}), worse than {fail_under}"
            )
    if missed:
        raise typer.Exit(1)
