"""How GloVe is learned: pairs of words in many passes, a fixed number a step.

Pairs are counted once (`counts`), into a mapped file in sw2's cache; step s fits to the pairs from s · pairs_per_step
on, and begins again where they end, in the same order. A state is the two matrices and the sums of squares of their
gradients; all else follows from the number of the step, so that a run goes on exactly where it was: on one thread with
the same bits as if it had never ended.

The vector of a word is the sum of its rows in the two matrices (Pennington et al. 2014, section 4.2); biases and
squares are not kept.

What it does not do: subsampling, a falling learning rate, pairs left out: the paper has none of them.

Shapes: V words, D dimensions
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
import torch
from numpy.typing import NDArray

from sw2.base.config import check_ranges
from sw2.base.device import usable_cores
from sw2.base.errors import LearningError
from sw2.base.seed import numpy_generator
from sw2.core.objective import Choices, Clock, Job, Metrics, Objective, Snapshot
from sw2.core.program import Program
from sw2.domains.words.corpus import Corpus
from sw2.domains.words.glove import fit, native
from sw2.domains.words.glove.counts import LARGEST_WINDOW, Counts, counted
from sw2.domains.words.glove.fit import Fit, squares
from sw2.domains.words.lesson import matrix
from sw2.domains.words.objective import pieces, program_of, sized
from sw2.domains.words.vocabulary import WordPrep, encoded

__all__ = ["GloVeConfig", "LeastSquares", "learn"]

_PAIRS_PER_STEP: Final = {"compiled": 200_000, "numpy": 2_000}


@dataclass(frozen=True, kw_only=True)
class GloVeConfig:
    """How counts of neighbours are fitted.

    Args:
        window: how many words on each side are neighbours; one at distance d counts 1 / d.
        learning_rate: of AdaGrad, the whole time.
        x_max: the count from which on pairs weigh the same.
        alpha: rarer pairs weigh (count / x_max)^alpha.
        memory_mb: megabytes that counting takes at most; with less it takes longer and gives the same.
        pairs_per_step: how many pairs of words a step takes; 0 for 200,000, or 2,000 without a compiler.
        threads: how many work at once; 0 for as many as there are cores. More than one may differ in some bits from
            run to run.
    """

    window: int = 10
    learning_rate: float = 0.05
    x_max: float = 100.0
    alpha: float = 0.75
    memory_mb: int = 512
    pairs_per_step: int = 0
    threads: int = 0

    def __post_init__(self) -> None:
        most = LARGEST_WINDOW
        allowed = {
            "window": (1 <= self.window <= most, f"a whole number from 1 to {most}"),
            "learning_rate": (0 < self.learning_rate <= 1, "a number above 0, up to 1"),
            "x_max": (0 < self.x_max <= 1e9, "a number above 0, up to 1e9"),
            "alpha": (0 <= self.alpha <= 1, "a number from 0 to 1"),
            "memory_mb": (16 <= self.memory_mb <= 1 << 20, "a whole number from 16 to 2^20"),
            "pairs_per_step": (0 <= self.pairs_per_step <= 1 << 30, "a whole number from 0 to 2^30"),
            "threads": (0 <= self.threads <= 1024, "a whole number from 0 to 1024"),
        }
        check_ranges("learn", self, allowed)


@dataclass
class _State:
    job: Job
    counts: Counts
    fit: Fit
    pairs_per_step: int


@final
class LeastSquares(Objective[_State]):
    """Fits products of vectors to the logarithms of counts.

    Args:
        config: see GloVeConfig.
        provider: of the programs, for their folder.
    """

    makes = "word-vectors"

    def __init__(self, config: GloVeConfig, provider: Mapping[str, str]) -> None:
        self.config, self.provider = config, provider

    def choose(self, job: Job) -> Choices:
        del job
        compiled = native.why_not() is None
        threads = (self.config.threads or usable_cores()) if compiled else 1
        reasons = {
            "threads": "set by hand" if self.config.threads else "one for each core" if compiled else "no compiler"
        }
        per_step = self.config.pairs_per_step or _PAIRS_PER_STEP["compiled" if compiled else "numpy"]
        return Choices(values={"threads": threads, "pairs_per_step": per_step}, reasons=reasons)

    def start(self, job: Job) -> _State:
        prep, train, threads = job.prep, job.data.split("train"), job.choices["threads"]
        assert isinstance(prep, WordPrep)
        assert isinstance(train, Corpus)
        words, dimensions = len(prep.words), sized(job).dimensions
        counts = counted(
            encoded(train, prep, job.data.fingerprint),
            f"{job.data.fingerprint}{prep.digest}",
            words,
            window=self.config.window,
            memory=self.config.memory_mb * 1_000_000,
            threads=threads,
        )
        lesson = Fit(
            pairs=counts.pairs,
            first=_drawn(words, dimensions, dimensions, job.seed, "first"),
            second=_drawn(words, dimensions, dimensions + 1, job.seed, "second"),
            first_squares=squares(words, dimensions, dimensions + 1),
            second_squares=squares(words, dimensions, dimensions),
            rate=self.config.learning_rate,
            x_max=self.config.x_max,
            alpha=self.config.alpha,
            threads=threads,
        )
        return _State(job, counts, lesson, min(job.choices["pairs_per_step"], len(counts.pairs)))

    def steps_per_epoch(self, state: _State) -> float:
        return len(state.counts.pairs) / state.pairs_per_step

    def step(self, state: _State, clock: Clock) -> Metrics:
        take = native.fit if native.why_not() is None else fit.fit
        loss = 0.0
        for piece in pieces(clock.step * state.pairs_per_step, state.pairs_per_step, len(state.counts.pairs)):
            loss += take(state.fit, piece.begin, piece.end)
        state.counts.release()
        if not math.isfinite(loss):
            raise LearningError(
                "The loss is not finite.",
                where=f"step {clock.step}",
                wanted="a number",
                got=loss,
                do="Lower --set learn.learning_rate.",
            )
        return {"loss": loss / state.pairs_per_step, "learning_rate": self.config.learning_rate}

    def snapshot(self, state: _State) -> Snapshot:
        return Snapshot(tensors={name: torch.from_numpy(array) for name, array in _matrices(state).items()})

    def restore(self, state: _State, snapshot: Snapshot) -> None:
        for name, array in _matrices(state).items():
            array[:] = snapshot.tensors[name].numpy()

    def finish(self, state: _State) -> Program:
        return program_of(state.job, state.fit.first + state.fit.second, self.provider)

    def notes(self, state: _State) -> Sequence[str]:
        notes = []
        if (reason := native.why_not()) is not None:
            notes.append(f"The kernels do not run here, so learning takes long: {reason}")
        pairs, numbers = len(state.counts.pairs), len(state.fit.first) * (sized(state.job).dimensions + 1)
        if pairs < numbers:
            notes.append(
                f"{pairs:,} pairs of words cannot decide {numbers:,} numbers of each matrix, so part of every vector "
                "stays as it was drawn; take more text, fewer --set model.dimensions, or --model ppmi-svd"
            )
        return notes

    def facts(self, state: _State) -> Mapping[str, Any]:
        words = len(state.fit.first)
        return {
            "unit": "pairs",
            "pairs_per_step": state.pairs_per_step,
            "pairs": len(state.counts.pairs),
            "vocabulary": words,
            "parameters": 2 * words * (sized(state.job).dimensions + 1),
        }


def _drawn(words: int, dimensions: int, bias: int, seed: int, table: str) -> NDArray[np.float32]:
    """Rows at the beginning: vectors and biases uniform, within 1 / 2D of 0, and the one that stands for a bias."""
    made, random = matrix(words, dimensions + 2), numpy_generator(seed, "words", "glove", table)
    drawn = (random.random((words, dimensions + 1), np.float32) - np.float32(0.5)) / np.float32(dimensions)
    made[:, :dimensions] = drawn[:, :dimensions]
    made[:, [dimensions, dimensions + 1]] = 1
    made[:, bias] = drawn[:, dimensions]
    return made


def _matrices(state: _State) -> dict[str, NDArray[np.float32]]:
    return {name: getattr(state.fit, name) for name in ("first", "second", "first_squares", "second_squares")}


def learn(config: GloVeConfig, provider: Mapping[str, str]) -> LeastSquares:
    """The way to learn from counts, for programs of this provider."""
    return LeastSquares(config, provider)
