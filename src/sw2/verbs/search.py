"""The verb `search`: which settings learn best in so many minutes, the shape of the network among them.

    OUT/config.toml      what was asked: the order, the space, the strategy
    OUT/journal.jsonl    every turn when it has ended; the last training's budget, before it begins
    OUT/shared/          where weights are shared: the run in which the networks were learned together
    OUT/trials/NNN/      an ordinary run for each combination: `sw2 train --config` repeats it, `--resume` completes it
    OUT/best/            the last training: the best combination, with all that is left of the budget
    OUT/program/         its program
    OUT/report.html      all trials on one page

Choices
- Half of the budget is for trials. The last training gets the rest: what the trials left, and never less than a quarter
  of the whole. A budget in minutes is counted by the clock, reading and judging included.
- All trials have the same budget, the same seed and the same examples. Of minutes each counts its own steps
  (`core.trainer`), so a network that is slower per step takes fewer of them.
- A trial is scored as its task judges programs, on the validation split; the first score decides, the others break
  ties. The test split is not handed to a trial at all; the last program is judged on it once.
- A trial that cannot be learned (the loss is not finite, memory ran out, its settings do not fit after all) is told,
  counted and passed over. A space of which nothing could be learned is an error.
- When all is done, the checkpoints of the trials that lost are removed; completing one of them learns it anew.
- Where weights are shared, the networks are learned together first (`verbs.sharing`), and the best of some that its
  controller draws become the trials. How long that took and what was found stand in the journal too.
- The next turn is a function of the turns before it (`verbs.strategies`), and these stand in the journal. So after
  `kill -9` the search goes on as if nothing had happened, and the trial under way from its last checkpoint.

See docs/decisions/0024-search.md for what is done with Optuna and what without it.

What it does not do: several trials at once, several seeds for a trial.
"""

from __future__ import annotations

import math
import shlex
import shutil
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from sw2.base.config import from_dict, parse_setting, to_dict, typed
from sw2.base.errors import (
    DataError,
    DiskFull,
    Interrupted,
    LearningError,
    ResourceError,
    RunError,
    UsageError,
)
from sw2.base.names import nearest, unknown
from sw2.base.store import is_file, refuse_taken
from sw2.core.card import duration, figure
from sw2.core.data import Data
from sw2.core.distributed import world
from sw2.core.program import Program
from sw2.core.registry import Registry
from sw2.core.run import Run
from sw2.core.space import Space, flat_space, parse_space, read_space, settings_of
from sw2.core.task import Context
from sw2.core.trainer import Budget, Reporter, Silent
from sw2.verbs import train as one
from sw2.verbs.search_report import write_search_report
from sw2.verbs.sharing import learn_together, sharable
from sw2.verbs.strategies import STRATEGIES, Outcome, SharedWeights, Strategy, Turn, best_of, strategy_of

__all__ = ["Searched", "resume", "search"]

_TRIALS_SHARE: Final = 0.5
_LEAST_LAST: Final = 0.25
"""What of the budget is for trials, and what the last training gets at least."""
_LEAST_SECONDS: Final = 10.0
_FEW: Final = 100
"""With fewer validation examples it is said that scores are coarse: at 100, 0.9 is known to about 0.06."""
_DRAWN: Final = 32
"""How often the controller is asked for a network, where weights are shared; different ones among them are judged."""
_TRIALS: Final = 9
"""Where nobody says how many: as many as leave so many seconds to the shortest turn, but no more; 9 without minutes."""
_QUIET: Final = ("trainer.evaluations=0", "trainer.health=off")
"""A trial is judged once, at its end; before the user's own settings, which may say otherwise."""
_SAME: Final = {
    "data": "All trials are held against the same examples.",
    "trainer": "This is how the driver behaves; it is the same for all trials.",
}


@dataclass(frozen=True, kw_only=True)
class Searched:
    """What came of a search.

    Args:
        path: its folder.
        program: the last training's.
        metric: what the trials' first scores are.
        done: every turn, in order.
        best: the turn whose settings the program has.
    """

    path: Path
    program: Program
    metric: str
    done: Sequence[Outcome]
    best: Outcome

    def to_json(self) -> dict[str, Any]:
        """The same as a JSON object."""
        turns = [_row(each) for each in self.done]
        return {
            "search": str(self.path),
            "program": str(self.program.path),
            "id": self.program.id,
            "metric": self.metric,
            "best": self.best.turn.trial,
            "settings": dict(self.best.turn.values),
            "turns": turns,
            "card": self.program.card.to_json(),
        }


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """The section [search] of a config.toml."""

    task: str
    data: str
    model: str | None
    objective: str | None
    parent: str | None
    uses: tuple[str, ...]
    preset: str
    depth: int | None
    settings: tuple[str, ...]
    seed: int
    device: str
    minutes: float | None
    steps: int | None
    epochs: float | None
    strategy: str
    trials: int

    def order(self) -> one.Order:
        """What is learned, with the whole budget."""
        return one.Order(
            task=self.task,
            data=self.data,
            budget=Budget(minutes=self.minutes, steps=self.steps, epochs=self.epochs),
            model=self.model,
            objective=self.objective,
            parent=self.parent,
            uses=dict(each.split("=", 1) for each in self.uses),
            preset=self.preset,
            depth=self.depth,
            settings=self.settings,
            seed=self.seed,
            device=self.device,
        )


def search(
    registry: Registry,
    order: one.Order,
    out: str | Path,
    context: Context,
    reporter: Reporter | None = None,
    *,
    space: Sequence[str] = (),
    strategy: str = next(iter(STRATEGIES)),
    trials: int | None = None,
) -> Searched:
    """Find settings for `order`, and learn with the best of them.

    Args:
        order: as for `train`; its budget is that of everything together.
        out: a new folder.
        space: texts of `--space`: KEY=VALUES, the path of a TOML file, or "default" for what the model declares, which
            is taken where there are none. Later ones overrule earlier ones.
        strategy: a name of `strategies.STRATEGIES`.
        trials: how many combinations are tried, at least 2; derived when None.

    Raises:
        Sw2Error: see `base.errors`; before anything is learned for what is wrong with the space.
    """
    if registry.is_chain(order.task):
        raise UsageError(
            f"'{order.task}' is a chain of several trainings.", wanted="a task", got=order.task, do="sw2 list tasks"
        )
    if order.preset not in one.PRESETS:
        raise unknown("preset", order.preset, one.PRESETS)
    if world().size > 1:
        raise UsageError("A search is of one process.", wanted="sw2 search without torchrun", got=f"{world().size}")
    kind = strategy_of(strategy)
    budget = order.budget or Budget(minutes=one.DEFAULT_MINUTES[order.preset])
    if trials is not None and trials < 2:
        raise UsageError("Nothing is compared.", where="--trials", wanted="at least 2 trials", got=trials)
    _refuse_taken(Path(out))
    order = replace(order, budget=budget)
    setup = one.set_up(registry, order, context)
    texts = _texts(registry, setup, space)
    found = _space(setup, texts)
    asked = _Asked(
        task=order.task,
        data=one.absolute(order.data),
        model=order.model,
        objective=order.objective,
        parent=one.absolute(order.parent) if order.parent else None,
        uses=tuple(f"{role}={one.absolute(program)}" for role, program in order.uses.items()),
        preset=order.preset,
        depth=order.depth,
        settings=tuple(order.settings),
        seed=order.seed,
        device=order.device,
        **vars(budget),
        strategy=strategy,
        trials=_trials(kind, budget, found, trials),
    )
    plan = kind(found, asked.trials, order.seed)
    if isinstance(plan, SharedWeights):
        sharable(registry, setup, found)
    run = Run.create(out, {"search": to_dict(asked), "space": dict(texts)})
    with _whole(run):
        run.decide({"fingerprint": setup.data.fingerprint})
        return _go(registry, asked, plan, setup, run, context, reporter or Silent())


def resume(registry: Registry, out: str | Path, context: Context, reporter: Reporter | None = None) -> Searched:
    """Go on with the search in `out`, or load what it found when it is finished.

    Raises:
        RunError: there is none, or its data has changed.
    """
    path = Path(out)
    if not (path / "config.toml").exists():
        raise RunError(
            "There is no search to resume here.",
            where=path,
            wanted="a folder that `sw2 search --out` made",
            got="none",
        )
    asked, texts = _read(path / "config.toml")
    context = replace(context, seed=asked.seed)
    run = Run.open(path)
    with _whole(run):
        if "finished" in (journal := run.journal()):
            (reporter or Silent()).note("This search is finished already.")
            return _searched(run, Program.load(run.program_path, registry), _done(journal))
        setup = one.set_up(registry, asked.order(), context)
        if journal.get("fingerprint", setup.data.fingerprint) != setup.data.fingerprint:
            raise RunError(
                "The data is not what this search began with.",
                where=run.path,
                wanted=f"data with fingerprint {journal['fingerprint'][:12]}",
                got=setup.data.fingerprint[:12],
                do="Bring back the data as it was, or start a new search.",
            )
        plan = strategy_of(asked.strategy)(_space(setup, texts), asked.trials, asked.seed)
        return _go(registry, asked, plan, setup, run, context, reporter or Silent())


def _refuse_taken(out: Path) -> None:
    try:
        is_search = "search" in tomllib.loads((out / "config.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        is_search = False
    if is_search:
        raise RunError(
            "The output folder already holds a search; nothing was changed.",
            where=out,
            wanted="a new or empty folder",
            got="a folder with a search",
            do=f"Give another --out, or go on with this search: {_resume_command(out)}",
        )
    refuse_taken(out)


def _resume_command(path: Path) -> str:
    return f"sw2 search --resume --out {shlex.quote(str(path))}"


def _read(path: Path) -> tuple[_Asked, dict[str, Any]]:
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        return from_dict(_Asked, document["search"], "search"), flat_space(document["space"], str(path))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, UsageError) as error:
        raise RunError(
            "This is not the folder of a search.",
            where=path,
            wanted="a config.toml that `sw2 search` wrote",
            got=repr(error),
        ) from error


@contextmanager
def _whole(run: Run) -> Iterator[None]:
    """Gives the folder free at the end; whatever interrupted a training, the search is gone on with."""
    command = _resume_command(run.path)
    try:
        yield
    except (Interrupted, DiskFull) as error:
        error.do = command if isinstance(error, Interrupted) else f"Free some space, then: {command}"
        raise
    except KeyboardInterrupt:
        raise Interrupted(
            "Stopped at once; what the last checkpoint holds is kept.", where=run.path, do=command
        ) from None
    finally:
        run.close()


# -- what there is to try --------------------------------------------------------------------------------------------


def _texts(registry: Registry, setup: one.Setup, space: Sequence[str]) -> dict[str, Any]:
    """Keys with their values, from the texts of `--space`."""
    found: dict[str, Any] = {}
    for text in space or ("default",):
        key, separator, values = text.partition("=")
        if text == "default":
            declared = registry.model_entry(setup.recipe.model).space
            if not declared:
                raise UsageError(
                    f"The model '{setup.recipe.model}' declares no search space.",
                    where="--space default",
                    wanted="--space KEY=VALUES, or a TOML file",
                    got="nothing to try",
                    do='Say what to try: --space "model.depth=2,4,8"; docs/settings.md has the keys of each task.',
                )
            given = [parse_setting(each) for each in setup.order.settings]
            decided = {typed(setup.sections, name, value, f"--set {name}")[0] for name, value in given}
            found |= {
                name: said
                for name, said in declared.items()
                # A program to start from has the shape that it has.
                if name not in decided and not (setup.parent and name.startswith("model."))
            }
        elif separator and key.strip() and not is_file(Path(text)):
            found[key.strip()] = values
        elif is_file(Path(text)):
            found |= read_space(Path(text))
        else:
            raise UsageError(
                "This is no search space.",
                where=f"--space {text}",
                wanted='KEY=VALUES, the path of a TOML file, or "default"',
                got="no such file",
                do="Did you mean 'default'?" if nearest(text, ["default"]) else None,
            )
    return found


def _space(setup: one.Setup, texts: Mapping[str, Any]) -> Space:
    """The space that the texts describe, of settings that trials may differ in."""
    space = parse_space(texts, setup.sections, setup.order.settings)
    same = dict(_SAME)
    if setup.recipe.keeps_prep:
        same["prep"] = "The preprocessing belongs to the program to start from."
    for key in space.entries:
        if (section := key.split(".")[0]) in same:
            raise UsageError(
                same[section],
                where=f"--space {key}",
                wanted="settings of " + ", ".join(each for each in setup.sections if each not in same),
                got=key,
                do="Set it for all of them: --set.",
            )
    if not setup.data.splits.get("validation"):
        raise DataError(
            "There is nothing to score trials on.",
            where=setup.data.name,
            wanted="a validation split",
            got=", ".join(setup.data.splits),
            do="Add one; where the task divides the data itself, give it a share: --set data.validation_share=0.1",
        )
    return space


def _trials(kind: type[Strategy], budget: Budget, space: Space, asked: int | None) -> int:
    """How many combinations are tried."""
    most = kind.most if space.cells is None else min(kind.most, max(2, space.cells))
    if asked is not None:
        return asked
    if budget.minutes is None:
        return min(_TRIALS, most)
    seconds = _TRIALS_SHARE * budget.minutes * 60
    fitting = (n for n in range(most, 2, -1) if seconds / kind.lengths(n) * kind.shortest(n) >= _LEAST_SECONDS)
    return next(fitting, 2)


# -- trials ----------------------------------------------------------------------------------------------------------


def _go(
    registry: Registry,
    asked: _Asked,
    plan: Strategy,
    setup: one.Setup,
    run: Run,
    context: Context,
    reporter: Reporter,
) -> Searched:
    """Take every turn that is left, then the last training."""
    done = _done(run.journal())
    reporter.headline(_opening(asked, plan))
    if (few := len(setup.data.split("validation"))) < _FEW:
        reporter.headline(
            f"note: the validation split has only {few} examples, so that chance may decide which trial is best"
        )
    if isinstance(plan, SharedWeights):
        plan = _informed(registry, asked, plan, setup, run, context, reporter)
    while "last" not in run.journal() and (turn := plan.next(done)) is not None:
        if _used(asked, plan, done, run) >= _TRIALS_SHARE and best_of(done) is not None:
            reporter.note(f"The trials' share of the time is used up after {len(done)} turns.")
            break
        reporter.headline(_announced(turn, asked, done))
        outcome = _taken(registry, asked, turn, plan, setup, run, context, reporter)
        run.decide({f"turn {len(done) + 1}": _row(outcome)})
        done.append(outcome)
        reporter.headline(_told(outcome, best_of(done)))
    best = best_of(done)
    if best is None:
        raise LearningError(
            "No trial could be learned.",
            where=run.path / "trials",
            wanted="one at least",
            got="; ".join(f"trial {each.turn.trial}: {each.why}" for each in done[:3]) or "no combination that fits",
            do="Narrow the space, or try one of its combinations with sw2 train.",
        )
    if "last" not in run.journal():
        run.decide({"last": max(_LEAST_LAST, 1 - _used(asked, plan, done, run))})
    program = _last(registry, asked, best, run, done, context, reporter)
    searched = _searched(run, program, done)
    write_search_report(run.path, asked.order(), asked.strategy, done, best, program)
    shutil.rmtree(run.path / "shared" / "checkpoints", ignore_errors=True)
    for trial in {each.turn.trial for each in done} - {best.turn.trial}:
        shutil.rmtree(run.path / "trials" / f"{trial:03d}" / "checkpoints", ignore_errors=True)
    run.decide({"finished": program.id})
    return searched


def _informed(
    registry: Registry,
    asked: _Asked,
    plan: SharedWeights,
    setup: one.Setup,
    run: Run,
    context: Context,
    reporter: Reporter,
) -> SharedWeights:
    """The strategy with its candidates, which are found first where the journal has none."""
    if "together" not in run.journal():
        began = time.monotonic()
        order = asked.order()
        order = replace(order, budget=_part(asked, plan.together * _length(plan)), settings=(*_QUIET, *order.settings))
        reporter.headline("all of them together, with shared weights")
        shared, seen = sharable(registry, setup, plan.space), _seen(setup)
        family = learn_together(registry, order, plan.space, shared, seen, run.path / "shared", context, reporter)
        context = replace(context, start=setup.parent)
        judged: list[Outcome] = []
        for trial, values in enumerate(family.drawn(_DRAWN, asked.seed), start=1):
            scores = family.judged(values, setup.task, seen.split("validation"), context)
            judged.append(Outcome(turn=Turn(trial=trial, values=values), scores=scores, minutes=0.0))
        judged.sort(key=lambda each: each.rank, reverse=True)
        rows = [{"values": dict(each.turn.values), "scores": list(each.scores)} for each in judged]
        run.decide({"together": {"minutes": (time.monotonic() - began) / 60, "candidates": rows}})
    found = run.journal()["together"]["candidates"]
    (name, best, _), (_, worst, _) = found[0]["scores"][0], found[-1]["scores"][0]
    reporter.headline(
        f"with shared weights: {len(found)} different ones of {_DRAWN} draws, {name} {figure(worst)} to {figure(best)}"
    )
    return replace(plan, candidates=[each["values"] for each in found])


def _seen(setup: one.Setup) -> Data:
    """The examples without those for tests."""
    return replace(setup.data, splits={name: setup.data.split(name) for name in ("train", "validation")})


def _taken(
    registry: Registry,
    asked: _Asked,
    turn: Turn,
    plan: Strategy,
    setup: one.Setup,
    run: Run,
    context: Context,
    reporter: Reporter,
) -> Outcome:
    """Learn as far as the turn says, and judge on the validation split."""
    began = time.monotonic()
    order = asked.order()
    order = replace(
        order, budget=_part(asked, _length(plan)), settings=(*_QUIET, *order.settings, *settings_of(turn.values))
    )
    seen = _seen(setup)
    scores: list[tuple[str, float, str]] = []
    steps, why = 0, ""
    try:
        path = run.path / "trials" / f"{turn.trial:03d}"
        learned = one.fit(registry, order, seen, path, context, reporter, turn.share)
        steps = learned.steps
        judged = setup.task.judge(learned.program, seen.split("validation"), replace(context, start=setup.parent))
        scores = [(each.name, float(each.value), each.better) for each in judged]
        if not all(math.isfinite(value) for _, value, _ in scores):
            scores, why = [], "a score is not a number"
    except DiskFull:
        raise
    except (DataError, LearningError, ResourceError, UsageError) as error:
        why = error.message + ("" if error.got is None else f" Got: {error.got}")
    return Outcome(turn=turn, scores=scores, minutes=(time.monotonic() - began) / 60, steps=steps, why=why)


def _part(asked: _Asked, share: float) -> Budget:
    """A share of the whole budget."""
    if asked.steps is not None:
        return Budget(steps=max(1, int(share * asked.steps + 1e-6)))  # a half of 360 is 180, whatever was summed up
    if asked.epochs is not None:
        return Budget(epochs=share * asked.epochs)
    assert asked.minutes is not None
    return Budget(minutes=share * asked.minutes)


def _length(plan: Strategy) -> float:
    """Which share of the budget a trial of full length has."""
    return _TRIALS_SHARE / plan.lengths(plan.trials)


def _used(asked: _Asked, plan: Strategy, done: Sequence[Outcome], run: Run) -> float:
    """Which share of the budget the trials took: of minutes by the clock, of steps and epochs by their lengths."""
    if asked.minutes is not None:
        together = run.journal().get("together", {"minutes": 0.0})["minutes"]
        return float(together + sum(each.minutes for each in done)) / asked.minutes
    return _length(plan) * (plan.together + sum({each.turn.trial: each.turn.share for each in done}.values()))


def _row(outcome: Outcome) -> dict[str, Any]:
    return {**vars(outcome.turn), **{name: value for name, value in vars(outcome).items() if name != "turn"}}


def _done(journal: Mapping[str, Any]) -> list[Outcome]:
    """The turns that a journal holds, in order."""
    rows = [dict(row) for key, row in journal.items() if key.startswith("turn ")]
    return [
        Outcome(
            turn=Turn(**{name: row.pop(name) for name in ("trial", "values", "share")}),
            **{**row, "scores": [(name, value, better) for name, value, better in row["scores"]]},
        )
        for row in rows
    ]


# -- the last training -----------------------------------------------------------------------------------------------


def _last(
    registry: Registry,
    asked: _Asked,
    best: Outcome,
    run: Run,
    done: Sequence[Outcome],
    context: Context,
    reporter: Reporter,
) -> Program:
    """Learn once more with the best settings and all that is left, and put the program in its place."""
    budget = _part(asked, run.journal()["last"])
    length = ", ".join(f"{value:.3g} {name}" for name, value in vars(budget).items() if value is not None)
    reporter.headline(f"last training, {length}, as trial {best.turn.trial}: {_spelled(best.turn.values)}")
    path = run.path / "best"
    if (path / "config.toml").exists():
        program = one.resume(registry, path, context, reporter)
    else:
        order = asked.order()
        order = replace(order, budget=budget, settings=(*order.settings, *settings_of(best.turn.values)))
        program = one.train(registry, order, path, context, reporter)
    found = f"trial {best.turn.trial} of {_combinations(done)}, {asked.strategy}"
    card = replace(program.card, made={**program.card.made, "settings found by search": found})
    replace(program, card=card).save(run.program_path)
    return Program.load(run.program_path, registry)


def _searched(run: Run, program: Program, done: Sequence[Outcome]) -> Searched:
    best = best_of(done)
    assert best is not None, "a search that is finished has a best trial"
    return Searched(path=run.path, program=program, metric=best.scores[0][0], done=done, best=best)


# -- what is said ----------------------------------------------------------------------------------------------------


def _combinations(done: Sequence[Outcome]) -> int:
    return len({each.turn.trial for each in done})


def _spelled(values: Mapping[str, Any]) -> str:
    return ", ".join(settings_of(values))


def _opening(asked: _Asked, plan: Strategy) -> str:
    cells = plan.space.cells
    size = "numbers without steps among them" if cells is None else f"{cells:,} combinations"
    part = vars(_part(asked, _length(plan)))
    length = ", ".join(f"{value:.3g} {name}" for name, value in part.items() if value is not None)
    return (
        f"{asked.strategy}: {asked.trials} trials of at most {length} each, in a space of {len(plan.space.entries)} "
        f"settings, {size}; half of the whole is kept for the last training."
    )


def _announced(turn: Turn, asked: _Asked, done: Sequence[Outcome]) -> str:
    again = any(each.turn.trial == turn.trial for each in done)
    how = "goes on to" if again else "to"
    length = "" if turn.share == 1 and not again else f", {how} {turn.share:.0%} of its length"
    return f"trial {turn.trial} of {asked.trials}{length}: {_spelled(turn.values)}"


def _told(outcome: Outcome, best: Outcome | None) -> str:
    took = duration(outcome.minutes * 60)
    if not outcome.scores:
        return f"trial {outcome.turn.trial}: failed after {took}. {outcome.why}"
    name, value, _ = outcome.scores[0]
    told = f"trial {outcome.turn.trial}: {name} {figure(value)} on the validation split, {took}"
    if best is not None and best.turn.trial != outcome.turn.trial:
        told += f"; the best is trial {best.turn.trial} with {figure(best.scores[0][1])}"
    return told
