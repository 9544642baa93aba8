"""The verbs `train` and `plan`: from a data set to a program, and what that would take.

    read the data → check it → derive every setting (a Recipe) → fit the preprocessing → learn → save → judge → report

The program is saved as soon as it is learned, and saved again with its scores: nothing that happens while judging can
lose it. All settings end up in RUN/config.toml, from which `repeat` makes the same run again and `resume` goes on.
"""

from __future__ import annotations

import datetime
import platform
import statistics
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from sw2.base.config import apply_settings, from_dict, settings_for, to_dict
from sw2.base.device import choose_device, usable_cores
from sw2.base.errors import DataError, DiskFull, Interrupted, LearningError, RunError, UsageError
from sw2.base.names import unknown
from sw2.core.card import Card
from sw2.core.data import Data
from sw2.core.distributed import world
from sw2.core.domain import Recipe, Request
from sw2.core.history import commit_trained_from
from sw2.core.objective import Job, Objective
from sw2.core.program import Program
from sw2.core.registry import Registry
from sw2.core.run import Run
from sw2.core.task import CheckReport, Context, Prep, Task
from sw2.core.trainer import Budget, Learned, Plan, Reporter, Silent, Trainer, TrainerConfig
from sw2.verbs.report import write_report
from sw2.verbs.starting import begun, offered

__all__ = [
    "DEFAULT_MINUTES",
    "PRESETS",
    "Instead",
    "Order",
    "Planned",
    "Setup",
    "absolute",
    "default_out",
    "fit",
    "latency",
    "plan",
    "resume",
    "set_up",
    "settings_from_file",
    "train",
]

PRESETS = ("tiny", "small", "full")


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a user asks to be learned.

    Args:
        task, data: names or paths, as on the command line.
        budget: how long; None takes the preset's own length.
        model: the model's name; None for the recipe's choice.
        objective: the way to learn; None for the task's default.
        parent: a program or named weights to start from (`--from`).
        uses: further programs by role (`--with`).
        preset: "tiny", "small" or "full".
        depth: how many blocks, from which the size and the rates follow; None leaves them to the preset.
        settings: `key=value` texts of `--set`.
        seed, device: as everywhere.
    """

    task: str
    data: str
    budget: Budget | None = None
    model: str | None = None
    objective: str | None = None
    parent: str | None = None
    uses: Mapping[str, str] = field(default_factory=dict)
    preset: str = "small"
    depth: int | None = None
    settings: Sequence[str] = ()
    seed: int = 0
    device: str = "auto"


@dataclass(frozen=True, kw_only=True)
class Setup:
    """Everything that stands before the first step; `sections` are the configs by name, as `--set` left them."""

    order: Order
    task: Task
    data: Data
    report: CheckReport
    recipe: Recipe
    sections: Mapping[str, Any]
    parent: Program | None
    uses: Mapping[str, Program]
    budget: Budget

    def document(self) -> dict[str, Any]:
        """The settings as they are saved in config.toml."""
        run: dict[str, Any] = {
            "task": self.order.task,
            "data": absolute(self.order.data),
            "model": self.recipe.model,
            "objective": self.recipe.objective,
            "preset": self.order.preset,
            "parent": absolute(self.order.parent) if self.order.parent else None,
            "uses": [f"{role}={absolute(program)}" for role, program in self.order.uses.items()],
            "seed": self.order.seed,
            "device": self.order.device,
            **({} if self.order.depth is None else {"depth": self.order.depth}),
            **{name: value for name, value in vars(self.budget).items() if value is not None},
        }
        return {"run": run, **{name: to_dict(config) for name, config in self.sections.items()}}


def absolute(name: str) -> str:
    """A path is kept absolute, so that a run resumes from any folder; a name in the catalogue stays."""
    return str(Path(name).absolute()) if Path(name).exists() else name


@dataclass(frozen=True, kw_only=True)
class _RunSettings:
    """The section [run] of a config.toml."""

    task: str
    data: str
    model: str
    objective: str
    preset: str
    parent: str | None
    seed: int
    device: str
    uses: tuple[str, ...] = ()
    depth: int | None = None
    minutes: float | None = None
    steps: int | None = None
    epochs: float | None = None


@dataclass(frozen=True, kw_only=True)
class Instead:
    """Something else to learn from the same examples with the same settings.

    Args:
        section: a word for it, which marks the run's config.toml.
        of: makes it from what the order says: the job and the objective.
    """

    section: str
    of: Callable[[Job, Objective[Any]], tuple[Job, Objective[Any]]]


@dataclass(frozen=True, kw_only=True)
class Planned:
    """The answer of `plan`."""

    plan: Plan
    data: Data
    report: CheckReport
    recipe: Recipe
    reasons: Mapping[str, str]
    settings: Mapping[str, Any]


# How long a preset learns when no budget is given, in minutes.
DEFAULT_MINUTES = {"tiny": 0.1, "small": 5.0, "full": 60.0}


def set_up(
    registry: Registry,
    order: Order,
    context: Context,
    saved: Mapping[str, Any] | None = None,
    known: Data | None = None,
) -> Setup:
    """Read the data, unless it is `known`, and derive every setting, or restore those `saved` in a config.toml.

    Raises:
        UsageError, DataError: as `train`.
    """
    if order.preset not in PRESETS:
        raise unknown("preset", order.preset, PRESETS)
    if order.depth is not None and order.depth < 1:
        raise UsageError(
            "A network has blocks.", where="--depth", wanted="a whole number of at least 1", got=order.depth
        )
    choose_device(order.device)
    task, derived = registry.task(order.task), registry.recipe(order.task)
    if registry.judge(order.data) is not None:
        raise UsageError(
            f"'{order.data}' is for judging programs; nothing is learned from it.",
            wanted="data to learn from",
            got=order.data,
            do=f"sw2 eval PROGRAM {order.data}",
        )
    if order.model is not None and order.model not in registry.task_entry(order.task).models:
        raise unknown(f"model for {order.task}", order.model, registry.task_entry(order.task).models)
    if order.objective is not None and order.objective not in (ways := registry.task_entry(order.task).objectives):
        raise unknown(f"objective for {order.task}", order.objective, ways)
    parent = registry.program(order.parent, context) if order.parent else None
    uses = {role: registry.program(program, context) for role, program in order.uses.items()}
    budget = order.budget or Budget(minutes=DEFAULT_MINUTES[order.preset])
    if saved is not None:
        options = from_dict(task.Options, saved["data"], "data")
        data = task.read(order.data, options, context)
        settings = saved["run"]
        sections = {
            "data": options,
            "prep": None,
            "model": from_dict(registry.model_class(settings["model"]).Config, saved["model"], "model"),
            "learn": from_dict(registry.objective_config(settings["objective"]), saved["learn"], "learn"),
            "trainer": from_dict(TrainerConfig, saved["trainer"], "trainer"),
        }
        request = Request(
            data=data,
            preset=order.preset,
            depth=order.depth,
            model=settings["model"],
            objective=settings["objective"],
            minutes=budget.minutes,
            parent=parent,
            uses=uses,
        )
        recipe = derived(request)
        sections["prep"] = from_dict(type(recipe.prep_config), saved["prep"], "prep")
        recipe = replace(recipe, model=settings["model"], objective=settings["objective"])
    else:
        # Data options decide what is read, so they are needed before the other settings exist to be checked.
        options = task.Options()
        options = apply_settings({"data": options}, settings_for("data", options, order.settings))["data"]
        data = known or task.read(order.data, options, context)
        request = Request(
            data=data,
            preset=order.preset,
            depth=order.depth,
            model=order.model,
            objective=order.objective,
            minutes=budget.minutes,
            parent=parent,
            uses=uses,
        )
        recipe = derived(request)
        sections = apply_settings(
            {
                "data": options,
                "prep": recipe.prep_config,
                "model": recipe.model_config,
                "learn": recipe.learn_config,
                "trainer": TrainerConfig(),
            },
            order.settings,
        )
    if recipe.depth != order.depth:
        raise UsageError(
            "The size of this is not told by a depth.",
            where=f"--depth {order.depth}",
            wanted=f"no --depth for {order.task}",
            got=order.depth,
            do="Use --preset, or --set model.…",
        )
    if strange := [role for role in uses if role not in recipe.roles]:
        raise UsageError(
            "This way of learning uses no such program.",
            where=f"--with {strange[0]}={order.uses[strange[0]]}",
            wanted=" or ".join(f"{role}=PROGRAM" for role in recipe.roles) or f"no --with for {order.task}",
            got=strange[0],
        )
    recipe = replace(recipe, reasons=_true_reasons(recipe, sections))
    report = task.check(data)
    return Setup(
        order=order,
        task=task,
        data=data,
        report=report,
        recipe=recipe,
        sections=sections,
        parent=parent,
        uses=uses,
        budget=budget,
    )


def _true_reasons(recipe: Recipe, sections: Mapping[str, Any]) -> dict[str, str]:
    """The recipe's reasons; of what was set otherwise by hand, that."""
    derived = {"prep": recipe.prep_config, "model": recipe.model_config, "learn": recipe.learn_config}
    reasons = {}
    for key, reason in recipe.reasons.items():
        section, *names = key.split(".")
        ours, theirs = derived.get(section), sections.get(section)
        for name in names:
            ours, theirs = getattr(ours, name), getattr(theirs, name)
        reasons[key] = reason if not names or ours == theirs else f"{theirs}, set by hand"
    return reasons


def _prepare(setup: Setup) -> Prep:
    """The preprocessing: fitted on the training split, or that of the program to start from."""
    if not setup.recipe.keeps_prep:
        return setup.task.prepare(setup.data.split("train"), setup.sections["prep"])
    assert setup.parent is not None
    if setup.sections["prep"] != setup.recipe.prep_config:
        raise UsageError(
            "The preprocessing belongs to the program to start from and cannot be set.",
            wanted="no --set prep.… together with --from",
            got=", ".join(f"{name}={value}" for name, value in to_dict(setup.sections["prep"]).items()),
        )
    return setup.task.adopt(setup.parent.prep, setup.data.split("train"))


def _job(setup: Setup, registry: Registry, prep: Prep) -> tuple[Job, Objective[Any]]:
    objective = registry.objective(setup.recipe.objective, setup.sections["learn"], setup.order.task)
    job = Job(
        task=setup.task,
        data=setup.data,
        prep=prep,
        model_name=setup.recipe.model,
        model_class=registry.model_class(setup.recipe.model),
        model_config=setup.sections["model"],
        seed=setup.order.seed,
        device=choose_device(setup.order.device),
        parents={**setup.uses, **({} if setup.parent is None else {"start": setup.parent})},
    )
    return job, objective


def plan(registry: Registry, order: Order, context: Context) -> Planned:
    """What `train` would take, measured by a few steps; writes nothing.

    Raises:
        UsageError, DataError: as `train`.
    """
    setup = set_up(registry, order, context)
    prep = _prepare(setup)
    job, objective = _job(setup, registry, prep)
    planned, reasons = Trainer(setup.sections["trainer"]).plan(job, objective, setup.budget)
    if ways := offered(registry, setup):
        reasons = {**reasons, "start": "tried first, in a part of the minutes: " + "; ".join(way.name for way in ways)}
    return Planned(
        plan=planned,
        data=setup.data,
        report=setup.report,
        recipe=setup.recipe,
        reasons={**setup.recipe.reasons, **reasons},
        settings=setup.document(),
    )


def train(
    registry: Registry,
    order: Order,
    out: str | Path,
    context: Context,
    reporter: Reporter | None = None,
    repeats: Path | None = None,
) -> Program:
    """Learn a program into the run folder `out`.

    Args:
        repeats: the config.toml that `order` was read from. Beside an unchanged one, the decisions of that run's
            journal (minutes as steps, precision, threads, micro-batch) are copied too, so that the same bits come out.

    Raises:
        Sw2Error: see `base.errors`; whatever was learned before is in `out`, and when nothing could be learned, `out`
            is as it was.
    """
    here = world()
    if here.leads:
        _refuse_taken(Path(out))
    setup = set_up(registry, order, context, None if repeats is None else settings_from_file(repeats)[1])
    if repeats is None and (start := begun(registry, setup, context, reporter or Silent(), fit)):
        chosen, why = start
        setup = set_up(registry, chosen, context, known=setup.data)
        setup = replace(setup, recipe=replace(setup.recipe, reasons={**setup.recipe.reasons, **why}))
    here.barrier()
    run = Run.create(out, setup.document()) if here.leads else Run(Path(out))
    with _holding(run):
        if repeats is not None and here.leads and (decisions := Run(repeats.parent).decisions_to_repeat()):
            run.decide(decisions)
        here.barrier()
        try:
            return _learn(registry, setup, run, context, reporter or Silent())
        except (UsageError, DataError, LearningError):
            if here.leads and "plan" not in run.journal():
                run.discard()  # a wrong setting that showed late; the same --out is free for another try
            raise


@contextmanager
def _holding(run: Run) -> Iterator[None]:
    """Gives the folder free at the end; says how to go on when a signal or a full disk ended it."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(
            "Stopped at once; what the last checkpoint holds is kept.", where=run.path, do=run.resume_command
        ) from None
    except DiskFull as error:
        if run.goes_on:
            error.do = f"Free some space, then: {run.resume_command}"
        raise
    finally:
        run.close()


def _refuse_taken(out: Path) -> None:
    """Complain about a taken folder before an expensive reading of the data, not after it."""
    if (out / "config.toml").exists():
        Run.create(out, {})


def fit(
    registry: Registry,
    order: Order,
    data: Data,
    out: Path,
    context: Context,
    reporter: Reporter | None = None,
    share: float = 1.0,
    instead: Instead | None = None,
) -> Learned:
    """Learn from examples that are read already, for verbs that need programs on the way; it is not judged or saved.

    Args:
        order: as for `train`; its `data` only names the examples.
        data: the examples; "train" is enough.
        out: a new folder for the run, or that of a run of the same order, which goes on.
        share: of the steps; below 1 the run pauses there.
        instead: what is learned in place of what the order says.

    Raises:
        Sw2Error: see `base.errors`.
    """
    setup = set_up(registry, order, context, known=data)
    # Another section in its config.toml keeps `sw2 train` from going on with it as if it were of the order alone.
    document = {**setup.document(), **({} if instead is None else {instead.section: {}})}
    run = Run.open(out) if (out / "config.toml").exists() else Run.create(out, document)
    try:
        job, objective = _job(setup, registry, _kept_prep(registry, setup, run))
        if instead is not None:
            job, objective = instead.of(job, objective)
        trainer = Trainer(setup.sections["trainer"], reporter or Silent())
        return trainer.fit(job, objective, setup.budget, run, share)
    finally:
        run.close()


def _kept_prep(registry: Registry, setup: Setup, run: Run) -> Prep:
    """The preprocessing that the run keeps, fitted first where it has none yet."""
    kept = run.load_prep()
    if kept is not None:
        return registry.runtime_class(setup.recipe.runtime or setup.task.runtime).Prep.restore(kept)
    prep = _prepare(setup)
    if world().leads:
        run.save_prep(prep)
    return prep


def resume(registry: Registry, out: str | Path, context: Context, reporter: Reporter | None = None) -> Program:
    """Go on with the run in `out`, or load its program when it is finished.

    Raises:
        RunError: when there is no run, or its data has changed.
    """
    run = Run.open(out) if world().leads else Run(Path(out))
    reporter = (reporter or Silent()) if world().leads else Silent()
    with _holding(run):
        if "finished" in run.journal():
            reporter.note("This run is finished already.")
            return Program.load(run.program_path, registry)
        order, document = settings_from_file(run.path / "config.toml")
        setup = set_up(registry, order, context, document)
        return _learn(registry, setup, run, context, reporter)


def settings_from_file(path: Path) -> tuple[Order, dict[str, Any]]:
    """The order and the settings that a config.toml holds.

    Raises:
        RunError: when the file is damaged.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError("These settings cannot be read.", where=path, wanted="a config.toml", got=str(error)) from error
    sections = ("run", "data", "prep", "model", "learn", "trainer")
    if wrong := sorted(set(sections) ^ {name for name, value in document.items() if isinstance(value, dict)}):
        raise RunError(
            "These settings are not whole.",
            where=path,
            wanted="the sections " + ", ".join(sections),
            got=", ".join(f"{'no' if name in sections else 'also'} {name}" for name in wrong),
        )
    run = from_dict(_RunSettings, document["run"], "run")
    order = Order(
        task=run.task,
        data=run.data,
        budget=Budget(minutes=run.minutes, steps=run.steps, epochs=run.epochs),
        parent=run.parent,
        uses=dict(each.split("=", 1) for each in run.uses),
        preset=run.preset,
        depth=run.depth,
        seed=run.seed,
        device=run.device,
    )
    return order, document


def _learn(registry: Registry, setup: Setup, run: Run, context: Context, reporter: Reporter) -> Program:
    reporter = reporter if world().leads else Silent()
    for name, value in setup.report.facts.items():
        reporter.note(f"data: {name} {value}")
    for note in setup.report.notes:
        reporter.note(f"note: {note}")
    commit, remark = commit_trained_from(setup.order.data, setup.data.fingerprint)
    if remark:
        reporter.note(f"data: {remark}")
    prep = _kept_prep(registry, setup, run)
    for key, reason in setup.recipe.reasons.items():
        reporter.note(f"{key}: {reason}")
    job, objective = _job(setup, registry, prep)
    learned = Trainer(setup.sections["trainer"], reporter).fit(job, objective, setup.budget, run)
    if not world().leads:
        return learned.program
    program = replace(learned.program, card=_card(setup, learned, commit))
    program.save(run.program_path)
    reporter.note(f"saved: {run.program_path}")
    program = _judged(Program.load(run.program_path, registry), setup, context, reporter)
    program.save(run.program_path)
    run.decide({"finished": program.id})
    write_report(run.path, program)
    return Program.load(run.program_path, registry)


def _card(setup: Setup, learned: Learned, commit: str) -> Card:
    plan = learned.plan
    return Card(
        made={
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "seed": setup.order.seed,
            "device": setup.order.device,
            "threads": torch.get_num_threads(),
            "cores": usable_cores(),
            "processor": platform.processor() or platform.machine(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            **{f"chosen {name}": value for name, value in learned.choices.items()},
            **{f"why {name}": value for name, value in learned.reasons.items()},
        },
        data={
            "name": setup.data.name,
            "source": setup.data.source,
            "licence": setup.data.licence,
            "fingerprint": setup.data.fingerprint,
            **({"commit": commit} if commit else {}),
            "rejected rows": len(setup.data.rejected),
            "rejected": [vars(row) for row in setup.data.rejected[:20]],
            **{f"{name} examples": len(split) for name, split in setup.data.splits.items()},
            **setup.data.facts,
        },
        planned={"minutes": plan.minutes, "peak_memory": plan.peak_memory, "disk": plan.disk},
        measured={"minutes": learned.minutes, "peak_memory": learned.peak_memory, "disk": learned.disk},
        facts={"steps": learned.steps, **plan.facts, **{f"validation {k}": v for k, v in learned.last.items()}},
        settings=setup.document(),
    )


def _judged(program: Program, setup: Setup, context: Context, reporter: Reporter) -> Program:
    """The program with its scores, its baselines' scores and its latency on the card."""
    if "test" not in setup.data.splits:
        return program
    reporter.note("judging on held-out examples")
    test = setup.data.split("test")
    context = replace(context, start=setup.parent)
    scores = [*setup.task.judge(program, test, context), *setup.task.baselines(setup.data, program.prep, context)]
    seconds = latency(program, setup.task.question(test[0]))
    facts = {**program.card.facts, "latency of one answer in ms": round(seconds * 1000, 3)}
    rows = [score.to_json() for score in scores]
    return replace(program, card=replace(program.card, scores=rows, facts=facts))


def latency(program: Program, question: Any) -> float:
    """Median seconds of one answer to `question`, over up to ten within two seconds, after one to warm up."""
    program(question)
    times: list[float] = []
    began = time.monotonic()
    while len(times) < 10 and (not times or time.monotonic() - began < 2):
        start = time.perf_counter()
        program(question)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def default_out(task: str, data: str) -> Path:
    """A free folder under runs/ for a training without --out."""
    stem = f"{task}-{Path(data).stem or 'data'}"
    for number in range(1, 10_000):
        path = Path("runs") / (stem if number == 1 else f"{stem}-{number}")
        if not path.exists():
            return path
    raise UsageError("There are too many runs under runs/.", do="Give --out.")
