"""The verb `label next`: which examples to label next, so that few labels teach much.

    examples without labels → what the program says of each → the most telling ones, one after the other

In question come three times as many as are wanted, those of which the program is least sure: whose likeliest label is
little likelier than the next one, by the *margin*. Among them the choice is by *gradient embeddings* (BADGE: Ash et al.
2020, arXiv:1906.03671). With p the probabilities of an example, h what the last layer sees of it and e the unit vector
of the likeliest label, g = (p - e) ⊗ h is the gradient of the loss with respect to the last layer if that label were
right. It is long where the program is unsure, and points where the example differs. Centres drawn as k-means++ draws
them, each with a chance that grows with the squared distance from those that are there, are therefore both unsure and
unlike each other. The K·D numbers of g are never written down:

    |g - g'|² = |p - e|² |h|² + |p' - e'|² |h'|² - 2 (p - e)·(p' - e') h·h'

Why both: with choosing by chance of 400 labels as the measure (Fashion-MNIST, 100 labels and six times 50 more of 5,000
pictures, five seeds), both are as good with 0.66 of the labels, gradients alone with 0.76, margins alone with 0.74
(`benchmarks/label_next.py`). Gradients alone also draw what is sure and merely different, of which there is most;
margins alone take many examples of one doubt. `WAYS` has all three.

What it does not do: look at examples that have labels already (leave them out of the folder); wait for the labels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from sw2.base.errors import UsageError
from sw2.base.seed import numpy_generator
from sw2.core.capabilities import Classified, Classify
from sw2.core.labelled import Labelled
from sw2.core.program import Program
from sw2.core.task import Context
from sw2.verbs.labels import pool_of

__all__ = ["WAYS", "Chosen", "Next", "choose", "classifier_of", "in_order", "next_labels"]

_PART: Final = 50
_WIDER: Final = 3
"""How many times as many as are wanted come into question, by margin."""


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """An example that is worth a label.

    Args:
        place: its name as a path from here where it is a file, else its name in the data.
        guess: the program's likeliest label.
        probability: of that label, in [0, 1].
        margin: how much likelier it is than the next one, in [0, 1].
    """

    place: str
    guess: str
    probability: float
    margin: float


@dataclass(frozen=True, kw_only=True)
class Next:
    """What to label next: the column in which such data has its examples, the examples in the order they were chosen,
    and how many different ones there were to choose from.
    """

    column: str
    chosen: Sequence[Chosen]
    among: int
    notes: Sequence[str] = ()


def next_labels(program: Program, source: str, count: int, context: Context, *, settings: Sequence[str] = ()) -> Next:
    """Choose `count` examples at `source` to label next; the same seed chooses the same.

    Args:
        program: a classifier, learned from the labels that there are.
        source: examples without labels, as its task reads them.
        count: how many, at least 1; all when there are fewer.
        settings: `data.key=value` texts.

    Raises:
        UsageError: the program's examples do not have one label each.
        ProgramError: it gives no probabilities.
        DataError: the examples cannot be read.
    """
    classifier = classifier_of(program)
    pool = pool_of(program.task, source, context, settings)
    said = classifier.classify([pool.task.question(example) for example in pool.examples])
    base = Path(source) if Path(source).is_dir() else Path(source).parent
    chosen = []
    for pick in choose(said, count, context.seed):
        p_K = said.probabilities[pick]
        likeliest = int(p_K.argmax())
        file = base / pool.rows[pick].name
        chosen.append(
            Chosen(
                place=str(file) if file.is_file() else pool.rows[pick].name,
                guess=classifier.labels[likeliest],
                probability=float(p_K[likeliest]),
                margin=float(_margins(p_K[None])[0]),
            )
        )
    return Next(column=pool.column, chosen=chosen, among=len(pool.rows), notes=pool.notes)


def classifier_of(program: Program) -> Classify:
    """The program as a classifier of examples that have one label each.

    Raises:
        UsageError: its examples are no such.
        ProgramError: it gives no probabilities.
    """
    if not isinstance(program.task, Labelled):
        raise UsageError(
            "The examples of this program do not have one label each.",
            where=program.path,
            wanted="a program that classifies",
            got=f"a program for {program.task.name}",
        )
    return program.capability(Classify)  # type: ignore[type-abstract]


def in_order(said: Classified, seed: int, first: int = 1000) -> list[int]:
    """The numbers of all N examples: the `first` of them in parts of 50, each as `choose` chooses 50 of those that are
    left, then those of the least margin.
    """
    chosen, left_N = list[int](), np.arange(len(said.probabilities))
    while len(left_N) and len(chosen) < first:
        among = Classified(probabilities=said.probabilities[left_N], features=said.features[left_N])
        picked = choose(among, _PART, seed)
        chosen += left_N[picked].tolist()
        left_N = np.delete(left_N, picked)
    return chosen + left_N[np.argsort(_margins(said.probabilities[left_N]), kind="stable")].tolist()


def choose(said: Classified, count: int, seed: int, way: str = "both") -> list[int]:
    """The numbers of at most `count` ≥ 1 different examples out of N, in the order in which they are chosen."""
    return WAYS[way](said, min(count, len(said.probabilities)), seed)


def _by_gradients(said: Classified, count: int, seed: int) -> list[int]:
    p_NK, h_ND = said.probabilities.astype(np.float64), said.features.astype(np.float64)
    # Features of another scale choose the same; numbers of any size have squares that can be added up.
    h_ND = h_ND / max(float(np.abs(h_ND).max(initial=0.0)), 1e-30)
    residual_NK = p_NK.copy()
    residual_NK[np.arange(len(p_NK)), p_NK.argmax(1)] -= 1
    length_N = (residual_NK**2).sum(1) * (h_ND**2).sum(1)
    random = numpy_generator(seed, "next")
    chosen = [int(length_N.argmax())]
    left_N = np.ones(len(p_NK), bool)
    away_N = np.full(len(p_NK), np.inf)
    while True:
        last = chosen[-1]
        left_N[last] = False
        if len(chosen) == count:
            return chosen
        dot_N = (residual_NK @ residual_NK[last]) * (h_ND @ h_ND[last])
        away_N = np.minimum(away_N, np.maximum(length_N + length_N[last] - 2 * dot_N, 0.0))
        chance_N = np.where(left_N, away_N, 0.0)
        if chance_N.sum() > 0:
            chosen.append(int(random.choice(len(chance_N), p=chance_N / chance_N.sum())))
        else:  # the program is sure of all that are left, or they are like those that are chosen
            chosen.append(int(random.choice(np.flatnonzero(left_N))))


def _by_margin(said: Classified, count: int, seed: int) -> list[int]:
    del seed
    order: list[Any] = np.argsort(_margins(said.probabilities), kind="stable")[:count].tolist()
    return order


def _margins(p_NK: np.ndarray) -> np.ndarray:
    """How much likelier the likeliest label is than the next: float [N]; 1 where there is one label only."""
    if p_NK.shape[1] < 2:
        return np.ones(len(p_NK))
    top_N2 = np.sort(p_NK, 1)[:, -2:]
    margins: np.ndarray = top_N2[:, 1] - top_N2[:, 0]
    return margins


def _by_both(said: Classified, count: int, seed: int) -> list[int]:
    unsure = _by_margin(said, min(_WIDER * count, len(said.probabilities)), seed)
    among = Classified(probabilities=said.probabilities[unsure], features=said.features[unsure])
    return [unsure[pick] for pick in _by_gradients(among, count, seed)]


WAYS: Final[Mapping[str, Callable[[Classified, int, int], list[int]]]] = {
    "both": _by_both,
    "gradients": _by_gradients,
    "margin": _by_margin,
}
