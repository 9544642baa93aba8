"""Labels bought in rounds: what `sw2 label next` chooses, held against choosing by chance.

Each way begins with the same labels, learns a program, chooses further examples by it, gets their labels, and learns
again from all of them. The test pictures are never chosen from. Printed: the test accuracy at each number of labels
(the mean over seeds), and how many labels a way needs for the accuracy that choosing by chance has in the end, as a
share.

Bar: the score of random choice with at most 70 % of its labels.

Usage: python benchmarks/label_next.py [DATA [START [ROUND [ROUNDS [SEEDS [STEPS [POOL [WAY …]]]]]]]]; DATA is digits or
fashion-mnist (consents to fetching it), POOL 0 means all of its training split, and without WAY all are compared.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from sw2.base.seed import numpy_generator
from sw2.catalog import catalog
from sw2.core.capabilities import Classify
from sw2.core.data import Data, Example
from sw2.core.task import Context
from sw2.core.trainer import Budget
from sw2.verbs.choose import WAYS, choose
from sw2.verbs.train import Order, fit

QUIET = ("trainer.evaluations=0", "trainer.health=off", "trainer.checkpoint_seconds=1e9")
CHANCE = "by chance"


def accuracies(
    name: str,
    data: Data,
    pool: Sequence[Example],
    start: int,
    more: int,
    rounds: int,
    seed: int,
    steps: int,
    ways: Sequence[str],
) -> dict[str, list[float]]:
    """Test accuracy after each round, by way."""
    test = data.split("test")
    wanted = [example["label"] for example in test]
    context = Context(seed=seed)
    # The first labels have one of each kind: a program has to know that there is such a label.
    shuffled = numpy_generator(seed, "pool").permutation(len(pool)).tolist()
    first = list({pool[i]["label"]: i for i in reversed(shuffled)}.values())
    first += [i for i in shuffled if i not in set(first)][: start - len(first)]
    found: dict[str, list[float]] = {}
    for way in (CHANCE, *ways):
        labelled = list(first)
        for step in range(rounds + 1):
            order = Order(
                task="image-classification",
                data=name,
                budget=Budget(steps=steps),
                preset="tiny",
                settings=QUIET,
                seed=seed,
            )
            with tempfile.TemporaryDirectory() as folder:
                train = [pool[i] for i in labelled]
                program = fit(
                    catalog(), order, replace(data, splits={"train": train}), Path(folder) / "run", context
                ).program
            classifier = program.capability(Classify)
            guessed = classifier.classify([example["image"] for example in test]).probabilities.argmax(1)
            right = [classifier.labels[g] == label for g, label in zip(guessed, wanted, strict=True)]
            found.setdefault(way, []).append(float(np.mean(right)))
            left = sorted(set(range(len(pool))) - set(labelled))
            if way == CHANCE:
                labelled += numpy_generator(seed, "chance", step).permutation(left)[:more].tolist()
            elif step < rounds:
                said = classifier.classify([pool[i]["image"] for i in left])
                labelled += [left[pick] for pick in choose(said, more, seed + step, way)]
        print(f"seed {seed}, {way}: " + " ".join(f"{value:.4f}" for value in found[way]), flush=True)
    return found


def needed(labels: Sequence[int], values: Sequence[float], wanted: float) -> float:
    """How many labels reach `wanted`, between the rounds by a straight line; infinite when none do."""
    for i, value in enumerate(values):
        if value >= wanted:
            if i == 0 or value == values[i - 1]:
                return labels[i]
            part = (wanted - values[i - 1]) / (value - values[i - 1])
            return labels[i - 1] + part * (labels[i] - labels[i - 1])
    return float("inf")


def main() -> None:
    """Print the accuracies of each seed, the means, and the labels needed."""
    name = sys.argv[1] if len(sys.argv) > 1 else "digits"
    usual = (30, 30, 5, 5, 200, 0)
    start, more, rounds, seeds, steps, size = (
        int(sys.argv[2 + at]) if len(sys.argv) > 2 + at else number for at, number in enumerate(usual)
    )
    task = catalog().task("image-classification")
    runs = []
    for seed in range(seeds):
        data = task.read(name, task.Options(), Context(seed=seed, confirm=lambda question: True))
        pool = list(data.split("train"))
        if size:
            pool = [pool[i] for i in numpy_generator(seed, "size").permutation(len(pool))[:size]]
        runs.append(accuracies(name, data, pool, start, more, rounds, seed, steps, sys.argv[8:] or list(WAYS)))
    labels = [start + more * step for step in range(rounds + 1)]
    print(f"labels     {labels}")
    means = {way: np.mean([run[way] for run in runs], 0).tolist() for way in runs[0]}
    for way, values in means.items():
        share = needed(labels, values, means[CHANCE][-1]) / labels[-1]
        print(
            f"mean of {seeds}: {way:<10} "
            + " ".join(f"{value:.4f}" for value in values)
            + f"; labels needed {share:.2f}"
        )


if __name__ == "__main__":
    main()
