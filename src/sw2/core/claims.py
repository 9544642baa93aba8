"""Claims: what the field says, tried by an experiment whose rule is written down before it runs.

A claim is registered by strings (`core.domain.ClaimEntry`): its question, what is expected, and the rule by which
numbers become a verdict. The experiment behind it, `run(context, full) -> Result`, brings the numbers.

    quick   one seed, minutes, "indicative": what it saw may be that seed's luck
    full    several seeds; intervals are over seeds, for seeds are what another repeat would draw anew

Choices: a verdict is read off an interval or off an order that every seed shows, never off a mean alone; what neither
shows is "undecided", which is no failure. Experiments are small on purpose, so the size at which a claim was tried
belongs to its answer.

Not here: running and writing (`verbs.claims`), the experiments (domains).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from sw2.parts.metrics import Interval, paired_bootstrap, student

__all__ = ["SEEDS", "Plot", "Result", "Verdict", "by_interval", "by_order", "paired", "seeds_of"]

Verdict = Literal["holds", "does not hold", "undecided"]

SEEDS = 5  # of a full form


@dataclass(frozen=True, kw_only=True)
class Plot:
    """Lines over whole numbers.

    Args:
        title: what the values are.
        axis: what one of the whole numbers is, in the singular: "step", "layer" ...
        lines: (place, value) by name, at most four lines; values that are not finite leave a gap.
        log: a logarithmic scale of values.
        caption: a sentence below.
    """

    title: str
    axis: str
    lines: Mapping[str, Sequence[tuple[int, float]]]
    log: bool = False
    caption: str = ""

    def __post_init__(self) -> None:
        assert 1 <= len(self.lines) <= 4, "a chart tells at most four lines apart"


@dataclass(frozen=True, kw_only=True)
class Result:
    """What an experiment found.

    Args:
        verdict: by the claim's rule.
        why: one sentence with the numbers that decided.
        head: the columns of the table.
        rows: its cells; numbers as numbers.
        plots: what is to be seen.
        notes: what a reader must know to judge it: the network, the data, what was chosen by hand.
    """

    verdict: Verdict
    why: str
    head: Sequence[str]
    rows: Sequence[Sequence[str | float | int | None]]
    plots: Sequence[Plot] = ()
    notes: Sequence[str] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """The same as a JSON object; lines are lists of [place, value]."""
        plots = [
            {**vars(plot), "lines": {name: [list(point) for point in line] for name, line in plot.lines.items()}}
            for plot in self.plots
        ]
        return {**vars(self), "rows": [list(row) for row in self.rows], "plots": plots}


def seeds_of(seed: int, full: bool, count: int = SEEDS) -> list[int]:
    """The seeds of a form: `seed` alone, or `count` of them from `seed` on, as its entry says."""
    return list(range(seed, seed + (count if full else 1)))


def paired(old_SN: ArrayLike, new_SN: ArrayLike, seed: int) -> Interval:
    """The 95 % interval of mean(new - old).

    Args:
        old_SN: the scores of one way, a row a seed, a column an example, [S, N].
        new_SN: those of the other on the same examples with the same seeds, [S, N].
        seed: of the bootstrap.

    Returns:
        Over seeds, by Student, where there are several; else over examples, by the paired bootstrap.
    """
    old, new = np.atleast_2d(np.asarray(old_SN, dtype=np.float64)), np.atleast_2d(np.asarray(new_SN, dtype=np.float64))
    if len(old) > 1:
        return student((new - old).mean(axis=1))
    return paired_bootstrap(old[0], new[0], seed=seed)


def by_interval(interval: Interval, above: float = 0.0) -> Verdict:
    """Holds when the whole interval lies above `above`, does not hold when it lies below, else undecided."""
    if interval.low > above:
        return "holds"
    return "does not hold" if interval.high < above else "undecided"


def by_order(gains: Sequence[float]) -> Verdict:
    """Holds when every gain is above 0, does not hold when none is, else undecided.

    >>> by_order([0.1, 2.0]), by_order([0.1, -1.0]), by_order([0.0, -1.0])
    ('holds', 'undecided', 'does not hold')
    """
    above = [gain > 0 for gain in gains]
    if all(above):
        return "holds"
    return "undecided" if any(above) else "does not hold"
