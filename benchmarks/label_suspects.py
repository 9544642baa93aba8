"""Wrong labels planted in a data set, and how many of them `sw2 label suspects` finds first.

A share of the labels is replaced by another one, each with the same chance. Programs that have not seen an example say
what it looks like; each order of doubt is followed as far as 7 % of the examples, and the planted labels met on the way
are counted. Beside the orders of `sw2.verbs.suspects`: by chance (a random order).

Bar: on Fashion-MNIST with 5 % wrong labels, at least 80 % of them among the first 7 %.

Usage: python benchmarks/label_suspects.py [DATA [EXAMPLES [SEEDS [STEPS]]]]; DATA is digits or fashion-mnist
(consents to fetching it), EXAMPLES 0 means all of its training split.
"""

from __future__ import annotations

import statistics
import sys
import time
from dataclasses import replace

import numpy as np

from sw2.base.seed import numpy_generator
from sw2.catalog import catalog
from sw2.core.task import Context
from sw2.core.trainer import Budget
from sw2.verbs.labels import gather
from sw2.verbs.suspects import RANKS, STEPS, unseen_probabilities
from sw2.verbs.train import Order

WRONG, LOOKED_AT, FOLDS = 0.05, 0.07, 4


def main() -> None:
    """Print a row per seed, and the means."""
    name = sys.argv[1] if len(sys.argv) > 1 else "digits"
    most, seeds, steps = (
        int(sys.argv[at]) if len(sys.argv) > at else usual for at, usual in ((2, 0), (3, 3), (4, STEPS))
    )
    met: dict[str, list[float]] = {}
    for seed in range(seeds):
        context = Context(seed=seed, confirm=lambda question: True, say=lambda line: print(line, file=sys.stderr))
        found = gather(catalog(), name, context)
        train = [i for i, split in enumerate(found.splits) if split == "train"]
        random = numpy_generator(seed, "planted")
        if most:
            train = sorted(random.choice(train, min(most, len(train)), replace=False).tolist())
        labels = sorted({row.label for row in found.rows})
        planted = set(random.choice(len(train), round(WRONG * len(train)), replace=False).tolist())
        examples, rows = [], []
        for place, i in enumerate(train):
            example, row = dict(found.examples[i]), found.rows[i]
            if place in planted:
                wrong = str(random.choice([label for label in labels if label != row.label]))
                example["label"], row = wrong, replace(row, label=wrong)
            examples.append(example)
            rows.append(row)
        found = replace(found, splits=["train"] * len(train), examples=examples, rows=rows)
        quiet = ("trainer.evaluations=0", "trainer.health=off", "trainer.checkpoint_seconds=1e9")
        order = Order(
            task=found.task.name, data=name, budget=Budget(steps=steps), preset="tiny", settings=quiet, seed=seed
        )
        began = time.monotonic()
        labels, p_NK = unseen_probabilities(catalog(), found, order, FOLDS, context)
        took = time.monotonic() - began
        given_N = np.array([labels.index(row.label) for row in rows])
        orders = {rank: np.argsort(key(p_NK, given_N), kind="stable") for rank, key in RANKS.items()}
        orders["by chance"] = random.permutation(len(rows))
        first = round(LOOKED_AT * len(rows))
        shares = {rank: len(planted & set(order[:first].tolist())) / len(planted) for rank, order in orders.items()}
        print(
            f"seed {seed}: {len(planted)} planted in {len(rows)}; in the first {first}: "
            + ", ".join(f"{rank} {share:.3f}" for rank, share in shares.items())
            + f"; {took:.0f} s",
            flush=True,
        )
        for rank, share in shares.items():
            met.setdefault(rank, []).append(share)
    for rank, values in met.items():
        print(f"mean of {seeds}: {rank} {statistics.mean(values):.3f} (from {min(values):.3f} to {max(values):.3f})")


if __name__ == "__main__":
    main()
