"""Slices: how good a program is on parts of the held-out examples, so that a good mean hides nothing.

A slice is the examples of which one thing is the same: their label, or a column of their table (camera, hospital).
Where a column has numbers and more than twelve different ones, its slices are the quarters of the examples by it. An
example in which the column is empty or missing is in the slice "(none)".

Intervals are Wilson's where an example is right or wrong, else by bootstrap; of twenty slices one interval is likely
to miss. A slice fails a bound when its whole interval is on the wrong side of it: three unlucky examples fail no build.

What it does not do: find slices that nobody named.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from sw2.base.errors import UsageError
from sw2.base.names import pick
from sw2.core.data import Split
from sw2.core.task import Score, Task
from sw2.parts.metrics.intervals import Interval, averaged, bootstrap, wilson

__all__ = ["EVERY", "Slice", "cut", "fails"]

EVERY: Final = "metadata"
"""In place of a column: all columns of which at most `_MOST` slices come."""

_MOST: Final = 20
_FEW_NUMBERS: Final = 12
_NONE: Final = "(none)"


@dataclass(frozen=True, kw_only=True)
class Slice:
    """Examples of which one thing is the same.

    Args:
        column: what.
        value: the same, for people.
        score: the main score on them.
    """

    column: str
    value: str
    score: Score


def cut(task: Task, held_out: Split, score: Score, by: str, seed: int) -> list[Slice]:
    """`score` on each slice of the examples that it was computed over, the worst slice of a column first.

    Args:
        task: says what each example has besides what is asked.
        held_out: the examples.
        score: keeps their own scores as "cases".
        by: a column; or "metadata" for every one that has at least two and not too many slices.
        seed: of the bootstrap.

    Raises:
        UsageError: the judge keeps no examples' scores, there is no such column, or it has too many slices.
    """
    cases, repeats = score.details.get("cases"), score.details.get("repeats")
    if cases and repeats:
        cases = averaged(cases, repeats).tolist()
    if not cases or len(cases) != len(held_out):
        raise UsageError(
            "The score of these examples cannot be divided.",
            where="--slices",
            wanted="a task whose judge says of each example how right it is",
            got=f"{task.name}, judged as a whole ({score.name})",
        )
    said = [task.metadata(example) for example in held_out]
    columns = {name: name for each in said for name in each}
    if by != EVERY:
        columns = {by: pick("column of the examples", by, columns)}
    found = []
    for column in columns:
        slices = _slices_of(said, column)
        if len(slices) > _MOST:
            if by == EVERY:
                continue
            raise UsageError(
                "This column has too many values to be slices.",
                where=f"--slices {column}",
                wanted=f"at most {_MOST} different values, or numbers",
                got=f"{len(slices)}, such as {', '.join(list(slices)[:3])}",
            )
        if len(slices) < 2 and by == EVERY:
            continue
        parts = [
            Slice(column=column, value=value, score=_score([cases[i] for i in members], score, seed))
            for value, members in slices.items()
        ]
        found += sorted(parts, key=lambda part: part.score.value, reverse=score.better == "lower")
    return found


def fails(score: Score, bound: float) -> bool:
    """Whether the whole interval of `score` is on the wrong side of `bound`."""
    low, high = score.interval or (score.value, score.value)
    return high < bound if score.better == "higher" else low > bound


def _slices_of(said: Sequence[Mapping[str, str | int | float]], column: str) -> dict[str, list[int]]:
    """The numbers of the examples of each slice."""
    values = [each.get(column, "") for each in said]
    numbers = [_number(value) for value in values]
    known = [number for number in numbers if number is not None]
    if len(known) == sum(value != "" for value in values) and len(set(known)) > _FEW_NUMBERS:
        edges = np.quantile(known, [0.25, 0.5, 0.75])
        names = [f"below {edges[0]:g}", *(f"{a:g} to {b:g}" for a, b in itertools.pairwise(edges))]
        names.append(f"{edges[-1]:g} and above")
        told = [_NONE if n is None else names[int(np.searchsorted(edges, n, side="right"))] for n in numbers]
    else:
        told = [str(value).strip() or _NONE for value in values]
    members: defaultdict[str, list[int]] = defaultdict(list)
    for i, name in enumerate(told):
        members[name].append(i)
    return dict(members)


def _number(value: str | int | float) -> float | None:
    """The number that a cell holds; the cells of a CSV are texts. None for what is no finite number."""
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if np.isfinite(number) else None


def _score(cases: Sequence[float], of: Score, seed: int) -> Score:
    interval: Interval
    if set(cases) <= {0.0, 1.0}:
        interval = wilson(round(sum(cases)), len(cases))
    else:
        interval = bootstrap(cases, seed=seed)
    return Score.estimated(of.name, interval, better=of.better, examples=len(cases))
