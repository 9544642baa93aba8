"""How sure a score is: intervals for shares, for any statistic, and for the difference of two programs.

- `wilson`: a share of successes, in closed form; holds near 0 and 1 and for few trials, where the normal one fails.
- `bootstrap`: any statistic, by drawing the examples anew with replacement (percentile method).
- `paired_bootstrap`: the mean difference of two programs on the *same* examples. Pairing removes what the examples have
  in common, so the interval is far narrower than that of two separate ones.

Sources: Wilson (1927), "Probable inference, the law of succession, and statistical inference", JASA 22; Efron &
Tibshirani, "An introduction to the bootstrap" (1993), chapter 13; Student (1908), "The probable error of a mean",
Biometrika 6. The tests hold them against scipy.

The bootstrap takes examples to be independent; where they are not (sentences of one document), give it one value per
document. It is too narrow below about 20 examples.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sw2.base.errors import DataError, UsageError
from sw2.base.seed import numpy_generator

__all__ = ["Interval", "averaged", "bootstrap", "paired_bootstrap", "student", "wilson"]


@dataclass(frozen=True)
class Interval:
    """A value with the range `low` to `high` that covers the true one in a share `level` of repeats."""

    value: float
    low: float
    high: float
    level: float = 0.95

    def excludes(self, value: float) -> bool:
        """Whether `value` (0, say, for a difference) lies outside."""
        return not self.low <= value <= self.high


def wilson(successes: float, trials: int, *, level: float = 0.95) -> Interval:
    """The Wilson score interval of a share of successes.

    With p = successes / trials, n = trials and z the normal quantile of (1 + level) / 2:
    (p + z² / 2n ± z sqrt(p (1 - p) / n + z² / 4n²)) / (1 + z² / n).

    Args:
        successes: from 0 to `trials`; a fraction where a trial is the mean of several judgements, whose variance is at
            most that of a yes or no, so that the interval is then rather too wide.
        trials: at least 1.
        level: the share of repeats that the interval covers, in (0, 1).

    Raises:
        DataError: when there are no trials, or more successes than trials.
        UsageError: when `level` is out of range.

    >>> interval = wilson(8, 10)
    >>> f"{interval.low:.3f} to {interval.high:.3f}"
    '0.490 to 0.943'
    """
    _check_level(level)
    if trials < 1 or not 0 <= successes <= trials:
        raise DataError("That is no share.", wanted="0 <= successes <= trials, trials >= 1", got=(successes, trials))
    z = NormalDist().inv_cdf((1 + level) / 2)
    share = successes / trials
    centre = share + z**2 / (2 * trials)
    reach = z * math.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    scale = 1 + z**2 / trials
    # None of n reaches down to 0 and all of n up to 1 exactly; rounding would miss them by the last bit.
    low = (centre - reach) / scale if successes > 0 else 0.0
    high = (centre + reach) / scale if successes < trials else 1.0
    return Interval(share, low, high, level)


def bootstrap(
    examples: ArrayLike,
    statistic: Callable[[NDArray[Any]], float] = np.mean,  # type: ignore[assignment]
    *,
    seed: int,
    resamples: int = 2000,
    level: float = 0.95,
) -> Interval:
    """The percentile bootstrap interval of a statistic.

    Args:
        examples: one row per example, [N, ...].
        statistic: a number from any such rows; the mean unless told otherwise.
        seed: the same seed draws the same resamples.
        resamples: how often the examples are drawn anew.
        level: the share of repeats that the interval covers, in (0, 1).

    Raises:
        DataError: when there are no examples.
        UsageError: when `level` is out of range.
    """
    _check_level(level)
    rows = np.asarray(examples)
    if not len(rows):
        raise DataError("There are no examples to draw from.", wanted="at least one example", got="none")
    random = numpy_generator(seed, "bootstrap")
    values = [float(statistic(rows[random.integers(len(rows), size=len(rows))])) for _ in range(resamples)]
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(statistic(rows)), float(low), float(high), level)


def paired_bootstrap(
    old_N: ArrayLike, new_N: ArrayLike, *, seed: int, resamples: int = 2000, level: float = 0.95
) -> Interval:
    """The bootstrap interval of mean(new - old) over the same examples; the change is real when it excludes 0.

    Args:
        old_N: a score per example, [N].
        new_N: the other program's scores of the same examples in the same order, [N].
        seed: the same seed draws the same resamples.
        resamples: how often the examples are drawn anew.
        level: the share of repeats that the interval covers, in (0, 1).

    Raises:
        DataError: when there are no examples or the lengths differ.
        UsageError: when `level` is out of range.
    """
    old, new = np.asarray(old_N, dtype=np.float64), np.asarray(new_N, dtype=np.float64)
    if old.shape != new.shape:
        raise DataError("The two programs were not judged on the same examples.", wanted=old.shape, got=new.shape)
    return bootstrap(new - old, seed=seed, resamples=resamples, level=level)


def averaged(scores_N: ArrayLike, examples_N: ArrayLike) -> NDArray[np.float64]:
    """The mean score of each example that was judged several times, for intervals that count it once.

    Args:
        scores_N: what each judgement gave, [N].
        examples_N: the number of the example that it was of, [N].

    Returns:
        A mean per example, in the order of their numbers.

    >>> averaged([1, 0, 1, 1], [0, 1, 0, 1]).tolist()
    [1.0, 0.5]
    """
    scores, (_, places) = np.asarray(scores_N, dtype=np.float64), np.unique(examples_N, return_inverse=True)
    return np.bincount(places, weights=scores) / np.bincount(places)


def student(values_N: ArrayLike, *, level: float = 0.95) -> Interval:
    """Student's interval of a mean: mean ± t s / sqrt(N), with s² the unbiased variance and t of N - 1 degrees.

    Args:
        values_N: independent repeats, at least two, [N].
        level: the share of repeats that the interval covers, in (0, 1).

    Raises:
        DataError: when there are fewer than two values.
        UsageError: when `level` is out of range.

    >>> interval = student([1.0, 2.0, 3.0])
    >>> f"{interval.low:.3f} to {interval.high:.3f}"
    '-0.484 to 4.484'
    """
    _check_level(level)
    values = np.asarray(values_N, dtype=np.float64)
    if values.ndim != 1 or len(values) < 2:
        raise DataError("One repeat shows no spread.", wanted="at least two values", got=values.shape)
    mean, reach = float(values.mean()), float(values.std(ddof=1)) / math.sqrt(len(values))
    reach *= _student_quantile(len(values) - 1, level)
    return Interval(mean, mean - reach, mean + reach, level)


def _student_quantile(degrees: int, level: float) -> float:
    """The t with P(|T| <= t) = level.

    With t = sqrt(degrees) tan(a) that share is the integral of cos(x)^(degrees - 1) from 0 to a over that to pi / 2.
    """
    angles = np.linspace(0.0, np.pi / 2, 200_001)
    density = np.cos(angles) ** (degrees - 1)
    shares = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return math.sqrt(degrees) * math.tan(float(np.interp(level, shares / shares[-1], angles)))


def _check_level(level: float) -> None:
    if not 0.0 < level < 1.0:
        raise UsageError("The level of an interval is a share.", wanted="a number between 0 and 1", got=level)
