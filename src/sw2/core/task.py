"""A Task: what is asked.

It reads and checks examples, fits the preprocessing on the training split only, names baselines and judges a program
on held-out examples. It knows no loss and no loop: those are the Objective's.

    read(source) -> Data    prepare(train) -> Prep    baselines(data) -> scores    judge(program, held_out) -> scores

A Prep is the fitted preprocessing and travels inside the Program. It turns raw examples into tensors and outputs into
answers, and saves itself as JSON, arrays and asset files; no pickle.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from sw2.base.errors import UsageError
from sw2.core.data import Data, Example, Split
from sw2.core.kinds import Kind

if TYPE_CHECKING:
    import numpy as np

    from sw2.core.program import Program
    from sw2.parts.metrics.intervals import Interval

__all__ = ["CheckReport", "Context", "Judge", "Prep", "PrepState", "Score", "Shown", "Task"]


@dataclass(frozen=True, kw_only=True)
class PrepState:
    """A Prep at rest: plain values, arrays (into the program's weights file) and asset files by name."""

    config: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    assets: Mapping[str, bytes] = field(default_factory=dict)


class Prep(ABC):
    """Fitted preprocessing; `restore(state())` equals the original."""

    @abstractmethod
    def state(self) -> PrepState:
        """What is needed to restore it."""

    @classmethod
    @abstractmethod
    def restore(cls, state: PrepState) -> Prep:
        """The Prep that `state` was taken from."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """One number about a program or a baseline on held-out examples.

    Args:
        name: the metric, e.g. "accuracy".
        value: its value.
        better: "higher" or "lower".
        examples: how many examples it was computed over.
        interval: a 95 % interval, where one was computed.
        of: whom it judges: "program" or the name of a baseline.
        details: further values for reports (per class, confusion matrix), JSON-able. Under "cases" the examples' own
            scores, in order, where `value` is their mean: two programs are then compared pairwise. Where an example was
            judged several times, "repeats" holds the number of each case's example.
        answers: what was asked and what was said in each of the cases, for `sw2 compare`; kept on no card.
    """

    name: str
    value: float
    better: str
    examples: int
    interval: tuple[float, float] | None = None
    of: str = "program"
    details: Mapping[str, Any] = field(default_factory=dict)
    answers: Sequence[tuple[str, str]] = ()

    @classmethod
    def estimated(
        cls, name: str, found: Interval, *, better: str, examples: int, of: str = "program",
        details: Mapping[str, Any] | None = None, answers: Sequence[tuple[str, str]] = (),
    ) -> Score:  # fmt: skip
        """The score of what was estimated with an interval of 95 %, as Wilson's or by bootstrap.

        Args:
            name, better, examples, of, details, answers: as those of a score.
            found: the value and its interval.

        >>> from sw2.parts.metrics import wilson
        >>> score = Score.estimated("accuracy", wilson(4, 4), better="higher", examples=4)
        >>> score.value, round(score.interval[0], 2), score.interval[1]
        (1.0, 0.51, 1.0)
        """
        assert found.level == 0.95, "a score's interval is one of 95 %"
        return cls(
            name=name, value=found.value, better=better, examples=examples, interval=(found.low, found.high), of=of,
            details=details or {}, answers=answers,
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """The same as a JSON object, without the answers."""
        interval = list(self.interval) if self.interval else None
        kept = {name: value for name, value in vars(self).items() if name != "answers"}
        return {**kept, "interval": interval, "details": dict(self.details)}

    def beats(self, other: Score) -> bool:
        """Whether this value is strictly better than `other`'s."""
        return self.value > other.value if self.better == "higher" else self.value < other.value


@dataclass(frozen=True)
class Shown:
    """A piece of an example as a network gets it: its text, and whether that is what is learned."""

    text: str
    learned: bool


@dataclass(frozen=True, kw_only=True)
class CheckReport:
    """What a look at the data found: facts to show, and notes that deserve attention."""

    facts: Mapping[str, Any]
    notes: Sequence[str] = ()


def _refuse(question: str) -> bool:
    del question
    return False


@dataclass(frozen=True, kw_only=True)
class Context:
    """What judging and reading may use besides their arguments.

    Args:
        seed: for splits and bootstraps.
        confirm: asked before something is installed; returns False to refuse. The default refuses everything.
        say: called with one line of progress text.
        start: the program that the judged one was learned from, where there is one.
    """

    seed: int = 0
    confirm: Callable[[str], bool] = _refuse
    say: Callable[[str], None] = field(default=lambda line: None)
    start: Program | None = None


class Task(ABC):
    """The base class of everything that can be asked; one domain owns a task.

    Class attributes:
        name: Hugging Face's name for the task where one exists.
        inputs, outputs: the kinds of what a program of this task takes and answers, by name. An instance may have its
            own, where programs of the task differ in that (see `suited`).
        metric: the name of the Score that decides.
        runtime: the registered name of the Runtime that its programs have.
        Options: the config of `read` (column names, split shares …), set as `--set data.key=value`.
    """

    name: ClassVar[str]
    inputs: Mapping[str, Kind]
    outputs: Mapping[str, Kind]
    metric: ClassVar[str]
    runtime: ClassVar[str]
    Options: ClassVar[type[Any]]

    def suited(self, prep: Prep) -> Task:
        """This task as a program with that preprocessing answers it; unchanged unless a task says so."""
        del prep
        return self

    def tests(self, options: Any, context: Context) -> Data:
        """The tests that the program itself brings, as "test".

        Raises:
            UsageError: it brings none.
        """
        del options, context
        raise UsageError("This program brings no tests of its own.", wanted="data to judge it on", got="none")

    @abstractmethod
    def read(self, source: str, options: Any, context: Context) -> Data:
        """The examples at `source`: a path, or the catalogue's name of a data set.

        Raises:
            DataError: when they cannot be read or learned from.
        """

    def question(self, example: Example) -> Any:
        """The raw input in `example` that a program would be asked."""
        return example[next(iter(self.inputs))]

    def metadata(self, example: Example) -> Mapping[str, str | int | float]:
        """What `example` says besides what is asked, by name, for slices of `sw2 eval`; its own plain values here."""
        return {name: value for name, value in example.items() if isinstance(value, str | int | float)}

    @abstractmethod
    def check(self, data: Data) -> CheckReport:
        """Look the data over before learning; facts and notes are printed."""

    def prepare(self, train: Split, config: Any) -> Prep:
        """Fit the preprocessing on the training split.

        Raises:
            UsageError: nothing learns this task.
        """
        del train, config
        raise UsageError("Nothing learns this task.", wanted="a task with a recipe", got=self.name)

    def adopt(self, prep: Prep, train: Split) -> Prep:
        """The preprocessing of the program to start from, as this task needs it; unchanged unless a task says so."""
        del train
        return prep

    def show(self, example: Example, prep: Prep) -> Sequence[Sequence[Shown]]:
        """What becomes of `example` before it is learned from: for each row of a batch that it fills, its pieces.

        Raises:
            UsageError: this task cannot show that.
        """
        del example, prep
        raise UsageError(
            "What is learned from these examples cannot be shown as text.",
            wanted="a task whose examples are text",
            got=self.name,
        )

    @abstractmethod
    def baselines(self, data: Data, prep: Prep, context: Context) -> Sequence[Score]:
        """Scores of named baselines on the test split, chance level among them; `prep` is the judged program's."""

    @abstractmethod
    def judge(self, program: Program, held_out: Split, context: Context) -> Sequence[Score]:
        """Scores of `program` on examples that it has not seen; the first is `metric`."""


class Judge(ABC):
    """Held-out examples that bring their own judge, for programs of any task that can do what it needs.

    A Task judges its own programs on data that its user chooses. A Judge has its data already, and asks a program for a
    capability.

    Class attributes:
        Options: the config of `read`, set as `--set data.key=value`.
    """

    Options: ClassVar[type[Any]]

    @abstractmethod
    def read(self, options: Any, context: Context) -> Data:
        """The examples; the same options and seed give the same."""

    @abstractmethod
    def judge(self, program: Program, held_out: Split, context: Context) -> Sequence[Score]:
        """Scores of `program`, the first of which decides, then those of named baselines, chance among them.

        Raises:
            ProgramError: when the program cannot do what is asked.
        """
