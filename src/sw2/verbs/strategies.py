"""Strategies of `sw2 search`: which combination is tried next, and for how long.

    random       trials drawn evenly, each for the same length
    halving      many trials for a ninth of the length; the best third of them goes on to a third, the best third of
                 those to the end (successive halving: Jamieson & Talwalkar 2016, arXiv:1502.07943)
    evolution    a population of the latest trials; the best of a few of them is changed in one setting, and the oldest
                 leaves (regularised evolution: Real et al. 2019, arXiv:1802.01548)
    tpe          Optuna's tree-structured Parzen estimator, after a few random trials (Bergstra et al. 2011)
    shared       the networks are learned together first, with shared weights, as long as four trials; those that are
                 best with them are the trials (`verbs.sharing`; ENAS: Pham et al. 2018, arXiv:1802.03268)

A strategy is a function from what has been measured so far to the next turn. It keeps no state and no generator: every
draw is made from the seed and the number of the trial. So a search that was killed goes on from its records exactly
where it was, whatever the strategy.

Real et al. have populations of a hundred, for tens of thousands of networks; here there are tens, so a third of the
trials is the population and a third of that the sample. That choice is ours and was not measured.

What it does not do: several trials at once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from sw2.base.names import missing_extra, pick
from sw2.base.seed import derive, numpy_generator
from sw2.core.space import Choice, Space

__all__ = ["STRATEGIES", "Outcome", "Strategy", "Turn", "best_of", "strategy_of"]

_RUNGS: Final = 3
_KEPT: Final = 3
"""Of so many trials one goes on to the next rung, which is so many times as long."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """What to do next: the trial numbered `trial` (from 1), with these settings, up to a share of a trial's length."""

    trial: int
    values: Mapping[str, Any]
    share: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A turn that was taken.

    Args:
        turn: which.
        scores: on the validation split, the first decides and the others break ties: (name, value, better); empty where
            learning failed.
        minutes: that the turn took, reading of the state and judging included.
        steps: of the run so far.
        why: what failed, where something did.
    """

    turn: Turn
    scores: Sequence[tuple[str, float, str]]
    minutes: float
    steps: int = 0
    why: str = ""

    @property
    def rank(self) -> tuple[float, ...]:
        """Larger is better; a trial that failed is worse than any other."""
        signed = (value if better == "higher" else -value for _, value, better in self.scores)
        return (1.0, *signed) if self.scores else (0.0,)


def best_of(done: Sequence[Outcome]) -> Outcome | None:
    """The best of those that learned longest; None where nothing was learned."""
    learned = [each for each in done if each.scores]
    return max(learned, key=lambda each: (each.turn.share, each.rank, -each.turn.trial), default=None)


@dataclass(frozen=True)
class Strategy(ABC):
    """How a space is searched.

    Args:
        space: what there is.
        trials: how many combinations are tried at most.
        seed: of every draw.
    """

    space: Space
    trials: int
    seed: int
    together: ClassVar[float] = 0.0
    """For how many lengths of a trial its networks are learned together before the first one; 0 for not at all."""
    most: ClassVar[int] = 27
    """How many trials there are where nobody says it."""

    @abstractmethod
    def next(self, done: Sequence[Outcome]) -> Turn | None:
        """The turn after those that were taken, in their order; None at the end."""

    @classmethod
    @abstractmethod
    def lengths(cls, trials: int) -> float:
        """How many trials of full length so many trials cost."""

    @classmethod
    @abstractmethod
    def shortest(cls, trials: int) -> float:
        """Which share of the full length the shortest turn has."""

    def _drawn(self, trial: int, done: Sequence[Outcome]) -> Turn | None:
        """A trial of a combination that was not tried; None when all were."""
        values = self.space.fresh(numpy_generator(self.seed, "trial", trial), _tried(done))
        return None if values is None else Turn(trial=trial, values=values)


def _tried(done: Sequence[Outcome]) -> list[Mapping[str, Any]]:
    return [each.turn.values for each in done]


class _Whole(Strategy):
    """One whose trials are all of full length."""

    @classmethod
    def lengths(cls, trials: int) -> float:
        return float(trials)

    @classmethod
    def shortest(cls, trials: int) -> float:
        del trials
        return 1.0


class Random(_Whole):
    """Trials drawn evenly."""

    def next(self, done: Sequence[Outcome]) -> Turn | None:
        return self._drawn(len(done) + 1, done) if len(done) < self.trials else None


class Halving(Strategy):
    """Many short trials, of which the best go on."""

    def next(self, done: Sequence[Outcome]) -> Turn | None:
        shares = _shares(self.trials)
        for rung, (share, most) in enumerate(zip(shares, _counts(self.trials), strict=True)):
            here = [each for each in done if each.turn.share == share]
            if rung == 0:
                drawn = self._drawn(len(here) + 1, here) if len(here) < most else None
                if drawn is not None:
                    return Turn(trial=drawn.trial, values=drawn.values, share=share)
                continue
            below = [each for each in done if each.turn.share == shares[rung - 1] and each.scores]
            below = sorted(below, key=lambda each: (each.rank, -each.turn.trial), reverse=True)
            begun = {each.turn.trial for each in here}
            for each in below[:most]:
                if each.turn.trial not in begun:
                    return Turn(trial=each.turn.trial, values=each.turn.values, share=share)
        return None

    @classmethod
    def lengths(cls, trials: int) -> float:
        shares, counts = _shares(trials), _counts(trials)
        return sum(
            count * (share - before) for count, share, before in zip(counts, shares, (0.0, *shares), strict=False)
        )

    @classmethod
    def shortest(cls, trials: int) -> float:
        return _shares(trials)[0]


def _counts(trials: int) -> list[int]:
    """How many trials each rung has: the first all of them, the last at least one."""
    counts = [trials]
    while len(counts) < _RUNGS and counts[-1] >= _KEPT:
        counts.append(counts[-1] // _KEPT)
    return counts


def _shares(trials: int) -> list[float]:
    """Which share of the length each rung reaches; the last is 1."""
    last = len(_counts(trials)) - 1
    return [float(_KEPT) ** (rung - last) for rung in range(last + 1)]


class Evolution(_Whole):
    """The best of a few of the latest trials, changed in one setting."""

    def next(self, done: Sequence[Outcome]) -> Turn | None:
        trial = len(done) + 1
        population = max(2, self.trials // 3)
        if trial > self.trials or len(done) < population:
            return self._drawn(trial, done) if trial <= self.trials else None
        random = numpy_generator(self.seed, "evolution", trial)
        latest = done[-population:]
        asked = [latest[int(i)] for i in random.permutation(population)[: max(2, population // 3)]]
        parent = max(asked, key=lambda each: each.rank)
        values = self.space.neighbour(parent.turn.values, random, _tried(done))
        return self._drawn(trial, done) if values is None else Turn(trial=trial, values=values)


@dataclass(frozen=True)
class SharedWeights(_Whole):
    """Those that are best with shared weights, each learned alone.

    Args:
        candidates: the combinations, the best first; there are none before the networks were learned together.
    """

    candidates: Sequence[Mapping[str, Any]] = ()
    together: ClassVar[float] = 4.0
    most: ClassVar[int] = 3

    def next(self, done: Sequence[Outcome]) -> Turn | None:
        trial = len(done) + 1
        if trial > min(self.trials, len(self.candidates)):
            return None
        return Turn(trial=trial, values=self.candidates[trial - 1])

    @classmethod
    def lengths(cls, trials: int) -> float:
        return cls.together + trials


@dataclass(frozen=True)
class Tpe(_Whole):
    """Optuna's estimator; its study is made anew from the records for each trial."""

    optuna: Any = field(init=False)

    def __post_init__(self) -> None:
        try:
            import optuna
        except ModuleNotFoundError as error:
            raise missing_extra("optuna") from error
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        object.__setattr__(self, "optuna", optuna)

    def next(self, done: Sequence[Outcome]) -> Turn | None:
        trial, optuna = len(done) + 1, self.optuna
        if trial > self.trials:
            return None
        kinds = self._distributions()
        first = max(2, self.trials // 4)
        sampler = optuna.samplers.TPESampler(n_startup_trials=first, seed=derive(self.seed, "tpe", trial) % 2**32)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        for each in done:
            numbers = {key: self._number(key, value) for key, value in each.turn.values.items()}
            state = optuna.trial.TrialState.COMPLETE if each.scores else optuna.trial.TrialState.FAIL
            value = each.rank[1] if each.scores else None
            study.add_trial(optuna.trial.create_trial(state=state, params=numbers, distributions=kinds, value=value))
        tried = _tried(done)
        for _ in range(_ASKED):
            params = study.ask(kinds).params
            values = {key: self._value(key, params[key]) for key in self.space.entries}
            if values not in tried and self.space.fits(values):
                return Turn(trial=trial, values=values)
        return self._drawn(trial, done)

    def _distributions(self) -> dict[str, Any]:
        """Choices by their number, because a list is no category to Optuna."""
        made: dict[str, Any] = {}
        for key, values in self.space.entries.items():
            if isinstance(values, Choice):
                made[key] = self.optuna.distributions.CategoricalDistribution(tuple(range(len(values.values))))
            elif values.whole:
                made[key] = self.optuna.distributions.IntDistribution(int(values.low), int(values.high), log=values.log)
            else:
                made[key] = self.optuna.distributions.FloatDistribution(values.low, values.high, log=values.log)
        return made

    def _number(self, key: str, value: Any) -> Any:
        values = self.space.entries[key]
        return values.values.index(value) if isinstance(values, Choice) else value

    def _value(self, key: str, number: Any) -> Any:
        values = self.space.entries[key]
        return values.values[number] if isinstance(values, Choice) else values.told(number)


_ASKED: Final = 20
"""How often Optuna is asked for a combination that is new and fits before one is drawn."""

STRATEGIES: Final[Mapping[str, type[Strategy]]] = {
    "halving": Halving,
    "random": Random,
    "evolution": Evolution,
    "tpe": Tpe,
    "shared": SharedWeights,
}
"""By name, the default first."""


def strategy_of(name: str) -> type[Strategy]:
    """The strategy called `name`.

    Raises:
        UnknownName: there is none.
    """
    return pick("strategy", name, STRATEGIES)
