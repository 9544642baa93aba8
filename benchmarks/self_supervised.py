"""What pictures without labels are worth: pre-training and then few labels, against the same minutes with these alone.

Each seed draws its labelled pictures, the same number of every label, out of the training split; fewer are always among
more. Beside each other, on the same test pictures:

    fine-tuned    the network is pre-trained for MINUTES on all training pictures without labels, then learns from the
                  labelled ones for TUNE minutes by the recipe of `--from`
    from scratch  the same kind of network learns from the labelled pictures for MINUTES + TUNE
    probe         logistic regression on the vectors of the pre-trained network, which stays as it is
    untrained     the same on the network before it learned anything
    pixels        the same on raw pixels

Printed are means over the seeds, and the difference between fine-tuned and from scratch with a 95 % interval: paired by
test picture, each counted once with its mean over the seeds.

Usage: python benchmarks/self_supervised.py [--data digits fashion-mnist] [--minutes 5] [--tune 1] [--labels 10 40 100]
[--seeds 3] [--ways contrastive masked-autoencoding]; consents to fetching the data. A data set takes about
SEEDS x WAYS x (MINUTES + LABELS x (MINUTES + 2 TUNE)) minutes, 2.6 hours as it stands. --steps N learns for N steps
wherever it would for minutes, to see that everything runs.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from sw2.base.seed import numpy_generator
from sw2.catalog import catalog
from sw2.core.capabilities import Classify, Embed
from sw2.core.data import Data, Example
from sw2.core.program import Program
from sw2.core.task import Context
from sw2.core.trainer import Budget
from sw2.domains.vision.pretraining.task import PictureEmbedder, untrained
from sw2.parts.metrics.intervals import paired_bootstrap
from sw2.parts.prep.pictures import read_picture
from sw2.verbs.train import Order, fit

QUIET = ("trainer.evaluations=0", "trainer.health=off", "trainer.checkpoint_seconds=1e9")
NETWORKS = {"contrastive": "resnet", "masked-autoencoding": "vit"}


def few(train: Sequence[Example], number: int, seed: int) -> list[Example]:
    """`number` examples of each label, those of a smaller number among them."""
    by_label: defaultdict[str, list[Example]] = defaultdict(list)
    for i in numpy_generator(seed, "labelled").permutation(len(train)):
        by_label[train[i]["label"]].append(train[i])
    return [example for label in sorted(by_label) for example in by_label[label][:number]]


def probed(known: np.ndarray, labels: Sequence[str], asked: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Which test pictures logistic regression on vectors tells right."""
    mean, deviation = known.mean(0), np.maximum(known.std(0), 1e-6)
    model = LogisticRegression(max_iter=200)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit((known - mean) / deviation, labels)
    right: np.ndarray = model.predict((asked - mean) / deviation) == wanted
    return right


def pixels(examples: Sequence[Example]) -> np.ndarray:
    """Raw grey values, [N, D]; the named sets have pictures of one size."""
    return np.stack([read_picture(example["image"], 1).ravel() for example in examples]) / 255.0


def right(program: Program, test: Sequence[Example]) -> np.ndarray:
    """Which test pictures a classifier tells right."""
    classifier = program.capability(Classify)  # type: ignore[type-abstract]
    told = classifier.classify([example["image"] for example in test]).probabilities.argmax(1)
    return np.array([classifier.labels[t] == example["label"] for t, example in zip(told, test, strict=True)])


def one_seed(name: str, way: str, seed: int, options: argparse.Namespace) -> dict[tuple[str, int], np.ndarray]:
    """For each method and number of labels, which test pictures are told right."""
    context = Context(seed=seed, confirm=lambda question: True)
    task = catalog().task("image-classification")
    data = task.read(name, task.Options(), context)
    train, test = data.split("train"), data.split("test")
    bare = [{key: value for key, value in example.items() if key != "label"} for example in train]
    wanted = np.array([example["label"] for example in test])
    images = [example["image"] for example in test]

    def learned(asked: str, given: Data, minutes: float, folder: Path, **order: str | None) -> Program:
        budget = Budget(steps=options.steps) if options.steps else Budget(minutes=minutes)
        wish = Order(task=asked, data=name, budget=budget, settings=QUIET, seed=seed, **order)  # type: ignore[arg-type]
        return fit(catalog(), wish, given, folder, context).program

    found: dict[tuple[str, int], np.ndarray] = {}
    with tempfile.TemporaryDirectory() as root:
        at = Path(root)
        unlabelled = replace(data, splits={"train": bare})
        before = learned("image-feature-extraction", unlabelled, options.minutes, at / "pre", objective=way)
        before.save(at / "program")
        embedder = before.capability(Embed)  # type: ignore[type-abstract]
        assert isinstance(embedder, PictureEmbedder)
        fresh = PictureEmbedder({"encoder": untrained(embedder.net, seed)}, embedder.prep, {})
        seen = {"probe": embedder.embed(images), "untrained": fresh.embed(images), "pixels": pixels(test)}
        for number in options.labels:
            some = few(train, number, seed)
            labels = [example["label"] for example in some]
            shown = [example["image"] for example in some]
            known = {"probe": embedder.embed(shown), "untrained": fresh.embed(shown), "pixels": pixels(some)}
            for method, vectors in known.items():
                found[method, number] = probed(vectors, labels, seen[method], wanted)
            given = replace(data, splits={"train": some})
            tuned = learned(
                "image-classification", given, options.tune, at / f"tuned{number}", parent=str(at / "program")
            )
            found["fine-tuned", number] = right(tuned, test)
            whole = options.minutes + options.tune
            scratch = learned("image-classification", given, whole, at / f"scratch{number}", model=NETWORKS[way])
            found["from scratch", number] = right(scratch, test)
            told = {method: f"{found[method, number].mean():.4f}" for method in METHODS}
            print(f"{name}, {way}, seed {seed}, {number} of each label: {told}", flush=True)
    return found


METHODS = ("fine-tuned", "from scratch", "probe", "untrained", "pixels")


def main() -> None:
    """Print a line for each seed and number of labels, and a table for each data set and way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=["digits", "fashion-mnist"])
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--tune", type=float, default=1.0)
    parser.add_argument("--labels", type=int, nargs="+", default=[10, 40, 100])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--ways", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--steps", type=int, default=0)
    options = parser.parse_args()
    for name in options.data:
        for way in options.ways:
            runs = [one_seed(name, way, seed, options) for seed in range(options.seeds)]
            print(f"\n{name}, {way}, {NETWORKS[way]}, mean of {options.seeds} seeds, chance about 0.1")
            print(f"labels  {'  '.join(f'{method:>12}' for method in METHODS)}  fine-tuned - from scratch")
            for number in options.labels:
                mean = {method: np.mean([run[method, number] for run in runs], 0) for method in METHODS}
                gain = paired_bootstrap(mean["from scratch"], mean["fine-tuned"], seed=0)
                row = "  ".join(f"{mean[method].mean():12.4f}" for method in METHODS)
                print(f"{number:6}  {row}  {gain.value:+.4f} ({gain.low:+.4f} to {gain.high:+.4f})")
            print(flush=True)


if __name__ == "__main__":
    main()
