"""The verb `label suspects`: labels that are likely wrong.

    every example → folds, copies of one content in the same fold
                  → for each fold a quick program, learned from the others → what it says of this fold
                  → ranked by how little each example's own label was believed

A program that has seen an example may have learned its wrong label by heart; one that has not says what the other
examples say. The examples of all splits are judged, test examples too: a wrong label there makes scores wrong.

How many of the labels are wrong is estimated by the confident joint (Northcutt, Jiang and Chuang 2019,
arXiv:1911.00068, section 3.1): an example counts whose likeliest label, among those that it has at least as surely as
the examples of that label have it on average, is not its own. The orders that `RANKS` names are of the same paper,
section 3.2; `benchmarks/label_suspects.py` holds them against each other. Self-confidence is used: of labels exchanged
evenly in Fashion-MNIST it finds most, where a doubt between two like kinds says little (the README of vision has the
figures); on the digits all three find everything.

What it does not do: change a label (look at it first); find examples that belong to no label at all.
"""

from __future__ import annotations

import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from sw2.base.config import settings_for
from sw2.base.errors import DataError, Interrupted, UsageError
from sw2.base.seed import derive
from sw2.core.capabilities import Classify
from sw2.core.data import Data
from sw2.core.labelled import Row
from sw2.core.task import Context
from sw2.core.trainer import Budget
from sw2.verbs.labels import Found, gather, labelled_task
from sw2.verbs.show import Names
from sw2.verbs.train import Order, absolute, fit

__all__ = ["RANKS", "STEPS", "Suspect", "Suspects", "confident_joint", "divide", "suspects", "unseen_probabilities"]

STEPS: Final = 400
"""How long the program of a fold learns where no minutes are given."""


@dataclass(frozen=True, kw_only=True)
class Suspect:
    """An example whose label is in doubt.

    Args:
        name: where it stands in the data.
        split: in which it is.
        label: as the data has it.
        looks_like: the likeliest other label.
        probability: of that label, in [0, 1].
        own: the probability of the example's own label.
    """

    name: str
    split: str
    label: str
    looks_like: str
    probability: float
    own: float


@dataclass(frozen=True, kw_only=True)
class Suspects:
    """What was found.

    Args:
        task: of the data.
        data: what was looked at.
        ranked: all examples that could be judged, the most doubtful first.
        wrong: how many labels are estimated to be wrong.
        notes: what else was seen: one content under several labels, labels that nothing can be said of.
    """

    task: str
    data: Data
    ranked: Sequence[Suspect]
    wrong: int
    notes: Sequence[str]


def suspects(
    registry: Names,
    source: str,
    context: Context,
    *,
    task: str | None = None,
    folds: int = 4,
    budget: Budget | None = None,
    start: str | None = None,
    settings: Sequence[str] = (),
    device: str = "auto",
) -> Suspects:
    """Rank the labels at `source` by how likely they are wrong.

    Args:
        source: a path, or the name of a data set.
        task: which task reads it; found out when None.
        folds: into how many parts the examples are divided, at least 2; as many programs are learned.
        budget: of each fold's program; `STEPS` steps when None.
        start: a program or named weights to start each of them from.
        settings: `key=value` texts, as in `train`.

    Raises:
        UsageError: the data has no labels of that kind, or a setting is wrong.
        DataError: it cannot be read, or is too small.
    """
    chosen = labelled_task(registry, source, context, task)
    own = settings_for("data", chosen.Options(), settings)
    found = gather(registry, source, context, task=chosen.name, settings=own)
    notes = _conflicts(found.rows)
    counts = Counter(label for label, _ in {(row.label, row.content) for row in found.rows})
    kept = [i for i, row in enumerate(found.rows) if counts[row.label] > 1]
    if alone := sorted(label for label, number in counts.items() if number < 2):
        notes.append("only one example, of which nothing can be said: " + ", ".join(map(repr, alone[:10])))
    if len({found.rows[i].label for i in kept}) < 2:
        raise DataError(
            "There is nothing to hold these labels against.",
            where=source,
            wanted="at least two labels with at least two different examples each",
            got=", ".join(f"{label}: {number}" for label, number in counts.most_common(5)),
        )
    found = replace(
        found,
        splits=[found.splits[i] for i in kept],
        examples=[found.examples[i] for i in kept],
        rows=[found.rows[i] for i in kept],
    )
    order = Order(
        task=found.task.name,
        data=source,
        budget=budget or Budget(steps=STEPS),
        parent=None if start is None else absolute(start),
        preset="tiny",
        # Nothing is watched and nothing resumed, so nothing of that takes time, unless the user asks.
        settings=("trainer.evaluations=0", "trainer.health=off", "trainer.checkpoint_seconds=1e9", *settings),
        seed=context.seed,
        device=device,
    )
    labels, p_NK = unseen_probabilities(registry, found, order, folds, context)
    given_N = np.array([labels.index(row.label) for row in found.rows])
    ranked = []
    for i in np.argsort(RANKS["self-confidence"](p_NK, given_N), kind="stable"):
        other = _likeliest_other(p_NK[i], int(given_N[i]))
        ranked.append(
            Suspect(
                name=found.rows[i].name,
                split=found.splits[i],
                label=found.rows[i].label,
                looks_like=labels[other],
                probability=float(p_NK[i, other]),
                own=float(p_NK[i, given_N[i]]),
            )
        )
    joint_KK = confident_joint(p_NK, given_N)
    wrong = int(joint_KK.sum() - np.trace(joint_KK))
    return Suspects(task=found.task.name, data=found.data, ranked=ranked, wrong=wrong, notes=notes)


def unseen_probabilities(
    registry: Names, found: Found, order: Order, folds: int, context: Context
) -> tuple[list[str], np.ndarray]:
    """What programs that have not seen an example say of it.

    Args:
        found: the examples; of each label at least two different ones.
        order: how the program of each fold is learned.
        folds: how many, at least 2.

    Returns:
        The K labels, and float32 [N, K]: the probability of each for every example.

    Raises:
        UsageError: fewer than two folds.
        LearningError: learning goes astray.
    """
    labels = sorted({row.label for row in found.rows})
    place = {label: number for number, label in enumerate(labels)}
    p_NK = np.zeros((len(found.rows), len(labels)), np.float32)
    fold_N = divide(found.rows, folds, context.seed)
    for fold in range(folds):
        unseen = [i for i in range(len(fold_N)) if fold_N[i] == fold]
        if not unseen:
            continue  # fewer examples than folds
        context.say(f"fold {fold + 1} of {folds}: learning from {len(fold_N) - len(unseen)} examples")
        train = [example for example, at in zip(found.examples, fold_N, strict=True) if at != fold]
        with tempfile.TemporaryDirectory() as folder:
            try:
                data = replace(found.data, splits={"train": train})
                program = fit(registry, order, data, Path(folder) / "run", context).program
            except Interrupted:
                raise Interrupted("Stopped; nothing was written.") from None
        questions = [found.task.question(found.examples[i]) for i in unseen]
        classifier = program.capability(Classify)  # type: ignore[type-abstract]
        columns = np.array([place[label] for label in classifier.labels])
        p_NK[np.array(unseen)[:, None], columns] = classifier.classify(questions).probabilities
    return labels, p_NK


def divide(rows: Sequence[Row], folds: int, seed: int) -> np.ndarray:
    """The fold of each row, int64 [N] in [0, folds): each label evenly, copies of a content together.

    Raises:
        UsageError: fewer than two folds, or more than there are different examples.
    """
    if folds < 2:
        raise UsageError(
            "One part of the examples is held against the others.", wanted="at least 2 folds", got=folds, do="--folds 4"
        )
    label_of: dict[str, str] = {}
    for row in rows:
        label_of[row.content] = min(row.label, label_of.get(row.content, row.label))
    if folds > len(label_of):
        raise UsageError(
            "There are more folds than different examples.",
            where="--folds",
            wanted=f"at most {len(label_of)}",
            got=folds,
            do="--folds 4",
        )
    by_label: defaultdict[str, list[str]] = defaultdict(list)
    for content in sorted(label_of, key=lambda content: derive(seed, "fold", content)):
        by_label[label_of[content]].append(content)
    # One label goes on where the one before stopped, so that rare labels do not all fill the first fold.
    in_order = [content for label in sorted(by_label) for content in by_label[label]]
    fold_of = {content: number % folds for number, content in enumerate(in_order)}
    return np.array([fold_of[row.content] for row in rows])


def _conflicts(rows: Sequence[Row]) -> list[str]:
    """A note for each of the first contents that stand under several labels."""
    by_content: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_content[row.content].append(row)
    several = [same for same in by_content.values() if len({row.label for row in same}) > 1]
    notes = ["the same under several labels: " + ", ".join(f"{r.name} ({r.label})" for r in one) for one in several[:5]]
    return notes + ([f"and {len(several) - 5} more under several labels"] if len(several) > 5 else [])


# -- orders: for float [N, K] and the numbers of the given labels [N], float [N], the lowest first ---------------------


def _self_confidence(p_NK: np.ndarray, given_N: np.ndarray) -> np.ndarray:
    """p(own label)."""
    return p_NK[np.arange(len(p_NK)), given_N]


def _margin(p_NK: np.ndarray, given_N: np.ndarray) -> np.ndarray:
    """p(own label) - p(likeliest other label)."""
    others_NK = p_NK.copy()
    others_NK[np.arange(len(p_NK)), given_N] = -1
    return _self_confidence(p_NK, given_N) - others_NK.max(1)


def _confident(p_NK: np.ndarray, given_N: np.ndarray) -> np.ndarray:
    """The margin, behind whether the confident joint finds the label wrong."""
    found_N = _confident_labels(p_NK, given_N)
    return _margin(p_NK, given_N) + 2.0 * ((found_N < 0) | (found_N == given_N))


RANKS: Final[Mapping[str, Callable[[np.ndarray, np.ndarray], np.ndarray]]] = {
    "margin": _margin,
    "self-confidence": _self_confidence,
    "confident learning": _confident,
}


def _likeliest_other(p_K: np.ndarray, given: int) -> int:
    return max((k for k in range(len(p_K)) if k != given), key=lambda k: float(p_K[k]))


def _confident_labels(p_NK: np.ndarray, given_N: np.ndarray) -> np.ndarray:
    """The likeliest label above its own threshold, int64 [N]; -1 where none is."""
    threshold_K = np.array([
        p_NK[given_N == k, k].mean() if (given_N == k).any() else np.inf for k in range(p_NK.shape[1])
    ])  # fmt: skip
    sure_NK = np.where(p_NK >= threshold_K, p_NK, -1.0)
    return np.where(sure_NK.max(1) >= 0, sure_NK.argmax(1), -1)


def confident_joint(p_NK: np.ndarray, given_N: np.ndarray) -> np.ndarray:
    """How many examples with the label of the row surely have that of the column: int64 [K, K].

    With t_j the mean of p(j) over the examples labelled j: entry (i, j) counts the examples labelled i whose likeliest
    label among those with p(j) ≥ t_j is j; examples without such a label are not counted (arXiv:1911.00068, eq. 1).

    Args:
        p_NK: probabilities by programs that have not seen the examples, [N, K].
        given_N: the numbers of the given labels, [N], in [0, K).
    """
    joint_KK = np.zeros((p_NK.shape[1], p_NK.shape[1]), np.int64)
    found_N = _confident_labels(p_NK, given_N)
    np.add.at(joint_KK, (given_N[found_N >= 0], found_N[found_N >= 0]), 1)
    return joint_KK
