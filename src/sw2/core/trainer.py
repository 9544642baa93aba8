"""The Trainer: the one driver of every kind of learning.

    choose → freeze in the journal → start → measure a few steps → freeze how many → step, step, step → finish

It turns minutes into a number of steps by timing a few of them, and counts again when a twentieth of them is done, for
the first ones may take a third longer than those that follow, or less; and again whenever a third of the rest is done,
for other work comes and goes beside it. It writes everything that a repeat must copy into the run's journal before
acting on it, saves before it evaluates, saves when it is told to stop, halves the micro-batch when memory runs out, and
goes on from the last checkpoint as if nothing had happened. It knows no loss, no network and no domain.

What a checkpoint's moment is (by the clock) cannot change the result: a state at step n is the same however often it
was saved on the way, and evaluation leaves it untouched.
"""

from __future__ import annotations

import importlib.util
import math
import signal
import statistics
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from types import FrameType
from typing import Any, Final, Literal

import torch

from sw2.base import native
from sw2.base.config import check_ranges
from sw2.base.device import keep_freed_memory, peak_memory, reset_peak_memory, synchronize
from sw2.base.errors import Interrupted, LearningError, MissingExtra, ResourceError, RunError, UsageError
from sw2.core.distributed import world
from sw2.core.objective import Clock, Enough, Job, MemoryExhausted, Metrics, Objective, Snapshot
from sw2.core.program import Program
from sw2.core.run import Run, read_snapshot, write_snapshot

__all__ = ["Budget", "Learned", "Plan", "Reporter", "Silent", "Trainer", "TrainerConfig"]


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How long to learn: exactly one of minutes, steps and epochs."""

    minutes: float | None = None
    steps: int | None = None
    epochs: float | None = None

    def __post_init__(self) -> None:
        given = {name: value for name, value in vars(self).items() if value is not None}
        if len(given) != 1 or not 0 < next(iter(given.values())) < math.inf:
            raise UsageError(
                "The budget is not clear.",
                wanted="exactly one of minutes, steps and epochs, above 0",
                got=", ".join(f"{name}={value}" for name, value in given.items()) or "none",
            )


_USUAL_SECONDS: Final = 30.0
_SAVING_SHARE: Final = 0.03
_JUDGING_SHARE: Final = 0.05
_TIMING_SHARE: Final = 0.1
"""Of minutes: the most that looking at the validation split may take, and after which no further step is timed."""
_HEALTH: Final = 0.01
"""The most that health probes may take of the time."""
_LOOK_AT: Final = 0.05
_LEAST_LOOKED_AT: Final = 100
"""When the steps that minutes allow are counted once more, as a share of them, and the fewest for which they are."""
_LOOKS_AGAIN: Final = 1 / 3
_LAST_LOOK: Final = 0.1
"""They are counted again whenever this share of what was left is done, until less than so much of all is left."""


@dataclass(frozen=True, kw_only=True)
class TrainerConfig:
    """How the driver behaves.

    Args:
        evaluations: how often the validation split is looked at, spread evenly; the last is at the end; 0 never does.
            Within minutes it is fewer times where all of them would take over a twentieth of the minutes.
        patience: stop when so many evaluations in a row did not lower the validation loss; 0 never stops early.
        keep: which state becomes the program: the last, or the one with the lowest validation loss.
        checkpoint_seconds: the longest time between checkpoints; 0 for 30, or for more where saving takes so long that
            it would cost over 3 % of the time.
        health: whether training health is probed (at most 1 % of the time).
        tensorboard: whether the events are also written for TensorBoard; takes the extra `tensorboard`.
    """

    evaluations: int = 10
    patience: int = 0
    keep: Literal["best", "last"] = "last"
    checkpoint_seconds: float = 0.0
    health: Literal["on", "off"] = "on"
    tensorboard: Literal["on", "off"] = "off"

    def __post_init__(self) -> None:
        allowed = {
            "evaluations": (self.evaluations >= 0, "a whole number of at least 0"),
            "patience": (self.patience >= 0, "a whole number of at least 0"),
            "checkpoint_seconds": (self.checkpoint_seconds >= 0, "a number of at least 0"),
        }
        check_ranges("trainer", self, allowed)
        if self.tensorboard == "on" and importlib.util.find_spec("tensorboard") is None:
            raise MissingExtra(
                "Writing event files needs the package tensorboard.",
                where="trainer.tensorboard",
                wanted="the extra 'tensorboard'",
                got="not installed",
                do="pip install 'sw2[tensorboard]', or leave the setting out: `sw2 watch` needs no extra.",
            )

    def between_checkpoints(self, saving: float) -> float:
        """Seconds from one checkpoint to the next, where saving takes `saving` seconds."""
        return self.checkpoint_seconds or max(_USUAL_SECONDS, saving / _SAVING_SHARE)

    @property
    def needs_validation(self) -> bool:
        """Whether a setting has an effect only where there is something to validate on."""
        return self.patience > 0 or self.keep == "best"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a training will take, measured by a few of its own steps.

    Args:
        total_steps: how many steps.
        evaluations: how often the validation split is looked at.
        look_at: the step before which they are counted once more; 0 for never.
        seconds: what minutes leave for learning; 0 without minutes.
        counts: pairs (step, total): until before that step there were to be so many; in the order of the steps.
        minutes: all of learning: warm-up, steps, evaluations, checkpoints.
        peak_memory: of the process, in bytes.
        disk: of the run folder, in bytes.
        step_seconds: the median step.
        health_every: steps between health probes; 0 for none.
        facts: the objective's numbers.
        notes: what the objective says of how the examples are used; a run that begins tells of it at once.
    """

    total_steps: int
    evaluations: int
    minutes: float
    peak_memory: int
    disk: int
    step_seconds: float
    health_every: int
    look_at: int = 0
    seconds: float = 0.0
    counts: Sequence[Sequence[int]] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def total_at(self, step: int) -> int:
        """How many steps there were to be when `step` was taken: a repeat must schedule it in the same way."""
        return next((total for until, total in self.counts if step < until), self.total_steps)


@dataclass(frozen=True, kw_only=True)
class Learned:
    """The outcome of a fit: the program, its plan, and what was measured."""

    program: Program
    plan: Plan
    minutes: float
    peak_memory: int
    disk: int
    steps: int
    choices: Mapping[str, Any]
    reasons: Mapping[str, str]
    last: Metrics


class Reporter(ABC):
    """Where progress is shown."""

    @abstractmethod
    def note(self, text: str) -> None:
        """One line that stays."""

    def headline(self, text: str) -> None:
        """One line that stays where others need not: what is done now, what it brought."""
        self.note(text)

    @abstractmethod
    def progress(self, step: int, total: int, values: Mapping[str, float | str]) -> None:
        """The present state of the progress line."""


class Silent(Reporter):
    """Shows nothing."""

    def note(self, text: str) -> None:
        del text

    def progress(self, step: int, total: int, values: Mapping[str, float | str]) -> None:
        del step, total, values


class _Signals:
    """Turns SIGINT and SIGTERM into a flag that is looked at between steps; a second one acts at once."""

    def __init__(self) -> None:
        self.caught: str | None = None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.caught is not None:
            raise KeyboardInterrupt
        self.caught = signal.Signals(number).name

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Handle signals inside; only the main thread may, elsewhere this does nothing."""
        try:
            before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:
            before = {}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@dataclass
class _Measured:
    """Timings of a few steps, in seconds, and sizes in bytes."""

    step: float
    watched_extra: float
    evaluate: float
    checkpoint: float
    checkpoint_bytes: int
    peak: int


class Trainer:
    """Drives an objective from its start to a program.

    Args:
        config: see TrainerConfig.
        reporter: where progress is shown.
    """

    def __init__(self, config: TrainerConfig | None = None, reporter: Reporter | None = None) -> None:
        self.config = config or TrainerConfig()
        self.world = world()
        self.reporter = (reporter or Silent()) if self.world.leads else Silent()

    # -- planning ------------------------------------------------------------------------------------------------

    def plan(self, job: Job, objective: Objective[Any], budget: Budget) -> tuple[Plan, Mapping[str, str]]:
        """Measure what `fit` would take, without a run folder; (plan, reasons of the machine's choices)."""
        reset_peak_memory()
        began = time.monotonic()
        choices = objective.choose(job)
        job = replace(job, choices=choices.values)
        state = objective.start(job)
        measured = self._measure(job, objective, state, budget, began, None)
        return replace(measured, notes=list(objective.notes(state))), choices.reasons

    def _measure(
        self, job: Job, objective: Objective[Any], state: Any, budget: Budget, began: float, run: Run | None
    ) -> Plan:
        """Time a few steps at the end of an imaginary schedule, then put the state back as it was."""
        own = objective.own_length(state)
        if own is not None and budget.minutes is None:
            raise UsageError(
                "This way of learning has a length of its own.",
                wanted="neither --steps nor --epochs",
                got=", ".join(f"--{name} {value:g}" for name, value in vars(budget).items() if value is not None),
                do=f"Leave them out; it takes {own} {'step' if own == 1 else 'steps'}.",
            )
        kept = _copy(objective.snapshot(state))
        try:
            most = math.inf if budget.minutes is None else _TIMING_SHARE * budget.minutes * 60
            measured = self._time_steps(job, objective, state, own, run, most)
        except LearningError as error:
            error.where = "the trial steps before the first one"
            raise
        except Enough as reason:
            raise LearningError(
                "Learning would end within a few steps.",
                where="the trial steps before the first one",
                wanted="at least a few steps before anything speaks against going on",
                got=str(reason),
                do="Lower the learning_rate, or set the bound that is named here higher.",
            ) from reason
        objective.restore(state, kept)
        spent = time.monotonic() - began
        evaluations = self._evaluations(budget, measured)
        total = own or self._steps_for(objective, state, budget, measured, spent, evaluations)
        judged = min(evaluations, total)
        every = self._health_cadence(measured, total)
        watched = total // every * measured.watched_extra if every else 0.0
        learning = total * measured.step + judged * measured.evaluate + watched
        saves = judged + learning / self.config.between_checkpoints(measured.checkpoint)
        plan = Plan(
            total_steps=total,
            evaluations=evaluations,
            minutes=(spent + learning + saves * measured.checkpoint) / 60,
            peak_memory=measured.peak,
            disk=3 * measured.checkpoint_bytes,
            step_seconds=measured.step,
            health_every=every,
            look_at=self._look_at(objective, state, budget, total),
            seconds=0.0 if budget.minutes is None else budget.minutes * 60 - spent,
            facts=objective.facts(state),
        )
        agreed: Plan = self.world.agree(plan)  # clocks differ between processes
        return agreed

    def _time_steps(
        self, job: Job, objective: Objective[Any], state: Any, own: int | None, run: Run | None, seconds: float
    ) -> _Measured:
        """Some steps, fewer where they take over `seconds`; then only the first one is sure to be taken."""
        late = 1_000_000_000  # a step far from the start: warm-up and freezing are over
        # An objective of its own length has no such steps: it takes its first ones, and none twice.
        most = 50 if own is None else min(50, own - 1)
        times: list[float] = []
        first = began = time.monotonic()
        compiled = native.spent()  # in the first step on a machine, and never again

        def clock() -> Clock:
            return Clock(late + len(times), late + 100) if own is None else Clock(len(times), own)

        def out_of_time() -> bool:
            took = time.monotonic() - first - (native.spent() - compiled)
            return bool(self.world.agree(len(times) > 0 and took > seconds))

        def more() -> bool:
            if out_of_time():
                return False
            spent = time.monotonic() - began
            few = len(times) < 5 and spent < 60
            return bool(self.world.agree(len(times) < most and (len(times) < 3 or few or spent < 1.5)))

        while more():
            start = time.perf_counter() - native.spent()
            objective.step(state, clock())
            synchronize(job.device)
            times.append(time.perf_counter() - native.spent() - start)
            if len(times) == 2:
                began = time.monotonic()
        steps = times[2:] or times
        start = time.perf_counter()
        if self.config.health == "on" and not out_of_time():
            objective.watched_step(state, clock())
        elif not steps:
            objective.step(state, clock())
        last = time.perf_counter() - start
        step = statistics.median(steps or [last])
        watched = max(0.0, last - step)
        start = time.perf_counter()
        results = objective.evaluate(state)
        assert not results or "loss" in results, "evaluate answers with 'loss' among its metrics, or with nothing"
        validated = bool(results) and self.config.evaluations > 0
        evaluated = time.perf_counter() - start
        if self.config.needs_validation and not validated:
            raise UsageError(
                "Nothing is validated on, so trainer.patience and trainer.keep have no effect.",
                wanted="a validation split and trainer.evaluations above 0, or neither of these settings",
                got=f"patience {self.config.patience}, keep {self.config.keep}",
            )
        start = time.perf_counter()
        snapshot = objective.snapshot(state)
        if run is not None and self.world.leads:
            trial = run.path / "checkpoints" / "trial.safetensors"
            write_snapshot(trial, snapshot)
            trial.unlink()
        written = time.perf_counter() - start
        size = sum(tensor.numel() * tensor.element_size() for tensor in snapshot.tensors.values())
        return _Measured(step, watched, evaluated, written, size, peak_memory())

    def _evaluations(self, budget: Budget, measured: _Measured) -> int:
        """As many as are asked for; fewer, but at least one, where they would take more than their share of minutes."""
        asked, each = self.config.evaluations, measured.evaluate + measured.checkpoint
        if budget.minutes is None or asked * each <= _JUDGING_SHARE * budget.minutes * 60:
            return asked
        return min(asked, max(1, int(_JUDGING_SHARE * budget.minutes * 60 / each)))

    def _steps_for(
        self,
        objective: Objective[Any],
        state: Any,
        budget: Budget,
        measured: _Measured,
        spent: float,
        evaluations: int,
    ) -> int:
        if budget.steps is not None:
            return budget.steps
        if budget.epochs is not None:
            per_epoch = objective.steps_per_epoch(state)
            if per_epoch is None:
                raise UsageError("This way of learning has no epochs.", wanted="--minutes or --steps", got="--epochs")
            return max(1, round(budget.epochs * per_epoch))
        assert budget.minutes is not None
        # A save at each evaluation and those between, and health.
        left = budget.minutes * 60 - spent - evaluations * (measured.evaluate + measured.checkpoint)
        rate = (
            measured.step
            * (1 + _HEALTH)
            * (1 + measured.checkpoint / self.config.between_checkpoints(measured.checkpoint))
        )
        return max(1, int(left / rate))

    def _look_at(self, objective: Objective[Any], state: Any, budget: Budget, total: int) -> int:
        if budget.minutes is None or objective.own_length(state) is not None or total < _LEAST_LOOKED_AT:
            return 0
        found = math.ceil(total * (objective.alike_from(state) + _LOOK_AT))
        return found if found < total / 2 else 0

    def _look_again(self, plan: Plan, seconds: Sequence[float], past: float, run: Run) -> Plan:
        """The plan with as many steps as the same minutes allow, now that steps take these seconds.

        The first time those are of a few steps, and what is left is what was planned, so that slow first steps do not
        count; later they are the mean of all that was done since, and what is left is so by the clock, where `past`
        is what learning has taken.
        """
        at, pace = plan.look_at, plan.step_seconds
        if plan.counts:
            pace = seconds[0] if seconds else pace
            left = round((plan.seconds - past) / pace)
        else:
            pace = statistics.median(seconds) if len(seconds) >= 5 else pace
            left = round((plan.total_steps - at) * plan.step_seconds / pace)
        total = at + max(1, left)
        counted = replace(
            plan,
            total_steps=total,
            look_at=at + math.ceil((total - at) * _LOOKS_AGAIN) if total - at > _LAST_LOOK * total else 0,
            counts=[*plan.counts, (at, plan.total_steps)],
            step_seconds=pace,
        )
        agreed: Plan = self.world.agree(counted)
        self._decide(run, {"plan": vars(agreed) | {"facts": dict(agreed.facts)}})
        if abs(agreed.total_steps - plan.total_steps) > 0.05 * plan.total_steps:
            self.reporter.note(
                f"A step takes {agreed.step_seconds:.2g} s, and before took {plan.step_seconds:.2g}: the time allows "
                f"{agreed.total_steps} of them, not {plan.total_steps}."
            )
        return agreed

    def _marks(self, plan: Plan) -> set[int]:
        """The steps after which the validation split is looked at, spread anew over what is left at each count."""
        marks, begin = set[int](), 0
        for until, total in [*plan.counts, (plan.total_steps, plan.total_steps)]:
            left = plan.evaluations - len(marks)
            even = (begin + math.ceil((total - begin) * (i + 1) / left) for i in range(left))
            marks |= {mark for mark in even if mark <= until}
            begin = until
        return marks

    def _health_cadence(self, measured: _Measured, total: int) -> int:
        if self.config.health == "off":
            return 0
        # The probe's extra time spread over the steps between two probes stays under that share of theirs.
        cheap_enough = math.ceil(measured.watched_extra / (_HEALTH * measured.step))
        return max(10, cheap_enough, math.ceil(total / 100))

    # -- fitting -------------------------------------------------------------------------------------------------

    def fit(self, job: Job, objective: Objective[Any], budget: Budget, run: Run, share: float = 1.0) -> Learned:
        """Learn within `budget`, in the folder `run`; goes on where the run stands.

        Args:
            share: of the steps, in (0, 1]. Below 1 it pauses there, saved, and gives the program as it stands; a later
                call goes on as if there had been no pause.

        Raises:
            Interrupted: after SIGINT or SIGTERM, with the state saved.
            LearningError: when the loss is not finite.
            ResourceError: when disk or memory ran out.
        """
        keep_freed_memory()
        reset_peak_memory()
        began = time.monotonic()
        journal = run.journal()
        fresh = "plan" not in journal
        if fresh:
            choices = objective.choose(job)
            frozen = {
                "choices": dict(choices.values),
                "reasons": dict(choices.reasons),
                "threads": torch.get_num_threads(),
                "seed": job.seed,
                "fingerprint": job.data.fingerprint,
                "torch": torch.__version__,
            }
            frozen = self.world.agree(frozen)
            self._decide(run, frozen)
            journal |= frozen
        elif journal["fingerprint"] != job.data.fingerprint:
            raise RunError(
                "The data is not what this run learns from.",
                where=run.path,
                wanted=f"data with fingerprint {journal['fingerprint'][:12]}",
                got=job.data.fingerprint[:12],
                do="Bring back the data as it was, or start a new run.",
            )
        torch.set_num_threads(journal["threads"])
        job = replace(job, choices=journal["choices"])
        state = objective.start(job)
        for note in objective.notes(state):
            self.reporter.note(note)
        while fresh:
            try:
                plan = self._measure(job, objective, state, budget, began, run)
                break
            except MemoryExhausted as error:
                job, state = self._shrink(job, objective, run, error)
        if fresh:
            self._decide(run, {"plan": vars(plan) | {"facts": dict(plan.facts)}})
        else:
            plan = self._planned(journal["plan"], run)
        return self._loop(job, objective, state, plan, run, began, journal["reasons"], share)

    def _planned(self, recorded: Mapping[str, Any], run: Run) -> Plan:
        if unknown := recorded.keys() - {each.name for each in fields(Plan)}:
            raise RunError(
                "This run was begun by another version of sw2, which planned otherwise.",
                where=run.path,
                wanted="a plan without " + " and ".join(sorted(unknown)),
                got="one that has it",
                do="Go on with that version, or begin again in another folder.",
            )
        return Plan(**{"evaluations": self.config.evaluations, **recorded})  # plans did not say it before

    def _decide(self, run: Run, decisions: Mapping[str, Any]) -> None:
        if self.world.leads:
            run.decide(decisions)
        self.world.barrier()

    def _shrink(self, job: Job, objective: Objective[Any], run: Run, error: Exception) -> tuple[Job, Any]:
        """A state that needs less memory, decided in the journal first."""
        choices = objective.smaller(job.choices)
        if choices is None:
            raise ResourceError(
                "Memory ran out, and the micro-batch cannot be made smaller.",
                wanted="enough memory for one example",
                got=str(error),
                do="Choose a smaller model or --preset.",
            ) from error
        self._decide(run, {"choices": dict(choices.values)})
        for reason in choices.reasons.values():
            self.reporter.note(f"{reason}: going on with {dict(choices.values)}")
        job = replace(job, choices=choices.values)
        return job, objective.start(job)

    def _loop(
        self,
        job: Job,
        objective: Objective[Any],
        state: Any,
        plan: Plan,
        run: Run,
        began: float,
        reasons: Mapping[str, str],
        share: float,
    ) -> Learned:
        total = plan.total_steps
        step, progress = 0, _Progress()
        found = run.latest_checkpoint()
        if self.config.tensorboard == "on" and self.world.leads:
            run.write_event_files(after=0 if found is None else found[0])
        if found is not None:
            step, snapshot = found
            progress = _Progress(**snapshot.values["driver"])
            objective.restore(state, snapshot)
            run.event("resume", step)
            self.reporter.note(f"Going on from step {step} of {total}.")
        marks, paces = self._marks(plan), list[float]()
        record_every = max(1, total // 1000)
        signals = _Signals()
        saved = shown = time.monotonic()
        saving = 0.0
        first_step = counted_at = step
        loop_began = counted = time.monotonic()
        unit = plan.facts.get("unit", "steps")
        per_step = float(plan.facts.get(f"{unit}_per_step", 1))

        def save() -> None:
            nonlocal saved, saving
            began_saving = time.monotonic()
            snapshot = objective.snapshot(state)
            learning = progress.seconds + time.monotonic() - loop_began
            values = {**snapshot.values, "driver": vars(progress) | {"seconds": learning}}
            if self.world.leads:
                run.save_checkpoint(step, Snapshot(tensors=snapshot.tensors, values=values))
            self.world.barrier()
            saved = time.monotonic()
            saving = saved - began_saving

        with signals.watching():
            if (step in marks or (progress.stopped and marks)) and progress.judged < step:
                self._judge(run, objective, state, progress, step)  # the run ended between saving and judging
            while step < math.ceil(share * total) and not progress.stopped:
                if step == plan.look_at > 0:
                    past = progress.seconds + time.monotonic() - loop_began
                    if plan.counts:
                        paces = [(time.monotonic() - counted) / (step - counted_at)] if step > counted_at + 20 else []
                    plan = self._look_again(plan, paces, past, run)
                    total = plan.total_steps
                    marks = self._marks(plan)
                    counted, counted_at = time.monotonic(), step
                clock = Clock(step, plan.total_at(step))
                watched = plan.health_every and step % plan.health_every == 0
                began_step = time.perf_counter()
                try:
                    if watched:
                        metrics, health = objective.watched_step(state, clock)
                    else:
                        metrics, health = objective.step(state, clock), None
                except MemoryExhausted as error:
                    kept = _copy(objective.snapshot(state))
                    job, state = self._shrink(job, objective, run, error)
                    objective.restore(state, kept)
                    save()  # so that a resume begins where the decision was taken
                    continue
                except Enough as reason:
                    progress.stopped = True
                    if self.world.leads:
                        run.event("note", step, text=str(reason))
                    self.reporter.note(f"Stopped at step {step} of {total}: {reason}")
                    if marks and progress.judged < step:
                        save()
                        self._judge(run, objective, state, progress, step)
                    continue
                except LearningError as error:
                    run.event("failed", step, text=str(error))
                    raise
                if (
                    not plan.counts
                    and plan.look_at > step >= plan.look_at - max(5, total * _LOOK_AT / 2)
                    and not watched
                ):
                    synchronize(job.device)
                    paces.append(time.perf_counter() - began_step)
                step += 1
                now = time.monotonic()
                if self.world.leads and (step % record_every == 0 or step == total):
                    run.event("step", step, **metrics, peak_memory=peak_memory())
                if health is not None and self.world.leads:
                    run.event("health", step, **health)
                    for finding in health["findings"]:
                        if finding.split(":")[0] not in progress.told:
                            progress.told.append(finding.split(":")[0])
                            self.reporter.note(finding)
                if self.world.any(signals.caught is not None):
                    save()
                    run.event("note", step, text=f"stopped by {signals.caught or 'a signal'}, and saved")
                    raise _interrupted(run, signals.caught or "a signal", step, total)
                if step in marks:
                    save()
                    self._judge(run, objective, state, progress, step)
                elif self.world.any(now - saved > self.config.between_checkpoints(saving)):
                    save()
                if now - shown > 0.2 or step == total:
                    shown = now
                    pace = (now - loop_began) / (step - first_step)
                    shown_values: dict[str, float | str] = {
                        name: value for name, value in metrics.items() if name.rpartition(".")[2] == "loss"
                    }
                    shown_values |= {f"validation {name}": value for name, value in progress.latest.items()}
                    shown_values |= {
                        f"{unit}/s": per_step / pace,
                        "memory": peak_memory(),
                        "eta": pace * (total - step),
                    }
                    self.reporter.progress(step, total, shown_values)
            save()
        if self.config.keep == "best" and progress.best_step and run.best_path.exists():
            objective.restore(state, read_snapshot(run.best_path))
            run.event("note", step, text=f"kept the state of step {progress.best_step}")
        disk = sum(file.stat().st_size for file in run.path.rglob("*") if file.is_file())
        return Learned(
            program=objective.finish(state),
            plan=plan,
            minutes=(time.monotonic() - began) / 60,
            peak_memory=peak_memory(),
            disk=disk,
            steps=step,
            choices=job.choices,
            reasons=reasons,
            last=progress.latest,
        )

    def _judge(self, run: Run, objective: Objective[Any], state: Any, progress: _Progress, step: int) -> None:
        """Evaluate, and take the result into account: the best state, and patience."""
        progress.judged = step
        results = self.world.agree(dict(objective.evaluate(state)))
        if not results:
            return
        progress.latest = results
        if self.world.leads:
            run.event("evaluate", step, **results)
        if results["loss"] < progress.best_loss:
            progress.best_loss, progress.best_step, progress.waited = results["loss"], step, 0
            if self.config.keep == "best":
                snapshot = objective.snapshot(state)
                if self.world.leads:
                    write_snapshot(run.best_path, snapshot)
        else:
            progress.waited += 1
        if self.config.patience and progress.waited >= self.config.patience:
            progress.stopped = True
            self.reporter.note(f"Stopped early: no better validation loss in {progress.waited} evaluations.")


@dataclass
class _Progress:
    """What the driver itself must remember across a resume."""

    best_loss: float = 1e300  # not inf: JSON has none
    best_step: int = 0
    waited: int = 0
    judged: int = 0
    stopped: bool = False
    latest: dict[str, float] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)
    seconds: float = 0.0


def _copy(snapshot: Snapshot) -> Snapshot:
    return Snapshot(
        tensors={name: tensor.detach().clone() for name, tensor in snapshot.tensors.items()}, values=snapshot.values
    )


def _interrupted(run: Run, cause: str, step: int, total: int) -> Interrupted:
    return Interrupted(
        f"Stopped by {cause} at step {step} of {total}; everything learned so far is saved.",
        where=run.path,
        do=run.resume_command,
    )
