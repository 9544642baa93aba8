"""`sw2 train` and `sw2 plan`: learn a program; or say first what it would take."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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

if TYPE_CHECKING:
    from sw2.core.estimate import Estimate
    from sw2.core.program import Program
    from sw2.verbs.train import Order, Planned

__all__ = ["order_of", "plan_command", "train_command"]

TaskArgument = Annotated[str | None, typer.Argument(help="What is asked; see `sw2 list`, tasks and chains.")]
DataArgument = Annotated[
    str | None, typer.Argument(help="A path, or a name from `sw2 list data`; a chain has one of its own.")
]
ModelOption = Annotated[str | None, typer.Option("--model", help="The network; derived when left out.")]
ObjectiveOption = Annotated[str | None, typer.Option("--objective", help="The way to learn, where a task has several.")]
FromOption = Annotated[
    str | None, typer.Option("--from", metavar="PROGRAM|WEIGHTS", help="Start from what was learned.")
]
WithOption = Annotated[
    list[str] | None, typer.Option("--with", metavar="ROLE=PROGRAM", help="A program that the learning uses.")
]
PresetOption = Annotated[str, typer.Option("--preset", help="tiny (seconds), small (minutes) or full.")]
DepthOption = Annotated[int | None, typer.Option("--depth", help="How big, in blocks or layers; the rest follows.")]
MinutesOption = Annotated[float | None, typer.Option("--minutes", help="Learn for so many minutes.")]
StepsOption = Annotated[int | None, typer.Option("--steps", help="Learn for so many steps.")]
EpochsOption = Annotated[float | None, typer.Option("--epochs", help="Learn for so many passes over the data.")]
ParametersOption = Annotated[
    str | None, typer.Option("--params", help="A size to estimate for other machines: 65e9, 65B, or a published name.")
]
TokensOption = Annotated[
    str | None,
    typer.Option("--tokens", help="How many tokens to learn from there: 1.4e12, 1.4T; derived when left out."),
]
GpusOption = Annotated[int | None, typer.Option("--gpus", min=1, help="How many GPUs; the fewest when left out.")]
GpuOption = Annotated[str | None, typer.Option("--gpu", help="Which GPUs, such as a100-80.")]


def order_of(
    task: str | None,
    data: str | None,
    minutes: float | None,
    steps: int | None,
    epochs: float | None,
    model: str | None,
    objective: str | None,
    start: str | None,
    uses: list[str] | None,
    preset: str,
    depth: int | None,
    settings: list[str] | None,
    seed: int,
    device: str,
) -> Order:
    """What options and arguments ask for.

    Raises:
        UsageError: there is no task or no data, or a role is given twice.
    """
    from sw2.catalog import catalog
    from sw2.core.trainer import Budget
    from sw2.verbs.train import Order

    if data is None and task is not None and catalog().is_chain(task):
        data = catalog().chain_entry(task).data
    if task is None or data is None:
        raise UsageError(
            "The task or the data is missing.",
            wanted="sw2 train TASK DATA",
            got=f"sw2 train {task or ''}".strip(),
            do="See `sw2 list tasks` and `sw2 list data`.",
        )
    given = (minutes, steps, epochs) != (None, None, None)
    return Order(
        task=task,
        data=data,
        budget=Budget(minutes=minutes, steps=steps, epochs=epochs) if given else None,
        model=model,
        objective=objective,
        parent=start,
        uses=_roles(uses or []),
        preset=preset,
        depth=depth,
        settings=settings or [],
        seed=seed,
        device=device,
    )


def _roles(texts: list[str]) -> dict[str, str]:
    roles: dict[str, str] = {}
    for text in texts:
        role, separator, program = text.partition("=")
        if not (separator and role and program) or role in roles or role == "start":
            raise UsageError(
                "A program is used in a role.", where=f"--with {text}", wanted="ROLE=PROGRAM, each role once", got=text
            )
        roles[role] = program
    return roles


@app.command("plan")
@verb
def plan_command(
    ctx: typer.Context,
    task: TaskArgument = None,
    data: DataArgument = None,
    model: ModelOption = None,
    objective: ObjectiveOption = None,
    start: FromOption = None,
    uses: WithOption = None,
    preset: PresetOption = "small",
    depth: DepthOption = None,
    minutes: MinutesOption = None,
    steps: StepsOption = None,
    epochs: EpochsOption = None,
    parameters: ParametersOption = None,
    tokens: TokensOption = None,
    gpus: GpusOption = None,
    gpu: GpuOption = None,
    settings: SettingsOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    yes: YesOption = False,
    offline: OfflineOption = False,
    json_output: JsonOption = False,
) -> None:
    """What a training would take.

    With DATA it is measured by a few of its steps on this machine. With --params and --gpu it is estimated for a
    cluster of such devices, from arithmetic and published runs.
    """
    from sw2.catalog import catalog
    from sw2.verbs.train import plan

    if (parameters, tokens, gpus, gpu) != (None, None, None, None):
        used = {"task", "parameters", "tokens", "gpus", "gpu", "settings", "json_output"}
        refuse_unused(ctx, used, "An estimate for other machines has no use for this.")
        _show_estimate(_estimate(task, parameters, tokens, gpus, gpu, settings), json_output)
        return
    order = order_of(
        task, data, minutes, steps, epochs, model, objective, start, uses, preset, depth, settings, seed, device
    )
    if catalog().is_chain(order.task):
        _show_stages(order, json_output)
        return
    planned = plan(catalog(), order, context(seed, yes=yes, offline=offline))
    if json_output:
        report = {"facts": dict(planned.report.facts), "notes": list(planned.report.notes)}
        emit({**vars(planned.plan), "model": planned.recipe.model, "settings": planned.settings, "data": report})
        return
    _show_plan(planned)


def _show_stages(order: Order, json_output: bool) -> None:
    """How a chain divides its budget; each stage is measured when it begins, since it starts from what was learned."""
    from sw2.catalog import catalog
    from sw2.verbs.chain import minutes_of, stages_of

    stages = stages_of(catalog(), order)
    minutes = minutes_of(order, stages)
    rows: list[dict[str, Any]] = [
        {
            "stage": stage.name,
            "task": stage.task,
            "data": stage.data,
            "minutes": minutes.get(stage.name),
            "start": stage.start or order.parent,
            "beside": list(stage.beside),
            "why": stage.why,
        }
        for stage in stages
    ]
    if json_output:
        emit({"chain": order.task, "stages": rows})
        return
    width = max(len(stage.name) for stage in stages)
    for row in rows:
        length = "" if row["minutes"] is None else f"{row['minutes']:5.1f} min"
        start = f", from {row['start']}" if row["start"] else ""
        typer.echo(f"{row['stage']:<{width}} {length}  {row['task']} on {row['data']}{start}")
        typer.echo(f"{'':<{width}}   {row['why']}")
    say("Each stage is measured when it begins: sw2 train says how many steps its minutes are.")


def _estimate(
    task: str | None,
    parameters: str | None,
    tokens: str | None,
    gpus: int | None,
    gpu: str | None,
    settings: list[str] | None,
) -> Estimate:
    from sw2.catalog import catalog
    from sw2.core.estimate import Target

    if task is None or parameters is None or gpu is None:
        missing = {"TASK": task, "--params": parameters, "--gpu": gpu}
        raise UsageError(
            "An estimate for other machines needs more.",
            wanted="sw2 plan TASK --params P --gpu KIND [--tokens T] [--gpus N]",
            got="no " + ", no ".join(name for name, value in missing.items() if value is None),
        )
    target = Target(parameters=parameters, tokens=tokens, gpus=gpus, gpu=gpu, settings=settings or [])
    return catalog().estimate(task)(target)


def _show_estimate(estimate: Estimate, json_output: bool) -> None:
    if json_output:
        emit({**estimate.facts, "reasons": estimate.reasons})
        return
    for name, text in estimate.lines.items():
        typer.echo(f"{name:<10}{text}")
    widths = [max(map(len, cells)) for cells in zip(*estimate.table, strict=True)]
    for row in estimate.table:
        cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        typer.echo("  ".join([row[0].ljust(widths[0]), *cells]).rstrip())
    for name, reason in estimate.reasons.items():
        typer.echo(f"  {name}: {reason}")


def _short(value: Any) -> str:
    return f"{value:,}" if type(value) is int else f"{value:.3g}" if type(value) is float else str(value)


def _show_plan(planned: Planned) -> None:
    from sw2.core.card import count, duration, size

    plan, facts = planned.plan, planned.plan.facts
    unit = facts.get("unit")
    rows = {
        "data": f"{planned.data.name}: " + ", ".join(f"{len(s)} {n}" for n, s in planned.data.splits.items()),
        "model": f"{planned.recipe.model}, {count(facts['parameters'])} parameters" if "parameters" in facts else "",
        "time": f"{duration(plan.minutes * 60)} ({plan.total_steps} steps of {plan.step_seconds * 1000:.0f} ms)",
        "memory": f"{size(plan.peak_memory)} at most",
        "disk": size(plan.disk),
    }
    if unit:
        rows[str(unit)] = count(float(facts[f"{unit}_per_step"]) * plan.total_steps)
    if per_step := facts.get("epochs_per_step"):
        rows["epochs"] = ", ".join(f"{name} {part * plan.total_steps:.2f}".strip() for name, part in per_step.items())
    for name, text in rows.items():
        if text:
            typer.echo(f"{name:<10}{text}")
    for name, value in planned.report.facts.items():
        typer.echo(f"  data: {name} {value}")
    for name, value in facts.items():
        if name not in ("parameters", "unit", f"{unit}_per_step", "epochs_per_step"):
            parts = value if isinstance(value, Mapping) else {"": value}
            typer.echo(f"  {name}: " + ", ".join(f"{part} {_short(each)}".strip() for part, each in parts.items()))
    for key, reason in planned.reasons.items():
        typer.echo(f"  {key}: {reason}")
    for note in (*planned.report.notes, *plan.notes):
        typer.echo(f"  note: {note}")


@app.command("train")
@verb
def train_command(
    ctx: typer.Context,
    task: TaskArgument = None,
    data: DataArgument = None,
    model: ModelOption = None,
    objective: ObjectiveOption = None,
    start: FromOption = None,
    uses: WithOption = None,
    preset: PresetOption = "small",
    depth: DepthOption = None,
    minutes: MinutesOption = None,
    steps: StepsOption = None,
    epochs: EpochsOption = None,
    settings: SettingsOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="The run's folder; a free one under runs/ by default.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    config: Annotated[Path | None, typer.Option("--config", help="Repeat the run of this config.toml.")] = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    yes: YesOption = False,
    offline: OfflineOption = False,
    json_output: JsonOption = False,
) -> None:
    """Learn a program from examples."""
    from sw2.catalog import catalog
    from sw2.core.distributed import world
    from sw2.faces.cli.progress import Line
    from sw2.verbs import chain
    from sw2.verbs import train as verbs

    line = Line()
    found = context(seed, yes=yes, offline=offline)
    if resume or config is not None:
        used = {"yes", "offline", "json_output", "out", "resume" if resume else "config"}
        refuse_unused(ctx, used, "A run that exists decides its own settings.")
    try:
        if resume:
            if out is None:
                raise UsageError("There is nothing to resume.", wanted="--resume --out RUN", got="no --out")
            target = out
            program = chain.resume(catalog(), out, found, line)
        elif config is not None:
            order, _ = verbs.settings_from_file(config)
            target = out or verbs.default_out(order.task, order.data)
            program = verbs.train(catalog(), order, target, found, line, repeats=config)
        else:
            order = order_of(
                task, data, minutes, steps, epochs, model, objective, start, uses, preset, depth, settings, seed, device
            )
            target = out or verbs.default_out(order.task, order.data)
            program = chain.train(catalog(), order, target, found, line)
    finally:
        line.close()
    if not world().leads:
        return
    if json_output:
        emit({"run": str(target), "program": str(program.path), "id": program.id, "card": program.card.to_json()})
        return
    if chain.is_chain(target):
        _show_stages_learned(program, target, seed)
        return
    _show_learned(program, target)


def _show_stages_learned(program: Program, target: Path, seed: int) -> None:
    from rich.console import Console

    from sw2.catalog import catalog
    from sw2.faces.cli.stage_table import stage_table
    from sw2.verbs.chain import stages_ended

    Console(highlight=False).print(stage_table(stages_ended(catalog(), target), seed))
    typer.echo(f"program  {program.path}")
    typer.echo(f"report   {target / 'report.html'}")
    say(f"use it:  sw2 run {target} INPUT")


def _show_learned(program: Program, target: Path) -> None:
    from sw2.core.card import duration

    show_scores(program.card.scores)
    measured, planned = program.card.measured, program.card.planned
    typer.echo(f"learned in {duration(measured['minutes'] * 60)}, planned {duration(planned['minutes'] * 60)}")
    typer.echo(f"program  {program.path}")
    typer.echo(f"report   {target / 'report.html'}")
    say(f"use it:  sw2 run {target} INPUT")
