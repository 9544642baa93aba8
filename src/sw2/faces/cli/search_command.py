"""`sw2 search TASK DATA --space S --minutes N`: try settings, the network's shape too, and learn with the best."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sw2.base.errors import UsageError
from sw2.faces.cli import app
from sw2.faces.cli.common import (
    DeviceOption,
    JsonOption,
    OfflineOption,
    SeedOption,
    SettingsOption,
    YesOption,
    context,
    emit,
    refuse_unused,
    say,
    show_scores,
    verb,
)
from sw2.faces.cli.train_command import (
    DataArgument,
    DepthOption,
    EpochsOption,
    FromOption,
    ModelOption,
    ObjectiveOption,
    PresetOption,
    TaskArgument,
    WithOption,
    order_of,
)

if TYPE_CHECKING:
    from sw2.verbs.search import Searched

__all__ = ["search_command"]


@app.command("search")
@verb
def search_command(
    ctx: typer.Context,
    task: TaskArgument = None,
    data: DataArgument = None,
    space: Annotated[
        list[str] | None,
        typer.Option(
            "--space",
            metavar="KEY=VALUES|FILE",
            help="What to try: model.depth=2,4,8 or KEY=1e-4..1e-2 log or a TOML file; may be repeated. "
            "Otherwise, or by the word default, what the model declares.",
        ),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option("--minutes", help="For all together: half for trials, the rest for the best.")
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="The same in steps.")] = None,
    epochs: EpochsOption = None,
    strategy: Annotated[
        str,
        typer.Option(
            "--strategy", help="halving, random, evolution, tpe (needs the extra search), or shared (weights)."
        ),
    ] = "halving",
    trials: Annotated[
        int | None, typer.Option("--trials", help="How many combinations; derived from the minutes when left out.")
    ] = None,
    model: ModelOption = None,
    objective: ObjectiveOption = None,
    start: FromOption = None,
    uses: WithOption = None,
    preset: PresetOption = "small",
    depth: DepthOption = None,
    settings: SettingsOption = None,
    out: Annotated[Path | None, typer.Option("--out", help="The folder; a free one under runs/ by default.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the search in --out.")] = False,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    yes: YesOption = False,
    offline: OfflineOption = False,
    json_output: JsonOption = False,
) -> None:
    """Find the settings that learn best, and learn with them."""
    from sw2.catalog import catalog
    from sw2.faces.cli.progress import Line
    from sw2.verbs import search as verbs
    from sw2.verbs.train import default_out

    line = Line()
    found = context(seed, yes=yes, offline=offline)
    try:
        if resume:
            used = {"yes", "offline", "json_output", "out", "resume"}
            refuse_unused(ctx, used, "A search that exists decides its own settings.")
            if out is None:
                raise UsageError("There is nothing to resume.", wanted="--resume --out DIR", got="no --out")
            searched = verbs.resume(catalog(), out, found, line)
        else:
            order = order_of(
                task, data, minutes, steps, epochs, model, objective, start, uses, preset, depth, settings, seed, device
            )
            target = out or default_out(f"search-{order.task}", order.data)
            searched = verbs.search(
                catalog(), order, target, found, line, space=space or (), strategy=strategy, trials=trials
            )
    finally:
        line.close()
    if json_output:
        emit(searched.to_json())
        return
    _show(searched)


def _show(searched: Searched) -> None:
    from sw2.core.card import duration, figure
    from sw2.core.space import settings_of
    from sw2.verbs.search_report import ranked

    typer.echo(f"{'trial':>5}  {searched.metric:>12}  {'length':>6}  {'time':>12}  settings")
    times: dict[int, float] = {}
    for each in searched.done:
        times[each.turn.trial] = times.get(each.turn.trial, 0.0) + each.minutes
    for each in ranked(searched.done):
        score = figure(each.scores[0][1]) if each.scores else "failed"
        took = duration(60 * times[each.turn.trial])
        values = ", ".join(settings_of(each.turn.values))
        typer.echo(f"{each.turn.trial:>5}  {score:>12}  {each.turn.share:>6.0%}  {took:>12}  {values}")
    typer.echo(f"scores above are of the validation split; the program of trial {searched.best.turn.trial}'s settings:")
    show_scores(searched.program.card.scores)
    typer.echo(f"program  {searched.program.path}")
    typer.echo(f"report   {searched.path / 'report.html'}")
    say(f"use it:  sw2 run {searched.path} INPUT")
