"""An Objective: how a program is learned, in bounded deterministic steps.

Supervised gradient descent, players in turn, self-play, a compiled kernel, a closed form, or a chain of these: all of
them are started, stepped, snapshotted and finished by the one Trainer, which is why every kind of learning has budget,
exact resume, events and planning.

The rules that make resume exact:
- `step(state, clock)` is a function of the state and the clock (which step of how many) alone. Randomness comes from
  `base.seed` by step number. It does one bounded unit of work.
- `snapshot` holds all of the state that is not derived from the job; `restore` puts it back bit for bit.
- What a machine decides (precision, micro-batch, threads) is decided once by `choose`, kept in the run's journal, and
  handed to `start` inside the job.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from sw2.core.data import Data
    from sw2.core.model import Model
    from sw2.core.program import Program
    from sw2.core.task import Prep, Task

__all__ = ["Choices", "Clock", "Enough", "Job", "MemoryExhausted", "Metrics", "Objective", "Snapshot"]

Metrics = Mapping[str, float]
State = TypeVar("State")


@dataclass(frozen=True)
class Clock:
    """Which step of how many: `step` counts from 0 to `total - 1`."""

    step: int
    total: int


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What this machine decided, frozen in the journal: plain values by name, with a reason for each."""

    values: Mapping[str, Any] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything that an Objective may know.

    Args:
        task: what is asked.
        data: the examples.
        prep: the fitted preprocessing.
        model_name: the catalogue's name of the network.
        model_class: its class.
        model_config: its Config.
        parents: programs to start from (`--from`), by role.
        seed: of every random draw.
        device: where to compute.
        choices: what was frozen for this run.
    """

    task: Task
    data: Data
    prep: Prep
    model_name: str
    model_class: type[Model]
    model_config: Any
    seed: int
    device: torch.device
    parents: Mapping[str, Program] = field(default_factory=dict)
    choices: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A state at rest: tensors by name and plain values."""

    tensors: Mapping[str, Tensor]
    values: Mapping[str, Any] = field(default_factory=dict)


class MemoryExhausted(Exception):
    """Raised by `step` when memory ran out; the Trainer then asks for `smaller` choices and takes the step again."""


class Enough(Exception):
    """Raised by `step` when learning should end here, with a sentence for people that says why.

    The step has changed no weights; the Trainer keeps the state as it is, and makes the program of it. In several
    processes all of them raise it at the same step.
    """


class Objective(ABC, Generic[State]):
    """The base class of every way to learn."""

    makes: str
    """The task that its Program answers."""

    @abstractmethod
    def choose(self, job: Job) -> Choices:
        """What this machine decides for a fresh run; called once, before `start`."""

    @abstractmethod
    def start(self, job: Job) -> State:
        """The state before the first step, determined by the job."""

    @abstractmethod
    def step(self, state: State, clock: Clock) -> Metrics:
        """One bounded unit of work.

        Raises:
            LearningError: when the loss is not finite; the step has changed no weights.
            Enough: when the state should be kept as it is; the step has changed no weights.
            MemoryExhausted: when memory ran out; the same step may be taken again, from this state or its snapshot.
        """

    @abstractmethod
    def snapshot(self, state: State) -> Snapshot:
        """All of `state` that the job does not determine; may share memory with it."""

    @abstractmethod
    def restore(self, state: State, snapshot: Snapshot) -> None:
        """Put `snapshot` back into a freshly started `state`."""

    @abstractmethod
    def finish(self, state: State) -> Program:
        """The program as it stands."""

    def steps_per_epoch(self, state: State) -> float | None:
        """How many steps one pass over the examples takes; None when there is no such thing."""
        del state
        return None

    def own_length(self, state: State) -> int | None:
        """How many steps this kind of learning takes by itself (1 for a closed form); None follows the budget.

        A budget in minutes has then no say, and one in steps or epochs is refused.
        """
        del state
        return None

    def alike_from(self, state: State) -> float:
        """From which share of the steps on one takes as long as the next; the driver looks at their pace then."""
        del state
        return 0.0

    def evaluate(self, state: State) -> Metrics:
        """Metrics on the validation split, "loss" among them; leaves the state as it is.

        Empty when there is nothing to validate on.
        """
        del state
        return {}

    def watched_step(self, state: State, clock: Clock) -> tuple[Metrics, Mapping[str, Any] | None]:
        """The same as `step`, with training health beside it: {"layers": rows, "findings": sentences}, or None."""
        return self.step(state, clock), None

    def notes(self, state: State) -> Sequence[str]:
        """What a user should know before the first step, one sentence each."""
        del state
        return ()

    def facts(self, state: State) -> Mapping[str, Any]:
        """Numbers for plans and cards: parameters, examples or tokens per step, FLOPs per step."""
        del state
        return {}

    def smaller(self, choices: Mapping[str, Any]) -> Choices | None:
        """Choices that need less memory and learn the same, or None when there are none."""
        del choices
        return None
