"""Several trainings that make one program: `sw2 train CHAIN`, for chains that a domain registers.

    OUT/config.toml          what was asked, and the stages as they were derived
    OUT/journal.jsonl        for each stage its budget, before it begins, and its program's id, when it has ended
    OUT/stages/NN-NAME/      an ordinary run, which `sw2 train --resume`, `watch` and `--config` know
    OUT/program/             the program of the last stage that is no control
    OUT/report.html          all stages on one page

A stage's minutes are its share of what is left when it begins, so that a stage that took longer takes from the others
and not from the whole. Stages are ordinary runs and not objectives inside an objective: each keeps its own task,
preparation, precision and number of steps, resumes by itself bit for bit, and can be repeated alone; see
docs/decisions/0005-chains-are-runs.md.

Every stage that makes a program of the chain's task is judged on the chain's own held-out examples, whatever it was
learned from. Beside a stage may stand a *control*: the same minutes without the stage's idea (more of the stage before,
say; beside several stages, the mean of theirs). Whether a stage gained is said by the examples that both judged,
pairwise, where the task tells them apart; otherwise by the two values alone.
"""

from __future__ import annotations

import time
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sw2.base.config import from_dict, to_dict
from sw2.base.errors import Interrupted, ProgramError, RunError, UsageError
from sw2.base.names import unknown
from sw2.base.store import finite
from sw2.core.domain import ChainRequest, Stage
from sw2.core.program import Program
from sw2.core.registry import Registry
from sw2.core.run import Run
from sw2.core.task import Context, Score
from sw2.core.trainer import Budget, Reporter, Silent
from sw2.verbs import train as one
from sw2.verbs.chain_report import write_chain_report
from sw2.verbs.evaluate import evaluate
from sw2.verbs.stages import Ended, told

__all__ = ["is_chain", "minutes_of", "resume", "stages_ended", "stages_of", "train"]


def is_chain(path: Path) -> bool:
    """Whether a chain was run in the folder `path`."""
    try:
        return "chain" in tomllib.loads((path / "config.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False


def train(
    registry: Registry, order: one.Order, out: str | Path, context: Context, reporter: Reporter | None = None
) -> Program:
    """Learn what `order` asks for: a task by one training, or a chain by its stages.

    Raises:
        Sw2Error: as `verbs.train.train`; `resume` goes on with what was learned.
    """
    if not registry.is_chain(order.task):
        return one.train(registry, order, out, context, reporter)
    stages = stages_of(registry, order)
    run = Run.create(out, _document(order, stages))
    with _whole(run):
        return _go(registry, order, stages, run, context, reporter or Silent())


def resume(registry: Registry, out: str | Path, context: Context, reporter: Reporter | None = None) -> Program:
    """Go on with the run or the chain in `out`.

    Raises:
        RunError: when there is none, or its data has changed.
    """
    if not is_chain(Path(out)):
        return one.resume(registry, out, context, reporter)
    reporter = reporter or Silent()
    run = Run.open(out)
    with _whole(run):
        if "finished" in run.journal():
            reporter.note("This chain is finished already.")
            return Program.load(run.program_path, registry)
        order, stages = _read(run.path / "config.toml")
        return _go(registry, order, stages, run, context, reporter)


@contextmanager
def _whole(run: Run) -> Iterator[None]:
    """Gives the folder free at the end; an interrupted stage is gone on with through its chain."""
    try:
        yield
    except Interrupted as error:
        error.do = run.resume_command
        raise
    except KeyboardInterrupt:
        raise Interrupted(
            "Stopped at once; what the last checkpoint holds is kept.", where=run.path, do=run.resume_command
        ) from None
    finally:
        run.close()


# -- settings --------------------------------------------------------------------------------------------------------


def stages_of(registry: Registry, order: one.Order) -> list[Stage]:
    """The stages of the chain that `order` names, with the settings `STAGE.KEY=VALUE` given to each.

    Raises:
        UsageError: an option that a chain has no use for, or a stage that it does not have.
    """
    if order.preset not in one.PRESETS:
        raise unknown("preset", order.preset, one.PRESETS)
    budget = order.budget or Budget(minutes=one.DEFAULT_MINUTES[order.preset])
    if order.model or order.objective or order.uses or order.depth is not None or budget.epochs is not None:
        raise UsageError(
            f"'{order.task}' is a chain of several trainings.",
            wanted="--minutes for the whole, or --steps for each stage",
            got=", ".join(
                text
                for given, text in (
                    (order.model, f"--model {order.model}"),
                    (order.objective, f"--objective {order.objective}"),
                    (order.uses, f"--with {', '.join(order.uses)}"),
                    (order.depth, f"--depth {order.depth}"),
                    (budget.epochs, f"--epochs {budget.epochs}"),
                )
                if given
            ),
            do="Set what belongs to one stage by --set STAGE.KEY=VALUE.",
        )
    request = ChainRequest(data=order.data, preset=order.preset, minutes=budget.minutes, parent=order.parent)
    stages = list(registry.stages(order.task)(request))
    names = [stage.name for stage in stages]
    assert len(set(names)) == len(names), f"two stages of {order.task} have one name"
    for number, stage in enumerate(stages):
        earlier = [other.name for other in stages[:number] if not other.beside]
        assert {stage.start, *stage.uses.values()} <= {"", *earlier}, f"{stage.name} needs a stage before it"
        assert set(stage.beside) <= set(earlier), f"{stage.name} is the control of a stage that is not before it"
    own: dict[str, list[str]] = {name: [] for name in names}
    for text in order.settings:
        name, _, setting = text.strip().partition(".")
        if name not in own:
            raise unknown(f"stage of {order.task}", name, names, where=f"--set {text}")
        own[name].append(setting)
    return [replace(stage, settings=(*stage.settings, *own[stage.name])) for stage in stages]


def minutes_of(order: one.Order, stages: Sequence[Stage]) -> dict[str, float]:
    """The minutes of each stage as far as they are known before the first; none when the budget is in steps."""
    budget = order.budget or Budget(minutes=one.DEFAULT_MINUTES[order.preset])
    whole = sum(stage.share for stage in stages)
    if budget.minutes is None:
        return {}
    return {stage.name: budget.minutes * stage.share / whole for stage in stages}


@dataclass(frozen=True, kw_only=True)
class _ChainSettings:
    """The section [chain] of a config.toml."""

    name: str
    data: str
    parent: str | None
    preset: str
    seed: int
    device: str
    minutes: float | None = None
    steps: int | None = None


def _document(order: one.Order, stages: Sequence[Stage]) -> dict[str, Any]:
    budget = order.budget or Budget(minutes=one.DEFAULT_MINUTES[order.preset])
    asked = _ChainSettings(
        name=order.task,
        data=one.absolute(order.data),
        parent=one.absolute(order.parent) if order.parent else None,
        preset=order.preset,
        seed=order.seed,
        device=order.device,
        minutes=budget.minutes,
        steps=budget.steps,
    )
    given = {name: value for name, value in to_dict(asked).items() if name == "parent" or value is not None}
    return {
        "chain": given,
        "stages": {
            stage.name: {
                **{name: value for name, value in vars(stage).items() if name not in ("name", "uses")},
                "data": one.absolute(stage.data),
                "settings": list(stage.settings),
                "beside": list(stage.beside),
                "uses": [f"{role}={name}" for role, name in stage.uses.items()],
            }
            for stage in stages
        },
    }


def _read(path: Path) -> tuple[one.Order, list[Stage]]:
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        asked = from_dict(_ChainSettings, document["chain"], "chain")
        stages = [
            Stage(
                name=name,
                **{
                    **values,
                    "settings": tuple(values["settings"]),
                    "beside": tuple(values["beside"]),
                    "uses": dict(each.split("=", 1) for each in values["uses"]),
                },
            )
            for name, values in document["stages"].items()
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, UsageError) as error:
        raise RunError("These settings cannot be read.", where=path, wanted="a config.toml", got=repr(error)) from error
    order = one.Order(
        task=asked.name,
        data=asked.data,
        budget=Budget(minutes=asked.minutes, steps=asked.steps),
        parent=asked.parent,
        preset=asked.preset,
        seed=asked.seed,
        device=asked.device,
    )
    return order, stages


# -- running ---------------------------------------------------------------------------------------------------------


def _go(
    registry: Registry, order: one.Order, stages: Sequence[Stage], run: Run, context: Context, reporter: Reporter
) -> Program:
    """Run every stage that has not ended, and put the last program in its place."""
    ended = [*_started(registry, order, stages, run, context, reporter)]
    for number, stage in enumerate(stages, start=1):
        path = run.path / "stages" / f"{number:02d}-{stage.name}"
        budget = _budget(order, stages, number - 1, run)
        length = f"{budget.minutes:.1f} minutes" if budget.minutes is not None else f"{budget.steps} steps"
        reporter.headline(f"stage {number} of {len(stages)}, {stage.name}: {stage.why} {length}.")
        began = time.monotonic()
        if (path / "config.toml").exists():
            program = one.resume(registry, path, context, reporter)
        else:
            program = one.train(registry, _stage_order(order, stages, stage, budget, run), path, context, reporter)
        _judge_elsewhere(registry, order, stages, stage, program, run, context, reporter)
        if f"ended {stage.name}" not in run.journal():
            took = (time.monotonic() - began) / 60
            run.decide({f"ended {stage.name}": {"id": program.id, "minutes": took}})
        ended.append(_ended(program, stage, path, run))
        for line in told(ended, stage, order.seed):
            reporter.headline(line)
        write_chain_report(run.path, registry.chain_entry(order.task), order, ended)
    last = next(each for each in reversed(ended) if each.stage is not None and not each.stage.beside)
    assert last.path is not None
    program = Program.load(last.path / "program", registry)
    card = replace(program.card, scores=[score.to_json() for score in last.scores])
    replace(program, card=card).save(run.program_path)
    program = Program.load(run.program_path, registry)
    run.decide({"finished": program.id})
    return program


def _stage_path(stages: Sequence[Stage], name: str, run: Run) -> Path:
    number = next(number for number, stage in enumerate(stages, start=1) if stage.name == name)
    return run.path / "stages" / f"{number:02d}-{name}"


def _stage_order(order: one.Order, stages: Sequence[Stage], stage: Stage, budget: Budget, run: Run) -> one.Order:
    start = str(_stage_path(stages, stage.start, run)) if stage.start else order.parent
    return one.Order(
        task=stage.task,
        data=stage.data,
        objective=stage.objective or None,
        budget=budget,
        parent=start,
        uses={role: str(_stage_path(stages, name, run)) for role, name in stage.uses.items()},
        preset=order.preset,
        settings=stage.settings,
        seed=order.seed,
        device=order.device,
    )


def _budget(order: one.Order, stages: Sequence[Stage], number: int, run: Run) -> Budget:
    """What a stage is given: decided once, before it begins."""
    assert order.budget is not None
    if order.budget.steps is not None:
        return Budget(steps=order.budget.steps)
    journal = run.journal()
    key = f"minutes of {stages[number].name}"
    if key not in journal:
        assert order.budget.minutes is not None
        spent = sum(journal[f"ended {stage.name}"]["minutes"] for stage in stages[:number])
        share = stages[number].share / sum(stage.share for stage in stages[number:])
        # A stage that took far too long leaves the others something all the same.
        least = 0.25 * order.budget.minutes * stages[number].share / sum(stage.share for stage in stages)
        # A control has what those had that it stands beside, whatever is left; anything less would flatter them.
        beside = [journal[f"minutes of {name}"] for name in stages[number].beside]
        given = sum(beside) / len(beside) if beside else max(least, (order.budget.minutes - spent) * share)
        run.decide({key: given})
    return Budget(minutes=run.journal()[key])


def _started(
    registry: Registry, order: one.Order, stages: Sequence[Stage], run: Run, context: Context, reporter: Reporter
) -> list[Ended]:
    """What the chain starts from, judged as its program will be; nothing where it cannot be."""
    if order.parent is None:
        return []
    entry = registry.chain_entry(order.task)
    if "start" not in run.journal():
        reporter.note(f"judging {order.parent} as it is")
        parent = registry.program(order.parent, context)
        try:
            reading = _reading(order, entry.task, stages)
            scores = evaluate(registry, parent, order.data, context, task=entry.task, settings=reading, record=False)
        except ProgramError:  # it cannot do yet what the chain will teach it
            scores = []
        run.decide({"start": finite([score.to_json() for score in scores])})
    return _judged_start(registry, order, run)


def _judged_start(registry: Registry, order: one.Order, run: Run) -> list[Ended]:
    scores = [Score(**row) for row in run.journal().get("start", ())]
    if order.parent is None or not scores:
        return []
    return [Ended(title=Path(order.parent).name, task=registry.chain_entry(order.task).task, scores=scores)]


def _judge_elsewhere(
    registry: Registry,
    order: one.Order,
    stages: Sequence[Stage],
    stage: Stage,
    program: Program,
    run: Run,
    context: Context,
    reporter: Reporter,
) -> None:
    """Judge on the chain's own questions a program of its task that was learned from other data, and keep the scores.

    Otherwise it could be compared with no other stage.
    """
    entry = registry.chain_entry(order.task)
    if stage.data == order.data or stage.task != entry.task or f"scores of {stage.name}" in run.journal():
        return
    reporter.note(f"judging {stage.name} on {order.data}")
    scores = evaluate(
        registry, program, order.data, context, task=entry.task, settings=_reading(order, entry.task, stages)
    )
    run.decide({f"scores of {stage.name}": finite([score.to_json() for score in scores])})


def _reading(order: one.Order, task: str, stages: Sequence[Stage]) -> list[str]:
    """How the chain's own data is read by the stages that learn from it."""
    those = [stage for stage in stages if stage.data == order.data and stage.task == task]
    return [text for text in (those[0].settings if those else ()) if text.strip().startswith("data.")]


def stages_ended(registry: Registry, out: Path) -> list[Ended]:
    """What the chain in `out` started from, where that was judged, and its stages that have ended, in order.

    Raises:
        RunError: there is no chain.
    """
    order, stages = _read(out / "config.toml")
    run = Run(out)
    journal = run.journal()
    found = _judged_start(registry, order, run)
    for stage in stages:
        if f"ended {stage.name}" in journal:
            path = _stage_path(stages, stage.name, run)
            found.append(_ended(Program.load(path / "program", registry), stage, path, run))
    return found


def _ended(program: Program, stage: Stage, path: Path, run: Run) -> Ended:
    journal = run.journal()
    took = journal[f"ended {stage.name}"]["minutes"]
    return Ended(
        title=stage.name,
        task=program.task.name,
        scores=[Score(**row) for row in journal.get(f"scores of {stage.name}", program.card.scores)],
        stage=stage,
        path=path,
        minutes=(journal.get(f"minutes of {stage.name}", program.card.planned.get("minutes", 0.0)), took),
    )
