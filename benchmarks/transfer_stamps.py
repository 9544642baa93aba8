"""Transfer on Tux Paint's stamps: from ImageNet's weights, from scratch, and the same features under scikit-learn.

Eleven kinds of things, each of at least 30 pictures (`sw2.domains.vision.stamps`). A split draws 15 labels a kind;
whatever is not of a family of these is judged on. Beside each other, on the same splits:

    transfer        sw2 train image-classification FOLDER --from efficientnet-lite0
    from scratch    the same without --from: the network and the settings that sw2 takes by itself
    regression      scikit-learn's logistic regression on the 1,280 features of the same weights, at its usual penalty
    regression, z   the same, each feature brought to mean 0 and deviation 1 over the 165 pictures first

Bars, over ten splits: transfer at least 15 points above from scratch, and at least the better regression, paired.

Usage: python benchmarks/transfer_stamps.py ROWS.jsonl [--splits 10] [--steps 120] [--scratch-steps 600] [--labels 15];
consents to fetching data and weights. A row is appended for each way of each split, and those that are there are not
made again, so that it may be stopped at any time; the table is of all rows. One thread; a split takes some six
minutes.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from sw2.catalog import catalog
from sw2.core.capabilities import Classified, Classify
from sw2.core.data import Data, Example
from sw2.core.task import Context
from sw2.core.trainer import Budget
from sw2.domains.vision.claims.transfer import drawn
from sw2.domains.vision.data import stamp_kinds
from sw2.parts.metrics.intervals import student
from sw2.verbs.train import Order, fit

QUIET = ("trainer.evaluations=0", "trainer.health=off", "trainer.checkpoint_seconds=1e9")
START = "efficientnet-lite0"
BARS = {"from scratch": 0.15, "regression": 0.0, "regression, z": 0.0}

Way = Callable[[list[Example], list[Example], int], np.ndarray]  # pictures known and asked, seed: which are told right


def asked(classifier: Classify, examples: Sequence[Example]) -> Iterator[Classified]:
    """What a classifier says of pictures, few at a time: maps of 224 x 224 take room."""
    for start in range(0, len(examples), 32):
        yield classifier.classify([example["image"] for example in examples[start : start + 32]])


def learned(data: Data, steps: int, parent: str | None, context: Context) -> Way:
    """A way that is a training: which held-out pictures it tells right."""

    def right(some: list[Example], held: list[Example], seed: int) -> np.ndarray:
        order = Order(
            task="image-classification",
            data=data.name,
            budget=Budget(steps=steps),
            parent=parent,
            settings=QUIET,
            seed=seed,
        )
        given = Data(
            name=data.name,
            splits={"train": some},
            fingerprint=f"{data.fingerprint}-{seed}-{len(some)}",
            facts=data.facts,
        )
        with tempfile.TemporaryDirectory() as folder:
            program = fit(catalog(), order, given, Path(folder) / "run", context).program
        classifier = program.capability(Classify)  # type: ignore[type-abstract]
        told = np.concatenate([each.probabilities.argmax(1) for each in asked(classifier, held)])
        return np.array([classifier.labels[t] == example["label"] for t, example in zip(told, held, strict=True)])

    return right


def regressed(features: dict[str, np.ndarray], scaled: bool) -> Way:
    """A way that is a regression on features by name of the picture."""

    def right(some: list[Example], held: list[Example], seed: int) -> np.ndarray:
        known, shown = (np.stack([features[example["name"]] for example in part]) for part in (some, held))
        if scaled:
            mean, deviation = known.mean(0), np.maximum(known.std(0), 1e-6)
            known, shown = (known - mean) / deviation, (shown - mean) / deviation
        model = LogisticRegression(max_iter=2000)
        model.fit(known, [example["label"] for example in some])
        told: np.ndarray = model.predict(shown) == np.array([example["label"] for example in held])
        return told

    return right


def table(rows: Sequence[dict[str, Any]]) -> None:
    """Print the mean of each way and what transfer is above it."""
    score = {(row["way"], row["split"]): row["accuracy"] for row in rows}
    taken = {(row["way"], row["split"]): row["seconds"] for row in rows}
    for way in ("transfer", *BARS):
        splits = sorted(split for name, split in score if name == way and ("transfer", split) in score)
        if not splits:
            continue
        values, seconds = [score[way, split] for split in splits], [taken[way, split] for split in splits]
        line = f"{way:<14} {np.mean(values):.4f} ({min(values):.4f} to {max(values):.4f}), {len(splits)} splits, "
        line += f"median of {np.median(seconds):.1f} s"
        if way in BARS and len(splits) > 1:
            above = student([score["transfer", split] - score[way, split] for split in splits])
            line += f"; transfer {above.value:+.4f} ({above.low:+.4f} to {above.high:+.4f}), wanted {BARS[way]:+.2f}"
        print(line)


def main() -> None:
    """Make the rows that are not there yet, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("rows", type=Path)
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--scratch-steps", type=int, default=600)
    parser.add_argument("--labels", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(1)
    wish = {"labels": options.labels, "steps": options.steps, "scratch_steps": options.scratch_steps}
    rows = [json.loads(line) for line in options.rows.read_text().splitlines()] if options.rows.exists() else []
    if any({key: row[key] for key in wish} != wish for row in rows):
        parser.error(f"{options.rows} has rows of other settings; name a new file")
    done = {(row["way"], row["split"]) for row in rows}

    context = Context(confirm=lambda question: True)
    data = stamp_kinds(context.confirm)
    examples = data.split("train")
    eye = catalog().weights(START, context).capability(Classify)  # type: ignore[type-abstract]
    rows_ND = np.concatenate([each.features for each in asked(eye, examples)])
    features = {example["name"]: row for example, row in zip(examples, rows_ND, strict=True)}
    ways: dict[str, Way] = {
        "regression": regressed(features, scaled=False),
        "regression, z": regressed(features, scaled=True),
        "transfer": learned(data, options.steps, START, context),
        "from scratch": learned(data, options.scratch_steps, None, context),
    }
    for split in range(options.splits):
        some, held = drawn(examples, options.labels, split)
        for way, right in ways.items():
            if (way, split) in done:
                continue
            began = time.perf_counter()
            told = right(some, held, split)
            row = {"way": way, "split": split, **wish, "held": len(held), "accuracy": float(told.mean())}
            rows.append({**row, "seconds": round(time.perf_counter() - began, 1)})
            with options.rows.open("a") as file:
                file.write(json.dumps(rows[-1]) + "\n")
            print(f"split {split}, {way}: {told.mean():.4f} of {len(held)}, {rows[-1]['seconds']} s", flush=True)
    table(rows)


if __name__ == "__main__":
    main()
